"""The null engine, in a time that is known: what a plan of capacity is checked against (see `deploy/capacity.py`).

It sleeps, so that several workers on few cores have engines of their own, as several with a GPU each have.
"""

from __future__ import annotations

import time
from typing import Final

import numpy as np

from inference_worker.engines.null import NullEngine

CALL_S: Final = 0.060
ITEM_S: Final = 0.004
"""A full batch of 64 texts takes 316 ms: 203 texts a second, so that four workers leave two cores mostly idle."""


class FixedEngine(NullEngine):
    """An encoder takes CALL_S, and ITEM_S for each text or picture."""

    name = "fixed"

    def encode_text(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        time.sleep(CALL_S + ITEM_S * len(input_ids))
        return super().encode_text(input_ids, attention_mask)

    def encode_image(self, pixel_values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        time.sleep(CALL_S + ITEM_S * len(pixel_values))
        return super().encode_image(pixel_values)
