"""All that is told of a model on one set of posts: scores with their 95 % intervals, calibration, answering less."""

from typing import Any, Final

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix

from training.calibration_error import calibration_error
from training.metrics import FloatArray, IntArray, accuracy_at_coverage, classification_report, coverage_at_accuracy

GOOD_ACCURACY: Final = 0.9
HALF: Final = 0.5
DRAWS: Final = 2000

Interval = tuple[float, float]


def judged(labels: IntArray, probabilities: FloatArray, *, abstain_below: float | None = None) -> dict[str, Any]:
    """`classification_report` with intervals and all errors of calibration, and what the model is like if it answers
    only when it is sure. abstain_below: adds what is left where it abstains under that confidence."""
    predicted = probabilities.argmax(-1)
    found = classification_report(labels, probabilities) | {
        "majority": float(np.bincount(labels).max() / len(labels)),
        "accuracy_interval": accuracy_interval(labels, predicted),
        "macro_f1_interval": macro_f1_interval(labels, predicted, classes=probabilities.shape[-1]),
        **calibration_error(labels, probabilities)._asdict(),
        "accuracy_at_half_coverage": accuracy_at_coverage(labels, probabilities, HALF),
        "coverage_at_90_accuracy": coverage_at_accuracy(labels, probabilities, GOOD_ACCURACY)[1],
    }
    if abstain_below is not None:
        found["answered"] = _answered(labels, probabilities, abstain_below)
    return found


def _answered(labels: IntArray, probabilities: FloatArray, abstain_below: float) -> dict[str, Any]:
    kept = probabilities.max(-1) >= abstain_below
    if not kept.any():
        return {"rows": 0, "coverage": 0.0, "accuracy": None, "accuracy_interval": None}
    labels, predicted = labels[kept], probabilities.argmax(-1)[kept]
    return {
        "rows": len(labels),
        "coverage": float(kept.mean()),
        "accuracy": float((labels == predicted).mean()),
        "accuracy_interval": accuracy_interval(labels, predicted),
    }


def accuracy_interval(labels: IntArray, predicted: IntArray) -> Interval:
    """Wilson's."""
    return proportion_interval(int((labels == predicted).sum()), len(labels))


def proportion_interval(part: int, whole: int) -> Interval:
    found = binomtest(part, whole).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def macro_f1_interval(labels: IntArray, predicted: IntArray, *, classes: int) -> Interval:
    """Percentile bootstrap of posts, drawn as confusion matrices; a class that is drawn nowhere counts 0."""
    drawn = _confusions(labels, predicted, classes)
    either = drawn.sum(1) + drawn.sum(2)
    return _percentiles(2 * np.diagonal(drawn, axis1=1, axis2=2) / np.maximum(1, either))


def macro_recall_interval(labels: IntArray, predicted: IntArray, *, classes: int) -> Interval:
    """As `macro_f1_interval`."""
    drawn = _confusions(labels, predicted, classes)
    return _percentiles(np.diagonal(drawn, axis1=1, axis2=2) / np.maximum(1, drawn.sum(2)))


def _confusions(labels: IntArray, predicted: IntArray, classes: int) -> IntArray:
    """(DRAWS, C, C), labels in rows."""
    matrix = confusion_matrix(labels, predicted, labels=range(classes))
    draws = np.random.default_rng(0).multinomial(len(labels), matrix.ravel() / len(labels), size=DRAWS)
    return draws.reshape(DRAWS, classes, classes)


def _percentiles(of_classes: FloatArray) -> Interval:
    low, high = np.percentile(of_classes.mean(-1), [2.5, 97.5])
    return float(low), float(high)
