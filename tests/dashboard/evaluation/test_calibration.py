from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from dashboard.evaluation.calibration import BINS, calibration, risk_coverage


def model(rows: int, *, skew: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """labels, predicted, probabilities; with skew 1 the model is right as often as it says."""
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet([1, 1, 1], rows)
    truth = probabilities**skew
    truth /= truth.sum(axis=1, keepdims=True)
    labels = (generator.random((rows, 1)) > truth.cumsum(axis=1)[:, :2]).sum(axis=1)
    return labels, probabilities.argmax(axis=1), probabilities


def test_ece_is_what_its_definition_says() -> None:
    labels, predicted, probabilities = model(500)
    confidence, is_right = probabilities.max(axis=1), labels == predicted
    expected = 0.0
    for number in range(BINS):
        inside = (confidence > number / BINS) & (confidence <= (number + 1) / BINS)
        if inside.any():
            expected += inside.sum() / 500 * abs(confidence[inside].mean() - is_right[inside].mean())
    assert calibration(labels, predicted, probabilities).ece == pytest.approx(expected)


def test_reliability_bins_are_those_of_scikit_learn() -> None:
    labels, predicted, probabilities = model(500)
    found = [one for one in calibration(labels, predicted, probabilities).bins if one.rows]
    right, sure = calibration_curve(labels == predicted, probabilities.max(axis=1), n_bins=BINS)
    assert [one.accuracy.value for one in found] == pytest.approx(right.tolist())
    assert [one.confidence for one in found] == pytest.approx(sure.tolist())
    assert sum(one.rows for one in found) == 500


def test_debiased_ece_takes_off_what_few_rows_add_and_agrees_with_sampling() -> None:
    labels, predicted, probabilities = model(300)
    confidence, is_right = probabilities.max(axis=1), labels == predicted
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    rows = np.bincount(place, minlength=BINS)
    some = rows > 0
    accuracy = (np.bincount(place, weights=is_right, minlength=BINS)[some]) / rows[some]
    sure = np.bincount(place, weights=confidence, minlength=BINS)[some] / rows[some]
    share = rows[some] / rows.sum()
    plug_in = (share * np.abs(accuracy - sure)).sum()
    drawn = np.random.default_rng(0).normal(
        accuracy, np.sqrt(accuracy * (1 - accuracy) / rows[some]), (20_000, len(sure))
    )
    expected = max(0.0, 2 * plug_in - (share * np.abs(drawn - sure)).sum(axis=1).mean())
    found = calibration(labels, predicted, probabilities)
    assert found.ece_debiased == pytest.approx(expected, abs=1e-3)
    assert found.ece is not None and found.ece_debiased is not None and found.ece_debiased < found.ece


def test_a_perfectly_calibrated_model_shows_the_error_expected_of_one_and_another_does_not() -> None:
    good, bad = calibration(*model(4000)), calibration(*model(4000, skew=0.3))
    assert good.ece_if_perfect.low is not None and good.ece_if_perfect.high is not None
    assert good.ece is not None and good.ece_if_perfect.low <= good.ece <= good.ece_if_perfect.high
    assert bad.ece is not None and bad.ece_if_perfect.high is not None and bad.ece > 5 * bad.ece_if_perfect.high


def test_brier_and_nll_are_what_their_definitions_say() -> None:
    labels, predicted, probabilities = model(200)
    found = calibration(labels, predicted, probabilities)
    truth = np.eye(3)[labels]
    assert found.brier == pytest.approx(((probabilities - truth) ** 2).sum(axis=1).mean())
    assert found.nll == pytest.approx(-np.log(probabilities[np.arange(200), labels]).mean())


def test_adaptive_ece_of_one_confidence_is_its_gap() -> None:
    probabilities = np.tile([0.8, 0.1, 0.1], (10, 1))
    found = calibration(np.array([0] * 5 + [1] * 5), np.zeros(10, dtype=int), probabilities)
    assert (found.ece, found.ece_adaptive) == pytest.approx((0.3, 0.3))


def test_calibration_of_one_class_alone_is_known() -> None:
    found = calibration(np.zeros(3, dtype=int), np.zeros(3, dtype=int), np.tile([0.9, 0.05, 0.05], (3, 1)))
    assert found.ece == pytest.approx(0.1)
    assert found.brier == pytest.approx(0.01 + 2 * 0.0025)


def test_calibration_of_nothing_is_unknown() -> None:
    nothing = np.empty(0, dtype=int)
    found = calibration(nothing, nothing, np.empty((0, 3)))
    assert (found.rows, found.ece, found.brier, found.ece_if_perfect.value, len(found.bins)) == (
        0,
        None,
        None,
        None,
        15,
    )


def test_risk_coverage_by_hand() -> None:
    found = risk_coverage(np.array([0.6, 0.9, 0.8, 0.7]), np.array([False, True, True, True]))
    assert [(point.coverage, point.accuracy) for point in found.points] == [(0.25, 1), (0.5, 1), (0.75, 1), (1, 0.75)]
    assert [point.threshold for point in found.points] == pytest.approx([0.9, 0.8, 0.7, 0.6])
    assert found.aurc == found.aurc_best == pytest.approx(0.25 / 4)
    assert found.coverage_at_90 == 0.75


def test_posts_of_equal_confidence_are_answered_together() -> None:
    found = risk_coverage(np.array([0.5, 0.5]), np.array([True, False]))
    assert [(point.coverage, point.accuracy) for point in found.points] == [(1.0, 0.5)]
    assert found.aurc == 0.5
    assert found.aurc_best == 0.25
    assert found.coverage_at_90 is None


def test_risk_coverage_of_nothing_is_unknown() -> None:
    found = risk_coverage(np.empty(0), np.empty(0, dtype=bool))
    assert (found.points, found.aurc, found.coverage_at_90) == ([], None, None)
