"""Plays scripts to X's source."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Final

from ingest.authors import AuthorHash
from ingest.sources.items import Item, LiveSource
from tests.ingest.live.upstream import Raw, Script, Step
from tests.ingest.live.x_server import XUpstream

AUTHORS: Final = AuthorHash(b"key")
NOON: Final = datetime(2026, 11, 22, 12, tzinfo=UTC)


async def read(source: LiveSource, number: int) -> list[Item]:
    """So many items."""
    items: list[Item] = []
    async with asyncio.timeout(10), aclosing(aiter(source)) as stream:
        async for item in stream:
            items.append(item)
            if len(items) == number:
                break
    return items


async def play(x: XUpstream, *steps: Step, number: int, **options: Any) -> list[Item]:
    x.play(Script(steps))
    return await read(x.open(**options), number)


def raw(message: Any) -> Raw:
    """The message as one line of the stream."""
    return Raw(json.dumps(message).encode())


class Clock:
    """Says it is `at`."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at
