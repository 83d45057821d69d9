"""What was shed counts as volume for alerts, sentences and shares of voice, and in no mood."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dashboard import telling
from dashboard.alerts.baselines import Minutes
from dashboard.alerts.detectors import check
from dashboard.alerts.rules import Rule
from dashboard.reasons import Side, reasons
from inference_worker.contract import Counters
from tests.dashboard.seeding import prediction

START, NOW = 29_000_000, 29_001_000
USUAL = Counters(posts=20, positive=10, negative=10)
SAMPLED = Counters(posts=2, positive=1, negative=1, shed=18)


def fires(kind: str, last_minutes: Counters) -> bool:
    rule = Rule(name="r", kind=kind, windows_min=(10,), min_posts=20)
    buckets = {minute: USUAL for minute in range(START, NOW - 10)}
    buckets |= {minute: last_minutes for minute in range(NOW - 10, NOW + 1)}
    (found,) = check(rule, Minutes(NOW, NOW + 1, START, buckets), NOW, NOW + 1)
    return bool(found.fires[0])


@pytest.mark.parametrize(
    ("kind", "last_minutes", "expected"),
    [
        ("volume", SAMPLED, False),
        ("volume", Counters(posts=2, positive=2, shed=98), True),  # the burst the worker could not keep up with
        ("silent", Counters(), True),
        ("silent", Counters(shed=20), False),
    ],
)
def test_alerts_on_volume_go_by_what_came(kind: str, last_minutes: Counters, expected: bool) -> None:
    assert fires(kind, last_minutes) is expected


def test_the_sentence_on_volume_says_what_share_was_scored() -> None:
    posts = tuple(prediction(number, datetime(2026, 5, 4, tzinfo=UTC)) for number in range(20))
    now, before = Side(posts, Counters(posts=20, positive=20, shed=60)), Side(posts, Counters(posts=20, positive=20))
    assert "80 posts came, 20 before (4.0 times as many); 25 % and 100 % of them were scored." in (
        telling.sentences(reasons(now, before), "tea")
    )
