"""Confidence that means what it says: one temperature per kind of answer, and the confidence to abstain under; and
text logits freed of the mix of classes the training tweets happened to have.

One temperature stays. Cross-validated on the validation rows of the artifact of 22 November
(`python -m training.scaling`), a bias for each class beside it changes the log-likelihood of whole posts by -0.001
(95 % -0.004 to +0.001), of captions by +0.001 (-0.005 to +0.009), of pictures by -0.001 (-0.005 to +0.003), and vector
scaling no more. Of tweets it gains 0.065 (0.044 to 0.086) by learning the mix of classes of those tweets back, which
costs 4 points of macro recall (74.2 to 70.1): what the correction below was for.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.metrics import recall_score

from training.metrics import FloatArray, IntArray, coverage_at_accuracy, softmax

STRENGTHS = tuple(step / 10 for step in range(11))


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


def choose_prior_correction(labels: IntArray, logits: FloatArray, shares: FloatArray) -> float:
    """The strength s in 0..1 for which logits - s · log(shares) reach the highest macro recall (the least of equals).

    shares: of the classes in the training data. A feed's own mix is unknown and unlike it; s = 1 assumes all classes
    to be as likely (Menon et al., "Long-tail learning via logit adjustment", ICLR 2021).
    """

    def macro_recall(strength: float) -> float:
        predicted = (logits - strength * np.log(shares)).argmax(-1)
        return float(recall_score(labels, predicted, average="macro"))

    return max(STRENGTHS, key=macro_recall)
