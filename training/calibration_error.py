"""How far confidence is from accuracy, freed of what few rows a bin add by chance, and what chance alone would show.

In simulations (tests/training/test_calibration_error.py) a perfectly calibrated classifier shows on 450 rows an ECE of
6 points, `ece_debiased` keeps 3.5 of them, `rms_debiased` under 2; of a classifier that is 8 points off all three tell
8 to 9.5. So the last is the one to go by on few rows; it is never below the ECE but by chance (a mean of squares).
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import foldnorm

from training.metrics import FloatArray, IntArray

BINS = 15
DRAWS = 500


class CalibrationError(NamedTuple):
    """ece: mean |accuracy - confidence| over bins of equally many rows.
    ece_debiased: less the bias of few rows (Kumar, Liang and Ma, "Verified Uncertainty Calibration", NeurIPS 2019, as
    their library does for p = 1), which a replay's judgement shows too. rms_debiased: root of the mean squared gap,
    each less its own variance (their estimator of §4, unbiased before the root); at least 0, both.
    ece_if_perfect: mean and 95th percentile of the ECE were every confidence true.
    """

    ece: float
    ece_debiased: float
    rms_debiased: float
    ece_if_perfect: float
    ece_if_perfect_95: float


def calibration_error(
    labels: IntArray, probabilities: FloatArray, *, bins: int = BINS, posts: IntArray | None = None
) -> CalibrationError:
    """posts: (N,) numbers from 0; rows of one post (scored by several models) are no independent witnesses."""
    confidence, is_right = probabilities.max(-1), probabilities.argmax(-1) == labels
    posts = np.arange(len(labels)) if posts is None else posts
    parts = [part for part in np.array_split(np.argsort(confidence, kind="stable"), bins) if len(part)]
    rows = np.array([len(part) for part in parts])
    signed = np.array([is_right[part].mean() - confidence[part].mean() for part in parts])
    variances = np.array([_variance_of_mean(is_right[part], posts[part]) for part in parts])
    witnesses = np.array([len(np.unique(posts[part])) for part in parts])
    gaps, share = np.abs(signed), rows / rows.sum()
    chance = _eces_if_perfect(confidence, posts, parts)
    return CalibrationError(
        ece=float(share @ gaps),
        ece_debiased=max(0.0, float(share @ (2 * gaps - _mean_folded(gaps, variances)))),
        rms_debiased=float(np.sqrt(max(0.0, share @ (gaps**2 - variances * witnesses / np.maximum(1, witnesses - 1))))),
        ece_if_perfect=float(chance.mean()),
        ece_if_perfect_95=float(np.percentile(chance, 95)),
    )


def _variance_of_mean(is_right: FloatArray, posts: IntArray) -> float:
    """Of a bin's accuracy; p (1 - p) / n where every row is a post of its own, the clustered variance else."""
    residuals = np.bincount(posts, weights=is_right - is_right.mean())
    return float((residuals**2).sum() / len(is_right) ** 2)


def _mean_folded(gaps: FloatArray, variances: FloatArray) -> FloatArray:
    """Mean of |normal| around each gap: what a true gap as large would be found to be."""
    expected, deviations = gaps.copy(), np.sqrt(variances)
    varies = deviations > 0
    expected[varies] = foldnorm.mean(gaps[varies] / deviations[varies], scale=deviations[varies])
    return expected


def _eces_if_perfect(confidence: FloatArray, posts: IntArray, parts: list[IntArray]) -> FloatArray:
    """(DRAWS,): labels drawn from the confidences themselves; rows of one post share their luck."""
    generator = np.random.default_rng(0)
    starts = np.cumsum([0, *(len(part) for part in parts[:-1])])
    order = np.concatenate(parts)
    sure = np.add.reduceat(confidence[order], starts)
    is_right = generator.random((DRAWS, posts.max() + 1), np.float32)[:, posts[order]] < confidence[order]
    right = np.add.reduceat(is_right, starts, axis=1, dtype=np.int64)
    eces: FloatArray = np.abs(right - sure).sum(axis=1) / len(order)
    return eces
