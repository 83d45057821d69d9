from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import metrics, stream, utils

from dashboard.evaluation.prequential import arrived, bag_of_words, curve, majority_so_far
from tests.dashboard.evaluation.feeds import NOON, feed_of, prediction, random_predictions


def test_a_label_without_delay_arrives_before_the_next_row() -> None:
    assert arrived(np.array([5, 5, 9]), 0).tolist() == [0, 1, 2]


@given(times=st.lists(st.integers(0, 30), min_size=1, max_size=30), delay=st.integers(1, 20))
@settings(max_examples=50, deadline=None)
def test_labels_arrive_when_river_says(times: list[int], delay: int) -> None:
    times = sorted(times)
    known, expected = 0, []
    rows = (({"at": at}, 0) for at in times)
    for _, _, label in stream.simulate_qa(rows, moment="at", delay=delay):
        if label is None:
            expected.append(known)
        else:
            known += 1
    assert arrived(np.array(times), delay).tolist() == expected


def test_majority_knows_only_labels_that_have_arrived() -> None:
    labels = np.array([2, 2, 0, 0, 0])
    assert majority_so_far(labels, np.array([0, 1, 2, 3, 4])).tolist() == [1, 2, 2, 2, 0]
    assert majority_so_far(labels, np.array([0, 0, 0, 1, 1])).tolist() == [1, 1, 1, 2, 2]


def test_bag_of_words_learns_from_labels_that_have_arrived() -> None:
    texts = ["awful late train", "lovely quick train"] * 10
    labels = np.array([2, 0] * 10)
    learning = bag_of_words(texts, labels, np.arange(20))
    assert learning[-4:].tolist() == [2, 0, 2, 0]
    assert bag_of_words(texts, labels, np.zeros(20, dtype=int)).tolist() == [1] * 20


def test_bag_of_words_never_sees_the_label_of_the_row_it_predicts() -> None:
    texts = [f"nothing{number} shared{number}" for number in range(40)]
    labels = np.random.default_rng(0).integers(0, 3, 40)
    flipped = labels.copy()
    flipped[-1] = (flipped[-1] + 1) % 3
    assert np.array_equal(bag_of_words(texts, labels, np.arange(40)), bag_of_words(texts, flipped, np.arange(40)))


def test_a_curve_is_what_river_says_of_a_sliding_window(tmp_path: Path) -> None:
    feed = feed_of(tmp_path, random_predictions(400))
    found = curve("model", feed, np.arange(400), feed.predicted, 0)
    accuracy, macro_f1 = utils.Rolling(metrics.Accuracy, 100), utils.Rolling(metrics.MacroF1, 100)
    expected = {}
    for row, (label, predicted) in enumerate(zip(feed.labels.tolist(), feed.predicted.tolist(), strict=True), 1):
        accuracy.update(label, predicted)
        macro_f1.update(label, predicted)
        expected[row] = (accuracy.get(), macro_f1.get())
    assert (found.window, found.points[0].rows, found.points[-1].rows) == (100, 100, 400)
    for point in found.points:
        assert (point.accuracy, point.macro_f1) == pytest.approx(expected[point.rows])


def test_a_curve_stands_at_the_time_its_labels_arrive(tmp_path: Path) -> None:
    feed = feed_of(tmp_path, [prediction(number, label="positive") for number in range(3)])
    found = curve("model", feed, np.arange(3), feed.predicted, 3_600_000)
    assert [point.at for point in found.points] == [NOON + timedelta(hours=1, minutes=2)]


def test_a_curve_without_labels_has_no_points(tmp_path: Path) -> None:
    feed = feed_of(tmp_path, [prediction(1)])
    nothing = np.empty(0, dtype=np.int64)
    assert curve("model", feed, nothing, nothing, 0).points == []


def test_a_long_curve_is_thinned(tmp_path: Path) -> None:
    feed = feed_of(tmp_path, random_predictions(2000))
    assert len(curve("model", feed, np.arange(2000), feed.predicted, 0).points) == 300
