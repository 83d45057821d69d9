"""A process that does nothing but read the words in safe pictures; see `sandbox`, whose protocol and limits it shares.

RapidOCR runs PaddleOCR's PP-OCRv6 (both Apache-2.0); its models lie in its wheel, nothing is downloaded. It is of the
extra `ocr`, and imported in this process alone.
"""

from __future__ import annotations

import os
from io import BytesIO
from typing import Any, Final

import msgspec
import numpy as np
from PIL import Image as Pillow

from ingest.media.sandbox import serve
from ingest.media.sanitize import SHORT_SIDE

NICENESS: Final = 10
"""Whatever else the machine has to do goes first."""
MIN_SCORE: Final = 0.6
"""Of a line; below it are mostly logos and ornaments taken for letters."""
MAX_CHARS: Final = 1_000
ENGINE: Final = {
    "Global.log_level": "critical",
    "Global.use_cls": False,  # looks for lines that stand on their heads
    "Global.text_score": MIN_SCORE,
    # As the picture is: enlarged to the 736 px it is by default, four times the work finds no more words.
    "Det.limit_side_len": SHORT_SIDE,
    "EngineConfig.onnxruntime.intra_op_num_threads": 1,
    "EngineConfig.onnxruntime.inter_op_num_threads": 1,
}


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Lines from top to bottom, one a line."""

    words: str


class WordReader:
    """The models, loaded."""

    def __init__(self) -> None:
        from rapidocr import RapidOCR

        self._engine: Any = RapidOCR(params=ENGINE)

    def read(self, jpeg: bytes) -> Found:
        """Of a safe JPEG."""
        with Pillow.open(BytesIO(jpeg), formats=("JPEG",)) as picture:
            blue_green_red = np.asarray(picture.convert("RGB"))[:, :, ::-1]
        lines = self._engine(blue_green_red).txts or ()
        return Found(words="\n".join(" ".join(line.split()) for line in lines)[:MAX_CHARS].strip())


def main(*, memory_bytes: int, limit_s: float) -> None:
    os.nice(NICENESS)
    serve(WordReader().read, memory_bytes=memory_bytes, limit_s=limit_s)
