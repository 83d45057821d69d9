"""Is there lettering in a picture? A look that costs a thousandth of reading it, and spares most pictures that.

Letters are what makes neighbouring pixels of a row differ sharply again and again: in flat strips, a few letters wide
and a third of a line high, few photographs do so for a third of the pairs.
"""

from __future__ import annotations

from io import BytesIO
from typing import Final

import numpy as np
from PIL import Image as Pillow

SHARP: Final = 50
"""Steps of luma between neighbours, of 255, from which on they are an edge."""
STRIP: Final = (4, 32)
"""Rows and columns of a strip, in pixels of a picture whose short side is 256."""
DENSE: Final = 0.3
"""Share of a strip's pairs that are edges."""
ENOUGH: Final = 6
"""Dense strips: about two short words."""


def has_lettering(jpeg: bytes) -> bool:
    """Of a safe JPEG, whose luma alone is decoded; see `dense_strips`."""
    with Pillow.open(BytesIO(jpeg), formats=("JPEG",)) as picture:
        picture.draft("L", picture.size)
        return dense_strips(np.asarray(picture.convert("L"))) >= ENOUGH


def dense_strips(luma: np.ndarray) -> int:
    """How many strips of (H, W) uint8 pixels may be lettering."""
    rows, columns = STRIP
    is_edge = np.abs(np.diff(luma.astype(np.int16), axis=1)) > SHARP
    down, across = is_edge.shape[0] // rows, is_edge.shape[1] // columns
    strips = is_edge[: down * rows, : across * columns].reshape(down, rows, across, columns)
    return int(np.count_nonzero(strips.sum(axis=(1, 3)) > DENSE * rows * columns))
