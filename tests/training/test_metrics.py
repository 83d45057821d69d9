import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the train extra is not installed (scikit-learn)")

from training.calibrate import calibrate, choose_prior_correction, fit_temperature  # noqa: E402
from training.metrics import (  # noqa: E402
    classification_report,
    coverage_at_accuracy,
    expected_calibration_error,
    softmax,
)

pytestmark = pytest.mark.train


def one_hot(predicted: list[int]) -> np.ndarray:
    return np.eye(3)[predicted]


def test_report_counts_every_class_once_in_macro_measures() -> None:
    labels = np.array([0, 0, 0, 0, 1, 2])
    report = classification_report(labels, one_hot([0, 0, 0, 1, 1, 0]))
    assert report["accuracy"] == pytest.approx(4 / 6)
    assert report["macro_recall"] == pytest.approx((3 / 4 + 1 + 0) / 3)
    assert report["macro_f1"] == pytest.approx((3 / 4 + 2 / 3 + 0) / 3)
    assert report["weighted_f1"] == pytest.approx((4 * 3 / 4 + 2 / 3 + 0) / 6)
    assert report["predicted_classes"] == 2


def test_ece_of_certain_and_always_wrong_is_one() -> None:
    assert expected_calibration_error(np.array([1, 1]), one_hot([0, 0])) == pytest.approx(1.0)


def test_ece_of_matching_confidence_is_zero() -> None:
    probabilities = np.tile([0.75, 0.15, 0.10], (4, 1))
    assert expected_calibration_error(np.array([0, 0, 0, 1]), probabilities, bins=1) == pytest.approx(0.0)


def test_coverage_keeps_the_longest_prefix_that_reaches_the_target() -> None:
    probabilities = np.array([[0.9, 0.1, 0], [0.8, 0.2, 0], [0.7, 0.3, 0], [0.6, 0.4, 0]])
    assert coverage_at_accuracy(np.array([0, 0, 1, 1]), probabilities, 2 / 3) == (0.7, 0.75)
    assert coverage_at_accuracy(np.array([1, 1, 1, 1]), probabilities, 0.5) == (1.0, 0.0)


def test_temperature_of_overconfident_logits_is_found() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(20_000, 3)) * 2
    labels = np.array([generator.choice(3, p=p) for p in softmax(logits)])
    assert fit_temperature(labels, logits * 3) == pytest.approx(3.0, rel=0.05)


def test_calibration_reaches_its_target_on_the_rows_it_keeps() -> None:
    generator = np.random.default_rng(1)
    logits = generator.normal(size=(5_000, 3)) * 2
    labels = np.array([generator.choice(3, p=p) for p in softmax(logits)])
    fitted = calibrate(labels, logits, target_accuracy=0.8)
    probabilities = softmax(logits, fitted.temperature)
    kept = probabilities.max(-1) >= fitted.abstain_below
    assert (probabilities.argmax(-1) == labels)[kept].mean() >= 0.8
    assert kept.mean() == pytest.approx(fitted.coverage)


def test_prior_correction_helps_the_class_that_training_saw_least() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 300)
    shares = np.array([0.6, 0.35, 0.05])
    logits = 1.5 * np.eye(3)[labels] + generator.normal(size=(900, 3)) + np.log(shares)
    strength = choose_prior_correction(labels, logits, shares)
    assert strength >= 0.7
    assert choose_prior_correction(labels, logits - np.log(shares), shares) <= 0.3
