"""A run over a source whose pictures are at hand, archives and the sample feed: all in the source's order.

Items are numbered from 1 as the source gives them, the same in every reading of an archive: `Producer` sends the number
along, so that what an interrupted replay sends again is told from what is new.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec

from ingest.clock import LATE, ReplayClock
from ingest.contract import MAX_IMAGES, Deletion, Image, Post
from ingest.errors import MalformedMedia
from ingest.media.sanitize import make_safe
from ingest.media.words import Words
from ingest.report import EMPTY, Tally
from ingest.sink import Sink
from ingest.sources.items import Draft, Item, Picture, Skipped, Source
from ingest.tasks import cancel
from ingest.topics.definitions import Topics
from ingest.topics.subjects import subject_of

MEDIA_THREADS: Final = 2
MAX_WAITING: Final = 32
"""Items read ahead of the one being sent, so that pictures are decoded side by side."""

log = logging.getLogger(__name__)


class _SafeImages(NamedTuple):
    images: tuple[Image, ...] = ()
    refusals: tuple[str, ...] = ()


_NO_IMAGES: Final = _SafeImages()
_Waiting = tuple[int, Item, asyncio.Future[_SafeImages] | None]
OUTSIDE: Final = "outside of the time asked for"


class ArchiveRun:
    """A reader that keeps pictures decoding ahead, and a sender that keeps the order; topics may be exchanged.

    words: reads those in pictures of posts without text, if given. It is waited for: two replays are the same.
    """

    def __init__(
        self, source: Source, sink: Sink, topics: Topics, *, clock: ReplayClock, words: Words | None = None
    ) -> None:
        self.topics = topics
        self.tally = Tally()
        self._source, self._sink = source, sink
        self._clock, self._words = clock, words
        self._waiting: asyncio.Queue[_Waiting | None] = asyncio.Queue(MAX_WAITING)
        self._pool = ThreadPoolExecutor(MEDIA_THREADS, "media")
        self._sending: asyncio.Task[None] | None = None

    async def read(self, limit: int | None) -> None:
        """Until the source ends; ends early where nothing can be sent any more."""
        self._sending = asyncio.create_task(self._send_items())
        reading = asyncio.create_task(self._read_items(limit))
        try:
            await asyncio.wait({reading, self._sending}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
        finally:
            await cancel(reading)

    async def finish(self, *, stopped: bool) -> None:
        """Returns when all that was read is acknowledged."""
        assert self._sending is not None
        ending = asyncio.create_task(self._waiting.put(None))
        try:
            await self._sending
        finally:
            await cancel(ending)
        await self._sink.flush()

    async def close(self) -> None:
        await cancel(self._sending)
        await asyncio.to_thread(self._pool.shutdown)

    async def _read_items(self, limit: int | None) -> None:
        if limit == 0:
            return
        loop = asyncio.get_running_loop()
        async with aclosing(aiter(self._source)) as items:
            async for item in items:
                images = None
                if isinstance(item, Draft):
                    item = await self._in_time(item)
                self.tally.read += 1
                if isinstance(item, Draft) and item.pictures:
                    images = loop.run_in_executor(self._pool, _make_safe, item.pictures)
                await self._waiting.put((self.tally.read, item, images))
                if self.tally.read == limit:
                    return

    async def _in_time(self, draft: Draft) -> Item:
        """The item once it is due."""
        created_at = draft.post.created_at
        if not self._clock.covers(created_at):
            return Skipped(reason=OUTSIDE, item=draft.post.id)
        if await self._clock.wait(created_at, self.tally.read + 1):
            self.tally.warnings[LATE] += 1
        return draft

    async def _send_items(self) -> None:
        while (waiting := await self._waiting.get()) is not None:
            number, item, images = waiting
            if isinstance(item, Skipped):
                log.debug("skipped %s: %s", item.item, item.reason)
                self.tally.skip(item.reason, item.item)
            elif isinstance(item, Deletion):
                await self._sink.send(item, number=number)
            elif (post := self._finish(item, await images if images is not None else _NO_IMAGES)) is not None:
                await self._sink.send(await self._with_words(post), number=number)

    async def _with_words(self, post: Post) -> Post:
        if self._words is None or post.text.strip():
            return post
        images = [await self._words.read(image, is_patient=True) for image in post.images]
        return msgspec.structs.replace(post, images=tuple(images))

    def _finish(self, draft: Draft, safe: _SafeImages) -> Post | None:
        """The post with images and topics; None if nothing of it is left."""
        self.tally.warnings.update(draft.warnings)
        self.tally.warnings.update(safe.refusals)
        if not draft.post.text.strip() and not safe.images:
            self.tally.skip(EMPTY, draft.post.id)
            return None
        subject = subject_of(draft, (image.alt for image in safe.images), has_images=bool(safe.images))
        return msgspec.structs.replace(
            draft.post, ingested_at=datetime.now(UTC), images=safe.images, topics=self.topics.match(subject)
        )


def _make_safe(pictures: tuple[Picture, ...]) -> _SafeImages:
    """Runs in a media thread; a refused picture leaves its reason behind."""
    images, refusals = [], []
    for picture in pictures[:MAX_IMAGES]:
        try:
            image = make_safe(picture.data, alt=picture.alt, width=picture.width, height=picture.height)
            images.append(image if picture.words is None else msgspec.structs.replace(image, words=picture.words))
        except MalformedMedia as error:
            refusals.append(f"image refused: {error.reason}")
    if len(pictures) > MAX_IMAGES:
        refusals.append(f"images past the first {MAX_IMAGES} left out")
    return _SafeImages(tuple(images), tuple(refusals))
