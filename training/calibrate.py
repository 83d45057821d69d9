"""Confidence that means what it says: one temperature per input kind, and the confidence to abstain under."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar

from training.metrics import FloatArray, IntArray, coverage_at_accuracy, softmax


class Calibration(NamedTuple):
    """`target_accuracy` holds on the validation rows at `abstain_below`, which keeps `coverage` of them."""

    temperature: float
    abstain_below: float
    target_accuracy: float
    coverage: float


def calibrate(labels: IntArray, logits: FloatArray, *, target_accuracy: float) -> Calibration:
    temperature = fit_temperature(labels, logits)
    threshold, coverage = coverage_at_accuracy(labels, softmax(logits, temperature), target_accuracy)
    return Calibration(temperature, threshold, target_accuracy, coverage)


def fit_temperature(labels: IntArray, logits: FloatArray) -> float:
    """The temperature in 0.1..10 of least negative log-likelihood (Guo et al., ICML 2017)."""
    rows = np.arange(len(labels))

    def negative_log_likelihood(log_temperature: float) -> float:
        probabilities = softmax(logits, float(np.exp(log_temperature)))
        return float(-np.log(probabilities[rows, labels] + 1e-12).mean())

    found = minimize_scalar(negative_log_likelihood, bounds=(np.log(0.1), np.log(10.0)), method="bounded")
    return float(np.exp(found.x))
