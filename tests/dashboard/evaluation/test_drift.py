from __future__ import annotations

import random
from pathlib import Path
from typing import Final

import pytest

from dashboard.evaluation.drift import drift
from dashboard.evaluation.judgement import DriftFlag
from inference_worker.contract import Prediction
from tests.dashboard.evaluation.changes import BEFORE, Change, Scored, changed_feed, scored_tweets
from tests.dashboard.evaluation.feeds import feed_of, prediction, random_predictions

SEEDS: Final = range(10)
NOTICED_WITHIN: Final = 500


def flags(folder: Path, rows: list[Prediction]) -> list[DriftFlag]:
    return drift(feed_of(folder, rows)).flags


def test_a_stationary_feed_raises_at_most_one_false_alarm_in_ten(tmp_path: Path) -> None:
    found = [flag for seed in SEEDS for flag in flags(tmp_path, random_predictions(2_000, seed=seed))]
    assert len(found) <= 1


def test_a_switch_of_domain_is_noticed_by_the_embeddings(tmp_path: Path) -> None:
    rows = random_predictions(2_000) + random_predictions(500, seed=1, direction=9, first=2_000)
    found = {flag.signal: flag for flag in flags(tmp_path, rows)}
    likeness, distance = found["likeness to the first posts"], found["distance from the first posts"]
    for flag in (likeness, distance):
        assert 2_000 <= flag.row < 2_100
        assert flag.since_row == pytest.approx(2_000, abs=10)
    assert likeness.before > likeness.after + 0.1
    assert distance.before == pytest.approx(0.5, abs=0.05) and distance.after > 0.6


def test_a_shift_of_classes_is_noticed(tmp_path: Path) -> None:
    generator = random.Random(2)
    mixes = [("negative", "negative", "negative", "neutral", "positive"), ("positive", "positive", "neutral")]
    rows = [prediction(number, generator.choice(mixes[number >= 1_000])) for number in range(1_400)]
    found = flags(tmp_path, rows)
    assert {flag.signal for flag in found} >= {"negative", "positive"}
    assert 1_000 <= found[0].row < 1_200


def test_errors_are_noticed_when_their_labels_arrive(tmp_path: Path) -> None:
    rows = [prediction(number, "positive", "positive" if number < 600 else "negative") for number in range(1_200)]
    feed = feed_of(tmp_path, rows)
    at_once, late = (drift(feed, label_delay_ms=delay * 60_000).flags[0] for delay in (0, 100))
    assert (at_once.signal, late.signal) == ("error", "error")
    assert 600 <= at_once.row < 700
    assert late.row == at_once.row + 100
    assert (at_once.before, at_once.after) == (0.0, 1.0)


def test_signals_are_thinned_and_those_without_embeddings_left_out(tmp_path: Path) -> None:
    found = drift(feed_of(tmp_path, [prediction(number, label="positive") for number in range(700)]))
    assert [signal.name for signal in found.signals] == [
        *("confidence", "abstained", "positive", "neutral", "negative", "error")
    ]
    assert [signal.needs_labels for signal in found.signals] == [False] * 5 + [True]
    points = found.signals[0].points
    assert len(points) == 300
    assert (points[-1].rows, points[-1].value) == (700, pytest.approx(0.6))


def test_nothing_is_watched_in_an_empty_feed(tmp_path: Path) -> None:
    found = drift(feed_of(tmp_path, []))
    assert found.flags == []
    assert all(signal.points == [] for signal in found.signals)


@pytest.fixture(scope="module")
def scored(feeds: Path, data: Path) -> Scored:
    return scored_tweets(feeds, data)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("change", ["labels", "boston", "semeval"])
def test_a_change_amid_real_tweets_is_noticed_in_time(scored: Scored, change: Change, tmp_path: Path) -> None:
    for seed in SEEDS:
        rows = [flag.row for flag in flags(tmp_path, changed_feed(scored, change, seed=seed))]
        assert rows, f"seed {seed}: nothing noticed"
        assert BEFORE <= rows[0] < BEFORE + NOTICED_WITHIN, f"seed {seed}"


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_shuffled_real_tweets_raise_at_most_one_false_alarm_in_ten(scored: Scored, tmp_path: Path) -> None:
    found = [flag for seed in SEEDS for flag in flags(tmp_path, changed_feed(scored, "none", seed=seed))]
    assert len(found) <= 1
