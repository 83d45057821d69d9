"""The words in pictures, read beside everything else: never waited for where others wait, and only where it may pay.

Reading takes a third of a second of a core, so it is done for pictures with lettering alone, once for all copies of a
picture, by one process that gives way to all others.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Final

import msgspec
import numpy as np

from ingest.contract import Image
from ingest.errors import BadSettings, MalformedMedia
from ingest.media.lettering import has_lettering
from ingest.media.ocr import Found
from ingest.media.process import Process

MAX_WAITING: Final = 16
"""Pictures that wait for the reader, or some five seconds of its work; of live posts more go without their words."""
REMEMBERED: Final = 4_096
SAME_BITS: Final = 8
"""Of 256. Copies of a meme differed in at most 6 of them, one picture with two captions in at least 14 (50 of each)."""
LIMIT_S: Final = 20.0
MEMORY_BYTES: Final = 3 << 29
"""Of address space; reading takes 0.7 GB."""
START_S: Final = 120.0
"""Loading takes a second of a core, which others may want."""


class Words:
    """Fills in `Image.words`; use `opened_words`. counts: what became of the pictures, by outcome."""

    def __init__(
        self, process: Process[Found], *, max_waiting: int = MAX_WAITING, remembered: int = REMEMBERED
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._process, self._max_waiting, self._remembered = process, max_waiting, remembered
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._known: OrderedDict[bytes, str] = OrderedDict()

    async def read(self, image: Image, *, is_patient: bool) -> Image:
        """The image with its words; as it is if they could not be read or, unless patient, too many wait for that."""
        if image.words is not None:
            return image
        if not await asyncio.to_thread(has_lettering, image.jpeg):
            return self._done(image, "", "words: no lettering")
        if (words := self._recall(image.phash)) is not None:
            return self._done(image, words, "words: known")
        if self._waiting >= self._max_waiting and not is_patient:
            self.counts["words: not read, too many wait"] += 1
            return image
        self._waiting += 1
        try:
            async with self._turn:
                return await self._ask(image)
        finally:
            self._waiting -= 1

    async def _ask(self, image: Image) -> Image:
        if (words := self._recall(image.phash)) is not None:  # a copy was read while this one waited
            return self._done(image, words, "words: known")
        try:
            found = await self._process.ask(image.jpeg)
        except MalformedMedia as error:
            self.counts[f"words: not read, {error.reason}"] += 1
            return image
        self._known[image.phash] = found.words
        if len(self._known) > self._remembered:
            self._known.popitem(last=False)
        return self._done(image, found.words, "words: read")

    def _recall(self, phash: bytes) -> str | None:
        """Of the same picture, be it of another size or quality."""
        if not self._known:
            return None
        hashes = np.frombuffer(b"".join(self._known), np.uint8).reshape(-1, len(phash))
        distances = np.bitwise_count(hashes ^ np.frombuffer(phash, np.uint8)).sum(axis=1)
        nearest = int(distances.argmin())
        if distances[nearest] > SAME_BITS:
            return None
        found = hashes[nearest].tobytes()
        self._known.move_to_end(found)
        return self._known[found]

    def _done(self, image: Image, words: str, outcome: str) -> Image:
        self.counts[outcome] += 1
        return msgspec.structs.replace(image, words=words)


@asynccontextmanager
async def opened_words() -> AsyncIterator[Words]:
    """Its process starts with the first picture that has lettering. Raises BadSettings without the extra `ocr`."""
    if find_spec("rapidocr") is None:
        raise BadSettings(
            "MOODSTREAM_OCR is 1, but RapidOCR, which reads the words, is not installed: "
            "pip install 'moodstream[ocr]', or set it to 0"
        )
    process = Process(
        "ingest.media.ocr",
        Found,
        doing="reading words",
        doer="reader of words",
        limit_s=LIMIT_S,
        memory_bytes=MEMORY_BYTES,
        start_s=START_S,
    )
    try:
        yield Words(process)
    finally:
        await process.stop()
