"""Whether confidence is worth its name: calibration errors, reliability bins, and what answering less would gain."""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.stats import foldnorm
from sklearn.metrics import brier_score_loss, log_loss

from dashboard.evaluation.judgement import Calibration, Estimate, ReliabilityBin, RiskCoverage, RiskPoint
from dashboard.evaluation.scores import LEVEL, SEED, proportion
from inference_worker.contract import LABELS

BINS: Final = 15
SIMULATIONS: Final = 200
"""Draws of labels from the model's own confidence, for the error a perfectly calibrated model would show."""
RISK_POINTS: Final = 100
GOOD_ACCURACY: Final = 0.9


def calibration(labels: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray) -> Calibration:
    """(N,), (N,) positions in LABELS and (N, C) → Calibration; all rows are labelled."""
    probabilities = probabilities / probabilities.sum(axis=1, keepdims=True, dtype=np.float64)
    confidence, is_right = probabilities.max(axis=1), labels == predicted
    edges = np.linspace(0, 1, BINS + 1)
    place = np.searchsorted(edges[1:-1], confidence)
    rows = np.bincount(place, minlength=BINS)
    sure = np.bincount(place, weights=confidence, minlength=BINS)
    right = np.bincount(place, weights=is_right, minlength=BINS)
    bins = [
        ReliabilityBin(
            low=float(edges[index]),
            high=float(edges[index + 1]),
            rows=int(rows[index]),
            confidence=float(sure[index] / rows[index]) if rows[index] else None,
            accuracy=proportion(int(right[index]), int(rows[index])),
        )
        for index in range(BINS)
    ]
    if not len(labels):
        return _nothing(bins)
    return Calibration(
        rows=len(labels),
        ece=float(np.abs(sure - right).sum() / len(labels)),
        ece_debiased=_debiased(rows, sure, right),
        ece_if_perfect=_ece_if_perfect(place, confidence, sure),
        ece_adaptive=_adaptive(confidence, is_right),
        brier=float(brier_score_loss(labels, probabilities, labels=range(len(LABELS)), scale_by_half=False)),
        nll=float(log_loss(labels, probabilities, labels=range(len(LABELS)))),
        bins=bins,
    )


def risk_coverage(confidence: np.ndarray, is_right: np.ndarray) -> RiskCoverage:
    """Selective prediction (Geifman and El-Yaniv, NeurIPS 2017): posts answered in order of confidence.

    Posts of equal confidence are answered together, each as wrong as they are on average: their order does not matter.
    """
    total = len(confidence)
    if not total:
        return RiskCoverage(points=[], aurc=None, aurc_best=None, coverage_at_90=None)
    levels, place, counts = np.unique(-confidence, return_inverse=True, return_counts=True)
    wrong = np.bincount(place, weights=~is_right)
    answered = np.cumsum(counts)
    accuracy = 1 - np.cumsum(wrong) / answered
    thinned = np.unique(np.linspace(0, len(levels) - 1, RISK_POINTS).round().astype(int))
    # a curve begins with whatever the surest few posts are: leave out what fewer than 1 in RISK_POINTS tell
    shown = [index for index in thinned if answered[index] * RISK_POINTS >= total]
    good = np.flatnonzero(accuracy >= GOOD_ACCURACY)
    return RiskCoverage(
        points=[
            RiskPoint(
                coverage=float(answered[index] / total),
                accuracy=float(accuracy[index]),
                threshold=float(-levels[index]),
            )
            for index in shown
        ],
        aurc=_mean_risk(np.repeat(wrong / counts, counts)),
        aurc_best=_mean_risk(np.sort(~is_right).astype(float)),
        coverage_at_90=float(answered[good[-1]] / total) if len(good) else None,
    )


def _nothing(bins: list[ReliabilityBin]) -> Calibration:
    return Calibration(
        rows=0,
        ece=None,
        ece_debiased=None,
        ece_if_perfect=Estimate(),
        ece_adaptive=None,
        brier=None,
        nll=None,
        bins=bins,
    )


def _debiased(rows: np.ndarray, sure: np.ndarray, right: np.ndarray) -> float:
    """ECE less the bias of few rows a bin (Kumar, Liang and Ma, NeurIPS 2019); at least 0.

    A bin's accuracy is taken for normal around the one found; they sample, here the mean of |normal| is worked out.
    """
    some = rows > 0
    rows, accuracy, gap = rows[some], right[some] / rows[some], np.abs(right[some] - sure[some]) / rows[some]
    spread = np.sqrt(accuracy * (1 - accuracy) / rows)
    expected = gap.copy()
    varies = spread > 0
    expected[varies] = foldnorm.mean(gap[varies] / spread[varies], scale=spread[varies])
    return max(0.0, float((rows * (2 * gap - expected)).sum() / rows.sum()))


def _ece_if_perfect(place: np.ndarray, confidence: np.ndarray, sure: np.ndarray) -> Estimate:
    generator = np.random.default_rng(SEED)
    single = confidence.astype(np.float32)
    found = np.empty(SIMULATIONS)
    for draw in range(SIMULATIONS):
        is_right = generator.random(len(single), dtype=np.float32) < single
        right = np.bincount(place[is_right], minlength=BINS)
        found[draw] = np.abs(sure - right).sum() / len(single)
    low, high = np.percentile(found, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return Estimate(value=float(found.mean()), low=float(low), high=float(high))


def _adaptive(confidence: np.ndarray, is_right: np.ndarray) -> float:
    """Bins of equally many rows (Nguyen and O'Connor, EMNLP 2015); equal confidences share a bin."""
    edges = np.unique(np.quantile(confidence, np.linspace(0, 1, BINS + 1)[1:-1]))
    place = np.searchsorted(edges, confidence)
    gaps = np.bincount(place, weights=confidence - is_right)
    return float(np.abs(gaps).sum() / len(confidence))


def _mean_risk(wrong: np.ndarray) -> float:
    return float((np.cumsum(wrong) / np.arange(1, len(wrong) + 1)).mean())
