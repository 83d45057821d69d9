"""The estimators against classifiers whose true error is known, because we made them."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="the train extra is not installed (torch)")

from training.calibration_error import CalibrationError, calibration_error  # noqa: E402
from training.metrics import expected_calibration_error, softmax  # noqa: E402

pytestmark = pytest.mark.train


def posts_of(classifier: float, rows: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from logits, and what a classifier says that multiplies them: 1 is perfectly calibrated."""
    logits = generator.normal(size=(rows, 3)) * 1.5
    uniform = generator.random(rows)[:, None]
    labels = (uniform > softmax(logits).cumsum(-1)).sum(-1).clip(max=2)
    return labels, softmax(logits * classifier)


def mean_of(classifier: float, rows: int, repeats: int = 25) -> CalibrationError:
    generator = np.random.default_rng(0)
    found = [calibration_error(*posts_of(classifier, rows, generator)) for _ in range(repeats)]
    return CalibrationError(*np.mean(found, axis=0))


def true_error(classifier: float) -> float:
    return expected_calibration_error(*posts_of(classifier, 1_000_000, np.random.default_rng(1)))


def test_of_a_perfect_classifier_debiasing_takes_out_most_of_what_few_rows_add() -> None:
    found = mean_of(1.0, 450)
    assert found.ece == pytest.approx(0.061, abs=0.008)
    assert found.ece_debiased < 0.65 * found.ece
    assert found.rms_debiased < 0.4 * found.ece
    assert found.ece_if_perfect == pytest.approx(found.ece, abs=0.006)


def test_few_perfect_classifiers_exceed_the_95th_percentile() -> None:
    generator = np.random.default_rng(2)
    found = [calibration_error(*posts_of(1.0, 450, generator)) for _ in range(120)]
    assert np.mean([one.ece > one.ece_if_perfect_95 for one in found]) == pytest.approx(0.05, abs=0.04)


@pytest.mark.parametrize("classifier", [0.6, 1.5, 2.0])
def test_of_a_classifier_that_is_off_the_estimates_are_what_it_is_off_by(classifier: float) -> None:
    found, truth = mean_of(classifier, 1000), true_error(classifier)
    assert found.ece_debiased == pytest.approx(truth, abs=0.006)
    assert truth - 0.003 < found.rms_debiased < truth + 0.015
    assert found.ece_if_perfect_95 < truth


def test_certain_and_always_wrong_is_off_by_one() -> None:
    found = calibration_error(np.array([1] * 30), np.tile([1.0, 0.0, 0.0], (30, 1)))
    assert found == pytest.approx((1.0, 1.0, 1.0, 0.0, 0.0))


def test_the_ece_is_that_of_the_bench() -> None:
    labels, probabilities = posts_of(1.3, 451, np.random.default_rng(3))
    told = expected_calibration_error(labels, probabilities)
    assert calibration_error(labels, probabilities).ece == pytest.approx(told)


def test_the_same_posts_five_times_over_tell_no_more_than_once() -> None:
    labels, probabilities = posts_of(1.0, 450, np.random.default_rng(4))
    once = calibration_error(labels, probabilities)
    five = [np.tile(labels, 5), np.tile(probabilities, (5, 1))]
    pooled = calibration_error(*five, posts=np.tile(np.arange(450), 5))
    assert pooled.ece == pytest.approx(once.ece, abs=0.01)
    assert pooled.ece_debiased == pytest.approx(once.ece_debiased, abs=0.01)
    assert pooled.ece_if_perfect == pytest.approx(once.ece_if_perfect, abs=0.003)
    assert calibration_error(*five).ece_if_perfect < 0.6 * once.ece_if_perfect
