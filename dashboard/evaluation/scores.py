"""Accuracy, F1 and their intervals, all worked out from confusion matrices: [i][j] labelled i and predicted j.

Accuracy has its Wilson interval: a bootstrap of a few rows that are all right would call that certain. Of F1, for which
there is no such formula, a bootstrap of rows is a multinomial draw of their confusion matrix: it costs the same for a
million posts.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from scipy.stats import binomtest

from dashboard.evaluation.feed import Feed
from dashboard.evaluation.judgement import Answered, ClassScores, Estimate, Scores
from inference_worker.contract import LABELS

RESAMPLES: Final = 2_000
SEED: Final = 0
LEVEL: Final = 95
"""Per cent of an interval."""


class Figures(NamedTuple):
    """Of each matrix of a stack; NaN where there is nothing to tell from."""

    accuracy: np.ndarray
    macro_f1: np.ndarray
    weighted_f1: np.ndarray


def confusion(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """(N,) and (N,) positions in LABELS → (C, C) counts; rows with a label or a prediction of -1 are left out."""
    judged = (labels >= 0) & (predicted >= 0)
    size = len(LABELS)
    cells = labels[judged].astype(np.int64) * size + predicted[judged]
    return np.bincount(cells, minlength=size * size).reshape(size, size)


def figures(matrices: np.ndarray) -> Figures:
    """(..., C, C) → what scikit-learn says of each, many at once.

    The macro F1 leaves out classes that occur neither among labels nor predictions.
    """
    right = np.diagonal(matrices, axis1=-2, axis2=-1)
    support, called = matrices.sum(axis=-1), matrices.sum(axis=-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = 2 * right / (support + called)
        occurs = support + called > 0
        rows = support.sum(axis=-1)
        return Figures(
            accuracy=right.sum(axis=-1) / rows,
            macro_f1=np.where(occurs, f1, 0.0).sum(axis=-1) / occurs.sum(axis=-1),
            weighted_f1=(np.where(occurs, f1, 0.0) * support).sum(axis=-1) / rows,
        )


def scores(matrix: np.ndarray) -> Scores:
    """(C, C) counts → all they say, with bootstrap intervals."""
    rows = int(matrix.sum())
    support, called, right = matrix.sum(axis=1), matrix.sum(axis=0), matrix.diagonal()
    found = figures(matrix)
    resampled = figures(_resample(matrix)) if rows else None
    macro_f1, weighted_f1 = (
        Estimate() if resampled is None else _estimate(float(getattr(found, name)), getattr(resampled, name))
        for name in ("macro_f1", "weighted_f1")
    )
    recalls = [right[index] / support[index] for index in range(len(LABELS)) if support[index]]
    return Scores(
        rows=rows,
        accuracy=proportion(int(right.sum()), rows),
        macro_f1=macro_f1,
        weighted_f1=weighted_f1,
        macro_recall=float(np.mean(recalls)) if recalls else None,
        per_class={
            label: ClassScores(
                precision=share(right[index], called[index]),
                recall=share(right[index], support[index]),
                f1=share(2 * right[index], called[index] + support[index]),
                support=int(support[index]),
            )
            for index, label in enumerate(LABELS)
        },
        confusion=matrix.tolist(),
    )


def answered(feed: Feed) -> Answered:
    """How much of the labelled posts the model answers, and how well."""
    chosen = feed.is_labelled & ~feed.abstained
    matrix = confusion(feed.labels[chosen], feed.predicted[chosen])
    rows = int(matrix.sum())
    return Answered(
        rows=rows,
        coverage=share(rows, int(feed.is_labelled.sum())),
        accuracy=proportion(int(matrix.trace()), rows),
        macro_f1=float(figures(matrix).macro_f1) if rows else None,
    )


def proportion(part: int, whole: int) -> Estimate:
    """A share of counts with its Wilson interval."""
    if whole == 0:
        return Estimate()
    interval = binomtest(part, whole).proportion_ci(LEVEL / 100, method="wilson")
    return Estimate(value=part / whole, low=float(interval.low), high=float(interval.high))


def share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _resample(matrix: np.ndarray) -> np.ndarray:
    """(RESAMPLES, C, C): as many rows drawn anew, with replacement."""
    rows = int(matrix.sum())
    drawn = np.random.default_rng(SEED).multinomial(rows, matrix.ravel() / rows, size=RESAMPLES)
    return drawn.reshape(RESAMPLES, *matrix.shape)


def _estimate(value: float, resampled: np.ndarray) -> Estimate:
    low, high = np.percentile(resampled, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return Estimate(value=value, low=float(low), high=float(high))
