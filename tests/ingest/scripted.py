"""A live source that says what a test tells it to, when it is told; and its pictures, which come when let go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from ingest.contract import Image
from ingest.media.sanitize import make_safe
from ingest.sources.items import Item, Kind, MediaLink, Picture
from ingest.sources.live import SourceState


class Scripted:
    """The cursor is the number of items yielded, or always None if it `forgets`; `error` comes at the end, `refusal`
    is the answer to new topics."""

    kind: Kind = "live"
    media_hosts: tuple[str, ...] = ()

    def __init__(self, *items: Item, endless: bool = False, forgets: bool = False) -> None:
        self.name, self.state = "scripted", SourceState("live", "told what to say")
        self.cursor: str | None = None if forgets else "0"
        self.error: Exception | None = None
        self.refusal: Exception | None = None
        self.followed: list[dict[str, str]] = []
        self._items: asyncio.Queue[Item | None] = asyncio.Queue()
        self.say(*items)
        if not endless:
            self.end()

    def say(self, *items: Item) -> None:
        for item in items:
            self._items.put_nowait(item)

    def end(self) -> None:
        self._items.put_nowait(None)

    async def follow(self, queries: dict[str, str]) -> None:
        self.followed.append(dict(queries))
        if self.refusal is not None:
            raise self.refusal

    async def __aiter__(self) -> AsyncGenerator[Item, None]:
        number = 0
        while (item := await self._items.get()) is not None:
            number += 1
            self.cursor = None if self.cursor is None else str(number)
            self.state.events += 1
            yield item
        if self.error is not None:
            raise self.error


class Pictures:
    """Gives `jpeg` for every link, but for those in `held` only when they are let go; `asked` are the links asked for.

    errors: by URL, what is raised instead.
    """

    def __init__(self, jpeg: bytes, *held: str, errors: dict[str, Exception] | None = None) -> None:
        self.asked: list[str] = []
        self._jpeg, self._errors = jpeg, errors or {}
        self._held = {url: asyncio.Event() for url in held}

    def let_go(self, url: str) -> None:
        self._held[url].set()

    async def __call__(self, media: MediaLink | Picture) -> Image:
        assert isinstance(media, MediaLink)
        self.asked.append(media.url)
        if media.url in self._held:
            await self._held[media.url].wait()
        if media.url in self._errors:
            raise self._errors[media.url]
        return make_safe(self._jpeg, alt=media.alt)
