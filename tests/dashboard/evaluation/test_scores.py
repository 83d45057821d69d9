from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support, recall_score

from dashboard.evaluation.scores import answered, confusion, figures, proportion, scores
from inference_worker.contract import LABELS
from tests.dashboard.evaluation.feeds import feed_of, prediction

PAIRS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40)


@given(pairs=PAIRS)
@settings(max_examples=25, deadline=None)
def test_scores_equal_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    labels, predicted = np.array(pairs).T
    found = scores(confusion(labels, predicted))
    occurring = sorted(set(labels) | set(predicted))
    assert found.confusion == confusion_matrix(labels, predicted, labels=range(3)).tolist()
    assert found.accuracy.value == pytest.approx(accuracy_score(labels, predicted))
    for average, estimate in (("macro", found.macro_f1), ("weighted", found.weighted_f1)):
        expected = f1_score(labels, predicted, labels=occurring, average=average, zero_division=0)
        assert estimate.value == pytest.approx(expected)
    assert found.macro_recall == pytest.approx(
        recall_score(labels, predicted, labels=sorted(set(labels)), average="macro", zero_division=0)
    )
    by_class = zip(
        *precision_recall_fscore_support(labels, predicted, labels=range(3), zero_division=np.nan), strict=True
    )
    for label, (precision, recall, f1, support) in zip(LABELS, by_class, strict=True):
        one = found.per_class[label]
        assert one.support == support
        for mine, theirs in ((one.precision, precision), (one.recall, recall), (one.f1, f1)):
            assert mine is None if np.isnan(theirs) else mine == pytest.approx(theirs)


def test_figures_of_many_matrices_are_those_of_each() -> None:
    matrices = np.random.default_rng(0).integers(0, 9, size=(5, 3, 3))
    together = figures(matrices)
    for index, matrix in enumerate(matrices):
        assert together.macro_f1[index] == figures(matrix).macro_f1


def test_interval_of_accuracy_is_that_of_a_bootstrap_of_rows() -> None:
    generator = np.random.default_rng(3)
    labels, predicted = generator.integers(0, 3, 400), generator.integers(0, 3, 400)
    found = scores(confusion(labels, predicted)).accuracy
    rows = bootstrap(((labels == predicted).astype(float),), np.mean, method="percentile", rng=4).confidence_interval
    assert (found.low, found.high) == pytest.approx((rows.low, rows.high), abs=0.006)


def test_macro_f1_leaves_out_classes_that_never_occur() -> None:
    found = scores(confusion(np.array([0, 2]), np.array([0, 2])))
    assert found.macro_f1.value == 1.0
    assert found.per_class["neutral"].f1 is None


def test_scores_of_nothing_are_unknown() -> None:
    found = scores(confusion(np.array([-1]), np.array([0])))
    assert (found.rows, found.accuracy.value, found.macro_f1.value, found.macro_recall) == (0, None, None, None)


def test_abstention_splits_coverage_from_accuracy(tmp_path: Path) -> None:
    rows = [
        prediction(1, "positive", "positive"),
        prediction(2, "negative", "positive", abstained=True),
        prediction(3, "negative"),
    ]
    found = answered(feed_of(tmp_path, rows))
    assert (found.rows, found.coverage, found.accuracy.value) == (1, 0.5, 1.0)


def test_answered_of_a_model_that_always_abstains_knows_no_accuracy(tmp_path: Path) -> None:
    found = answered(feed_of(tmp_path, [prediction(1, "positive", "positive", abstained=True)]))
    assert (found.rows, found.coverage, found.accuracy.value, found.macro_f1) == (0, 0.0, None, None)


def test_a_proportion_has_its_wilson_interval() -> None:
    found = proportion(8, 10)
    assert (found.value, found.low, found.high) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)
    assert proportion(0, 0).value is None


def test_a_few_posts_that_are_all_right_are_not_called_certain() -> None:
    accuracy = scores(np.diag([1, 1, 1])).accuracy
    assert (accuracy.value, accuracy.low, accuracy.high) == pytest.approx((1.0, 0.4385, 1.0), abs=1e-4)
