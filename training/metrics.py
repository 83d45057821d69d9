"""Measures of a classifier: pure functions of labels and probabilities, all fractions in 0..1."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, recall_score

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.floating[Any]]


def softmax(logits: FloatArray, temperature: float = 1.0) -> FloatArray:
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    probabilities: FloatArray = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probabilities


def expected_calibration_error(labels: IntArray, probabilities: FloatArray, *, bins: int = 15) -> float:
    """Mean |accuracy - confidence| over equal-mass bins of confidence, weighted by bin size."""
    confidence = probabilities.max(-1)
    is_right = probabilities.argmax(-1) == labels
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    gaps = [abs(is_right[part].mean() - confidence[part].mean()) * len(part) for part in parts]
    return float(sum(gaps) / len(labels))


def risk_coverage(labels: IntArray, probabilities: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(confidence, accuracy), (N,) each, from the surest post on: at i, of the i + 1 posts that are as sure or surer.

    Selective prediction (Geifman and El-Yaniv, NeurIPS 2017); the risk is 1 - accuracy.
    """
    confidence = probabilities.max(-1)
    order = np.argsort(-confidence, kind="stable")
    is_right = (probabilities.argmax(-1) == labels)[order]
    return confidence[order], np.cumsum(is_right) / np.arange(1, len(labels) + 1)


def coverage_at_accuracy(labels: IntArray, probabilities: FloatArray, target: float) -> tuple[float, float]:
    """(threshold, coverage): the lowest confidence above which at least `target` of the posts are right.

    Returns (1.0, 0.0) when no threshold reaches the target.
    """
    confidence, accuracy = risk_coverage(labels, probabilities)
    reached = np.flatnonzero(accuracy >= target)
    if not len(reached):
        return 1.0, 0.0
    last = int(reached[-1])
    return float(confidence[last]), (last + 1) / len(labels)


def accuracy_at_coverage(labels: IntArray, probabilities: FloatArray, coverage: float) -> float:
    """Of the surest posts, that share of all (at least one)."""
    _, accuracy = risk_coverage(labels, probabilities)
    return float(accuracy[max(1, round(coverage * len(labels))) - 1])


def classification_report(labels: IntArray, probabilities: FloatArray) -> dict[str, float]:
    """Weighted F1 weighs classes by their share of `labels`; macro measures count every class alike."""
    predicted = probabilities.argmax(-1)
    classes = list(range(probabilities.shape[-1]))
    return {
        "rows": len(labels),
        "accuracy": float(accuracy_score(labels, predicted)),
        "weighted_f1": float(f1_score(labels, predicted, labels=classes, average="weighted", zero_division=0)),
        "macro_f1": float(f1_score(labels, predicted, labels=classes, average="macro", zero_division=0)),
        "macro_recall": float(recall_score(labels, predicted, labels=classes, average="macro", zero_division=0)),
        "ece": expected_calibration_error(labels, probabilities),
        "predicted_classes": len(set(predicted.tolist())),
    }
