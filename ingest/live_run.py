"""A run over a live source: topics first, then pictures, and a cursor that is never ahead of Kafka.

An item without pictures goes from the source to the producer without a task or queue between: 5,000 events a second
have 200 µs each.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from itertools import islice
from typing import Final

import msgspec

from ingest.contract import MAX_IMAGES, Deletion, Post
from ingest.cursors import Cursors, Held
from ingest.media.pictures import ImageOf, LatePictures
from ingest.media.words import Words
from ingest.report import EMPTY, Tally
from ingest.sink import Sink
from ingest.sources.items import Draft, Item, LiveSource
from ingest.tasks import cancel
from ingest.topics.definitions import Topics
from ingest.topics.subjects import subject_of

UNMATCHED: Final = "no topic matches"
DELETED: Final = "deleted before its pictures came"
REPEATED: Final = "repeated while its pictures are fetched"
REMEMBERED: Final = 100_000
"""Posts whose edits are sent on though no topic matches any more: the text they replace was counted."""
BREATH: Final = 64
"""Items after which other tasks get a turn: the sending, the pictures, the cursor."""

log = logging.getLogger(__name__)


class LiveRun:
    """From the source to the producer, in the order of each post; topics may be exchanged.

    keep_all: posts no topic matches are sent too; words: see LatePictures.
    """

    def __init__(
        self,
        source: LiveSource,
        sink: Sink,
        topics: Topics,
        *,
        image_of: ImageOf,
        keep_all: bool,
        words: Words | None = None,
    ) -> None:
        self.topics = topics
        self.tally = Tally()
        self._source, self._sink, self._keep_all = source, sink, keep_all
        self._cursors = Cursors(source.cursor)
        self._pictures = LatePictures(image_of, self._send_held, self.tally, words)
        self._sent: dict[str, None] = {}

    @property
    def cursor(self) -> str | None:
        """Where a restart has to begin."""
        return self._cursors.safe(self._source.cursor)

    async def read(self, limit: int | None) -> None:
        """Until the source ends or nothing can be sent any more."""
        following = asyncio.create_task(self._follow(limit))
        try:
            await asyncio.wait({following, self._pictures.failure}, return_when=asyncio.FIRST_COMPLETED)
            if self._pictures.failure.done():
                self._pictures.failure.result()
            following.result()
        finally:
            await cancel(following)

    async def finish(self, *, stopped: bool) -> None:
        """Returns when all that was read is acknowledged; after a stop without waiting for pictures."""
        await (self._pictures.stop() if stopped else self._pictures.finish())
        await self._sink.flush()

    async def close(self) -> None:
        await self._pictures.close()

    async def _follow(self, limit: int | None) -> None:
        if limit == 0:
            return
        async with aclosing(aiter(self._source)) as items:
            async for item in items:
                self.tally.read += 1
                await self._take(item)
                if self.tally.read % BREATH == 0:
                    await asyncio.sleep(0)  # a source with much at hand may never wait
                if self.tally.read == limit:
                    return

    async def _take(self, item: Item) -> None:
        """Nothing is awaited between the source's yield and the hold of its cursor."""
        if isinstance(item, Draft):
            await self._take_draft(item)
        elif isinstance(item, Deletion):
            if item.post_id is not None:
                self._pictures.forget(item.post_id, DELETED)
            else:
                assert item.author is not None
                self._pictures.forget_author(item.author, DELETED)
            await self._sink.send(item, self._cursors.hold(self._source.cursor).release)
        else:
            log.debug("skipped %s: %s", item.item, item.reason)
            self.tally.skipped[item.reason] += 1

    async def _take_draft(self, draft: Draft) -> None:
        if (post := self._wanted(draft)) is None:
            return
        media = draft.links or draft.pictures
        can_wait = self._source.cursor is not None
        if media and not self._pictures.has_room and not can_wait:
            self.tally.media["left out: too many posts wait for theirs"] += len(media)
            media = ()
        if not media and not post.text.strip():
            self.tally.skipped[EMPTY] += 1
            return
        held = self._cursors.hold(self._source.cursor)
        self._remember(post.id)
        if not media:
            await self._sink.send(post, held.release)
            return
        if len(media) > MAX_IMAGES:
            self.tally.warnings[f"images past the first {MAX_IMAGES} left out"] += 1
        # A source that can go back is held up, as when it catches up at full speed; any other would lose posts.
        await self._pictures.room()
        self._pictures.start(post, media[:MAX_IMAGES], held)

    def _wanted(self, draft: Draft) -> Post | None:
        """The post with its topics; None, and counted, if it is not to be sent.

        Its pictures are matched by what the source says of them: they are fetched only afterwards.
        """
        post = draft.post
        media = draft.links or draft.pictures
        topics = self.topics.match(subject_of(draft, (one.alt for one in media), has_images=bool(media)))
        if not topics and not self._keep_all and post.id not in self._sent:
            self.tally.skipped[UNMATCHED] += 1
            return None
        if not self._pictures.overtake(post.id, post.revision):
            self.tally.skipped[REPEATED] += 1
            return None
        if draft.warnings:
            self.tally.warnings.update(draft.warnings)
        return msgspec.structs.replace(post, topics=topics) if topics else post

    def _remember(self, post_id: str) -> None:
        self._sent[post_id] = None
        if len(self._sent) > REMEMBERED:
            for oldest in list(islice(self._sent, REMEMBERED // 10)):
                del self._sent[oldest]

    async def _send_held(self, post: Post, held: Held) -> None:
        held.hold()
        try:
            await self._sink.send(post, held.release)
        except asyncio.CancelledError:  # it waited for room, and was not sent
            held.release()
            raise
