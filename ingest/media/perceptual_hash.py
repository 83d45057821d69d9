"""PDQ, Facebook's perceptual hash of pictures (Davis & Rosen, ThreatExchange 2019).

The reference smooths the luma by two passes of a box filter, takes 64 x 64 samples of it, takes the 16 x 16 lowest
frequencies of those, and compares each with their median. Every step before the comparison is linear and treats rows
and columns apart, so all of them together are one small matrix on either side: bits = M(H) @ luma @ M(W).T > median.
That is ten times as fast as the loops, and the same hash (compared bit by bit in the tests).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np

SAMPLES: Final = 64
FREQUENCIES: Final = 16
PASSES: Final = 2
DECIMALS: Final = 6
"""Coefficients are rounded, or in a picture of one colour the order of a sum would decide."""

UNTHREADED: Final = 1 << 18
"""Multiplications in one product up to which OpenBLAS starts no threads: waiting for them costs more than the rest."""


def pdq(luma: np.ndarray) -> bytes:
    """Hash of (H, W) uint8 pixels, 32 bytes; near duplicates differ in at most 31 of its 256 bits."""
    height, width = luma.shape
    rows, columns = _projection(height), _projection(width)
    across = max(1, UNTHREADED // (FREQUENCIES * height))
    strips = [slice(left, left + across) for left in range(0, width, across)]
    spectrum = sum(rows @ luma[:, strip] @ columns[:, strip].T for strip in strips)
    spectrum = np.round(spectrum, DECIMALS).ravel()
    middle = FREQUENCIES**2 // 2 - 1  # of an even number the reference takes the lower one
    bits = spectrum > np.partition(spectrum, middle)[middle]
    return np.packbits(bits[::-1]).tobytes()


@lru_cache(maxsize=256)
def _projection(size: int) -> np.ndarray:
    """(16, size): smoothing, sampling and cosine transform along one side of `size` pixels."""
    window = (size + 2 * SAMPLES - 1) // (2 * SAMPLES)
    box = _box(size, window)
    sampled = ((np.arange(SAMPLES) + 0.5) * size / SAMPLES).astype(int)
    smoothed = box[sampled]
    for _ in range(PASSES - 1):
        smoothed = smoothed @ box
    frequency, place = np.arange(1, FREQUENCIES + 1)[:, None], np.arange(SAMPLES)
    cosines = np.sqrt(2 / SAMPLES) * np.cos(np.pi / 2 / SAMPLES * frequency * (2 * place + 1))
    projection: np.ndarray = cosines @ smoothed
    return projection


def _box(size: int, window: int) -> np.ndarray:
    """(size, size): each row the mean of the pixels around one, of fewer at the ends."""
    ahead = (window + 2) // 2 - 1
    offset = np.arange(size) - np.arange(size)[:, None]
    within: np.ndarray = ((offset <= ahead) & (offset >= ahead + 1 - window)).astype(np.float64)
    within /= within.sum(axis=1, keepdims=True)
    return within
