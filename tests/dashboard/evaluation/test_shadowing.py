"""Two models on the same posts: agreement, shift, latency, by topic."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dashboard.evaluation.shadowing import NothingShared, compare
from deploy.shadow_words import lines
from inference_worker.contract import Prediction, most_likely

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
GOOD, PLAIN, BAD = (0.8, 0.1, 0.1), (0.1, 0.8, 0.1), (0.1, 0.1, 0.8)


def said(number: int, probabilities: tuple[float, float, float], **changes: object) -> Prediction:
    fields = {
        "id": f"x:{number}",
        "source": "x",
        "created_at": NOON,
        "ingested_at": NOON,
        "scored_at": NOON + timedelta(milliseconds=50),
        "predicted": most_likely(probabilities),
        "probabilities": probabilities,
        "confidence": max(probabilities),
        "model": "m 1",
        "computed_ms": 10,
        "topics": ("tea",) if number % 2 else ("tea", "rain"),
    }
    return Prediction(**(fields | changes))


LIVE = [said(0, GOOD), said(1, GOOD), said(2, PLAIN), said(3, BAD), said(9, BAD)]
SHADOW = [
    said(number, probabilities, model="m 2", computed_ms=30, scored_at=NOON + timedelta(milliseconds=90))
    for number, probabilities in enumerate((GOOD, PLAIN, PLAIN, GOOD))
]


def test_posts_are_matched_and_told_apart_by_class_and_topic() -> None:
    found = compare(LIVE, [*SHADOW, said(7, BAD)])
    assert (found.shared, found.only_live, found.only_shadow) == (4, 1, 1)
    assert found.table == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    whole = found.agreement
    assert (whole.posts, whole.agreeing.value) == (4, 0.5)
    assert (whole.live, whole.shadow) == ([0.5, 0.25, 0.25], [0.5, 0.5, 0.0])
    assert whole.net_difference.value == pytest.approx((0 - 0.7 + 0 + 1.4) / 4)
    assert whole.net_difference.low < whole.net_difference.value < whole.net_difference.high
    assert [(one.topic, one.posts, one.agreeing.value) for one in found.topics] == [("tea", 4, 0.5), ("rain", 2, 1.0)]
    assert (found.live.models, found.shadow.models) == (["m 1"], ["m 2"])
    assert (found.live.engine_ms, found.shadow.engine_ms) == ([10, 10, 10], [30, 30, 30])
    assert (found.live.latency_ms, found.shadow.latency_ms) == ([50, 50, 50], [90, 90, 90])
    assert found.live.accuracy.value is None


def test_another_revision_is_another_post_and_labels_make_an_accuracy() -> None:
    live = [said(0, GOOD, label="positive"), said(1, GOOD, correction="negative"), said(2, GOOD)]
    shadow = [said(0, GOOD, label="positive"), said(1, BAD, label="negative"), said(2, GOOD, revision=2)]
    found = compare(live, shadow)
    assert (found.shared, found.only_live, found.only_shadow) == (2, 1, 1)
    assert (found.live.accuracy.value, found.shadow.accuracy.value) == (0.5, 1.0)
    assert found.agreement.agreeing.value == 0.5  # of the models, whatever people said of it


def test_without_a_shared_post_there_is_nothing_to_compare() -> None:
    with pytest.raises(NothingShared, match="of 5 live posts and 1 of the shadow none is the same"):
        compare(LIVE, [said(8, GOOD)])


def test_the_figures_are_told_in_lines() -> None:
    hostile = said(4, GOOD, topics=("\x1b[31mred",))
    told = "\n".join(lines(compare([*LIVE, hostile], [*SHADOW, hostile])))
    assert "They agree on 60.0\N{NO-BREAK SPACE}%" in told
    assert "5 posts that both scored; 1 post only the live side has, 0 only the shadow" in told
    assert "10 / 10 / 10 ms" in told and "30 / 30 / 26 ms" not in told
    assert "\x1b" not in told and "\\x1b[31mred" in told
    assert "tea" in told and "rain" in told
