"""Feeds of X besides the stream of posts, and all of them read side by side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final

from ingest.authors import AuthorHash
from ingest.errors import BadCredentials
from ingest.sources.items import Item
from ingest.sources.live import UNREADABLE, SourceState
from ingest.sources.x_compliance import SeenPosts, outcome_of, read_events
from ingest.sources.x_connection import Connection

MAX_WAITING: Final = 64

Feed = AsyncGenerator[Item, None]


async def compliance(connection: Connection, *, seen: SeenPosts, authors: AuthorHash, state: SourceState) -> Feed:
    """Deletions a compliance stream tells of; `state` counts the rest."""
    async with aclosing(connection.lines()) as lines:
        async for line in lines:
            state.events += 1
            try:
                events = read_events(line).data
            except UNREADABLE:
                state.skipped["malformed compliance message"] += 1
                continue
            at = datetime.now(UTC)
            for kind, event in events.items():
                deletion, reason = outcome_of(kind, event, seen=seen, authors=authors, at=at)
                if deletion is not None:
                    yield deletion
                else:
                    state.skipped[reason] += 1


async def optional(feed: Feed, channel: str) -> Feed:
    """A feed not every app may read: a refusal names the channel to leave out."""
    try:
        async with aclosing(feed):
            async for item in feed:
                yield item
    except BadCredentials as error:
        raise BadCredentials(f"{error}; or leave out --channel {channel}") from error


async def merged(feeds: Sequence[Feed]) -> Feed:
    """The items of endless feeds as they come; the first error of one ends them all, after the items before it."""
    waiting: asyncio.Queue[Item | Exception] = asyncio.Queue(MAX_WAITING)

    async def pump(feed: Feed) -> None:
        try:
            async with aclosing(feed):
                async for item in feed:
                    await waiting.put(item)
        except Exception as error:
            await waiting.put(error)

    pumps = [asyncio.create_task(pump(feed)) for feed in feeds]
    try:
        while True:
            item = await waiting.get()
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
