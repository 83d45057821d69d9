"""The rules as shipped, on feeds of which it is known what happened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dashboard.alerts.evaluation import FIRST_PASS
from tests.dashboard.alerts.conftest import MakeWatch, run_out
from tests.dashboard.alerts.feeds import BOSTON, boston, looped, sample, shuffled, steady
from tests.dashboard.seeding import Seed

BLAST = datetime(2013, 4, 15, 18, 49, tzinfo=UTC)


@pytest.mark.data
@pytest.mark.timeout(120)
def test_the_bombing_is_noticed_within_forty_minutes_and_nothing_before(
    seed: Seed, make_watch: MakeWatch, feeds: Path
) -> None:
    seed(boston(feeds), "run", kind="replay")
    alerts = run_out(make_watch())
    first = alerts[0]
    assert (first.rule, first.topic, first.direction) == ("Volume spike", BOSTON, "up")
    assert BLAST <= first.opened_at <= datetime(2013, 4, 15, 19, 30, tzinfo=UTC)
    assert "No data yet for same hour yesterday and same hour last week" in first.sentence
    assert len(first.examples) == 3


@pytest.mark.data
@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_shuffled_times_raise_at_most_one_alarm_a_simulated_day(
    number: int, seed: Seed, make_watch: MakeWatch, feeds: Path
) -> None:
    posts = shuffled(boston(feeds), number)
    seed(posts, "run", kind="replay")
    days = (posts[-1].created_at - posts[0].created_at).total_seconds() / 86_400
    assert len(run_out(make_watch())) <= days


@pytest.mark.timeout(120)
def test_the_swing_of_the_sample_feed_is_found(seed: Seed, make_watch: MakeWatch) -> None:
    seed(sample(), "run", kind="replay")
    alerts = run_out(make_watch())
    assert [(alert.rule, alert.topic, alert.direction) for alert in alerts] == [
        ("Sentiment shift", "Line 9 tram", "down")
    ]
    assert datetime(2026, 11, 3, 7, 52, tzinfo=UTC) <= alerts[0].opened_at <= datetime(2026, 11, 3, 8, 46, tzinfo=UTC)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("second", [0, 20, 40, 50])
def test_the_swing_of_the_looped_sample_feed_is_found_in_its_first_pass_alone(
    second: int, seed: Seed, make_watch: MakeWatch
) -> None:
    minute = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(hours=1)
    seed(looped(sample(), minute + timedelta(seconds=second), 6), "run", kind="sample")
    watch = make_watch()
    assert run_out(watch) == []  # the first pass may still be on its way
    watch.now = lambda: datetime.now(UTC) + FIRST_PASS
    alerts = run_out(watch)
    assert [(alert.rule, alert.topic, alert.direction, alert.opened_at) for alert in alerts] == [
        ("Sudden mood swing", "Line 9 tram", "down", minute + timedelta(minutes=6))
    ]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("per_minute", [12, 18])
def test_a_busy_feed_at_rest_raises_no_alarm_in_two_days(per_minute: int, seed: Seed, make_watch: MakeWatch) -> None:
    seed(steady(2 * 1440, per_minute, seed=per_minute), "run", kind="replay")
    assert run_out(make_watch()) == []
