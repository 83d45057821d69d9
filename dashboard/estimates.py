"""Means with the interval they deserve: sums of a rollup → net sentiment and its 95 % interval."""

from __future__ import annotations

from math import sqrt
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from inference_worker.contract import FIXED_POINT, Counters

Floats = npt.NDArray[np.float64]
LEAST_SPREAD: Final = 0.1
"""Less than half of the variance scores of a feed have."""
_Z: Final = 1.959964
_FEW: Final = (12.706, 4.303, 3.182)
"""Of 1, 2 and 3 degrees of freedom, where the expansion is too small."""


class Estimate(NamedTuple):
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def lean(self) -> int:
        """1 or -1 where the whole interval lies above or below zero, also after rounding to 0.01, else 0."""
        return int(self.low >= 0.005) - int(self.high <= -0.005)


def net_sentiment(counters: Counters) -> Estimate | None:
    """Net sentiment in [-1, 1] of the posts counted; None without posts."""
    if not counters.posts:
        return None
    mean, low, high = intervals(
        np.array([counters.posts]), np.array([counters.score_sum]), np.array([counters.score_square_sum])
    )
    return Estimate(float(mean[0]), float(low[0]), float(high[0]))


def difference(now: Estimate, before: Estimate) -> Estimate:
    """How far `now` lies above `before`, with the interval of the difference of independent means."""
    mean = now.mean - before.mean
    below = sqrt((now.mean - now.low) ** 2 + (before.high - before.mean) ** 2)
    above = sqrt((now.high - now.mean) ** 2 + (before.mean - before.low) ** 2)
    return Estimate(mean, mean - below, mean + above)


def intervals(
    posts: npt.ArrayLike, score_sum: npt.ArrayLike, score_square_sum: npt.ArrayLike
) -> tuple[Floats, Floats, Floats]:
    """Mean, lower and upper end per element; NaN without posts. Sums are in units of 1 / FIXED_POINT.

    Student's interval, cut at [-1, 1]. One post alone says nothing of its own spread: its interval is all of [-1, 1]; a
    few equal ones, as reposts are, say little: their variance is taken to be at least LEAST_SPREAD / n.
    """
    n = np.asarray(posts, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.asarray(score_sum, dtype=np.float64) / FIXED_POINT / n
        square = np.asarray(score_square_sum, dtype=np.float64) / FIXED_POINT / n
        variance = np.maximum((square - mean**2) * n / (n - 1), LEAST_SPREAD / n)
        half = _student_95(n - 1) * np.sqrt(variance / n)
    half = np.where(n == 1, 2.0, half)
    return mean, np.maximum(mean - half, -1.0), np.minimum(mean + half, 1.0)


def _student_95(freedom: Floats) -> Floats:
    """97.5 % quantile of Student's t (Cornish and Fisher's expansion; within 1 % from 4 degrees of freedom up)."""
    z, v = _Z, np.maximum(freedom, 1.0)
    expanded = (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )
    return np.select([v == few for few in (1, 2, 3)], _FEW, expanded)
