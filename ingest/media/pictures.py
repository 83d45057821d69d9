"""Pictures of live posts, which come later than their text.

A post waits TEXT_WAITS_S for its pictures, then goes without them and once more, complete, when they are there. What
happens to the post meanwhile ends that: a picture never brings back what was edited or deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Final

import msgspec

from ingest.contract import Image, Post
from ingest.cursors import Held
from ingest.errors import BadSettings, MalformedMedia, MediaUnavailable
from ingest.media.decoding import Decoder
from ingest.media.fetch import MediaFetcher
from ingest.media.words import Words
from ingest.report import EMPTY, Tally
from ingest.sources.items import MediaLink, Picture
from ingest.tasks import cancel

TEXT_WAITS_S: Final = 1.5
MAX_PENDING: Final = 256
"""Posts that wait for pictures at a time; more go without, and are counted."""

ImageOf = Callable[[MediaLink | Picture], Awaitable[Image]]
"""Raises MediaUnavailable or MalformedMedia."""
Send = Callable[[Post, Held], Awaitable[None]]
"""Sends a post, and holds its cursor until it is settled."""


@asynccontextmanager
async def opened_pictures(allowed: Sequence[str], hosts: Callable[[], Sequence[str]]) -> AsyncIterator[ImageOf]:
    """Fetches from the hosts of the user and of the source alone, and makes safe in processes of their own.

    hosts: of the source; more may come to be known once it is connected.
    """
    known = set(hosts())
    async with MediaFetcher(allowed=(*allowed, *known)) as fetcher, Decoder() as decoder:

        async def image_of(media: MediaLink | Picture) -> Image:
            for host in set(hosts()) - known:
                known.add(host)
                with suppress(BadSettings):  # a server may say what it likes
                    fetcher.allow(host)
            data = media.data if isinstance(media, Picture) else await fetcher.fetch(media.url)
            return await decoder.make_safe(data, alt=media.alt, width=media.width, height=media.height)

        yield image_of


class _Pending:
    """A post whose pictures are on their way."""

    def __init__(self, post: Post, held: Held) -> None:
        self.post, self.held = post, held
        self.has_text = bool(post.text.strip())
        self.is_text_sent = False
        self.task: asyncio.Task[None] | None = None


class LatePictures:
    """All posts whose pictures are on their way; `failure` is set to what ends the run.

    words: reads those in pictures of posts without text, if given.
    """

    def __init__(self, image_of: ImageOf, send: Send, tally: Tally, words: Words | None = None) -> None:
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._image_of, self._send, self._tally, self._words = image_of, send, tally, words
        self._pending: dict[str, _Pending] = {}
        self._freed = asyncio.Event()

    @property
    def has_room(self) -> bool:
        return len(self._pending) < MAX_PENDING

    async def room(self) -> None:
        """Returns when one more post may wait for its pictures."""
        while not self.has_room:
            self._freed.clear()
            await self._freed.wait()

    def start(self, post: Post, media: Sequence[MediaLink | Picture], held: Held) -> None:
        """Sends the post with what can be had of `media`, and before that without it if that takes long."""
        pending = self._pending[post.id] = _Pending(post, held)
        pending.task = asyncio.create_task(self._complete(pending, media))
        pending.task.add_done_callback(self._ended)

    def overtake(self, post_id: str, revision: int) -> bool:
        """Makes way for a newer revision; False if the one on its way is as new, and the given one a repetition."""
        pending = self._pending.get(post_id)
        if pending is not None and revision <= pending.post.revision:
            return False
        self.forget(post_id, "edited before its pictures came")
        return True

    def forget(self, post_id: str, reason: str) -> None:
        """Nothing more is sent of the post; if nothing was, it counts as skipped."""
        pending = self._pending.pop(post_id, None)
        if pending is None:
            return
        assert pending.task is not None
        pending.task.cancel()
        pending.held.release()
        self._tally.media["no longer wanted"] += 1
        if not pending.is_text_sent:
            self._tally.skipped[reason] += 1

    def forget_author(self, author: str, reason: str) -> None:
        for post_id in [id for id, pending in self._pending.items() if pending.post.author == author]:
            self.forget(post_id, reason)

    async def finish(self) -> None:
        """Returns when all pictures came or failed."""
        while tasks := {pending.task for pending in self._pending.values() if pending.task is not None}:
            await asyncio.wait({*tasks, self.failure}, return_when=asyncio.FIRST_COMPLETED)
            if self.failure.done():
                self.failure.result()

    async def stop(self) -> None:
        """Sends the text of what still waits. Their cursors stay held: a restart fetches the pictures again."""
        waiting = list(self._pending.values())
        await self.close()
        for pending in waiting:
            await self._send_text(pending)

    async def close(self) -> None:
        waiting = list(self._pending.values())
        self._pending.clear()
        await cancel(*(pending.task for pending in waiting))

    async def _complete(self, pending: _Pending, media: Sequence[MediaLink | Picture]) -> None:
        post, held = pending.post, pending.held
        fetching = asyncio.create_task(self._images(media, reads_words=not pending.has_text))
        try:
            await asyncio.wait({fetching}, timeout=TEXT_WAITS_S)
            is_late = not fetching.done()
            if is_late:
                await self._send_text(pending)
            if images := await fetching:
                # Not the text's own revision, even if this comes first: see EDIT_STEP.
                complete = msgspec.structs.replace(
                    post, images=images, revision=post.revision + 1, ingested_at=datetime.now(UTC)
                )
                await self._send(complete, held)
                self._tally.media["late" if is_late else "in time"] += len(images)
            elif pending.has_text:
                await self._send_text(pending)
            else:
                self._tally.skipped[EMPTY] += 1
        finally:
            await cancel(fetching)
        held.release()
        del self._pending[post.id]

    async def _send_text(self, pending: _Pending) -> None:
        if pending.has_text and not pending.is_text_sent:
            await self._send(pending.post, pending.held)
            pending.is_text_sent = True

    async def _images(self, media: Sequence[MediaLink | Picture], *, reads_words: bool) -> tuple[Image, ...]:
        found = await asyncio.gather(*(self._image(one, reads_words=reads_words) for one in media))
        return tuple(image for image in found if image is not None)

    async def _image(self, media: MediaLink | Picture, *, reads_words: bool) -> Image | None:
        try:
            image = await self._image_of(media)
            return await self._words.read(image, is_patient=False) if reads_words and self._words is not None else image
        except MediaUnavailable as error:
            self._tally.media[f"not fetched: {error.reason}"] += 1
        except MalformedMedia as error:
            self._tally.media[f"refused: {error.reason}"] += 1
        return None

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._freed.set()
        if not task.cancelled() and (error := task.exception()) is not None and not self.failure.done():
            self.failure.set_exception(error)
