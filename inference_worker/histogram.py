"""Counts by size, as Prometheus wants them: kept in arrays, so that a batch costs microseconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np


class Histogram:
    """Values counted by the first of `bounds` (rising) they do not exceed, or beyond the last. One thread at a time."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.total = 0.0
        self._bounds = np.asarray(bounds, np.float64)
        self._counts = np.zeros(len(bounds) + 1, np.int64)

    def add(self, values: Sequence[float] | np.ndarray) -> None:
        """Values below zero, of clocks that disagree, count as zero: a sum must never fall."""
        found = np.maximum(np.asarray(values, np.float64), 0.0)
        self.total += float(found.sum())
        self._counts += np.bincount(np.searchsorted(self._bounds, found), minlength=len(self._counts))

    def buckets(self) -> Iterator[tuple[float, int]]:
        """Bounds with how many values were at most that, the last bound infinite."""
        bounds = [*self._bounds.tolist(), float("inf")]
        yield from zip(bounds, np.cumsum(self._counts).tolist(), strict=True)
