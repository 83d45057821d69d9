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
    """The strength s in 0..1 of logits - s · log(shares): the greatest that loses no more of the highest macro recall
    than one standard error of that loss (Breiman et al., CART, 1984, have the rule).

    shares: of the classes in the training data. A feed's own mix is unknown and unlike it; s = 1 assumes all classes
    to be as likely (Menon et al., "Long-tail learning via logit adjustment", ICLR 2021), so nearest to that is best
    where the rows cannot tell.
    """
    classes = range(len(shares))
    is_right = {s: (logits - s * np.log(shares)).argmax(-1) == labels for s in STRENGTHS}
    best = max(is_right.values(), key=lambda right: np.mean([right[labels == c].mean() for c in classes]))

    def is_as_good(right: IntArray) -> bool:
        lost = best.astype(int) - right
        loss = np.mean([lost[labels == c].mean() for c in classes])
        error = np.sqrt(sum(lost[labels == c].var() / (labels == c).sum() for c in classes)) / len(shares)
        return bool(loss <= error)

    return max(strength for strength, right in is_right.items() if is_as_good(right))
