"""Reads a live source up to a point, or beside what a test does to its server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Final

from ingest.sources.items import Item, LiveSource

PATIENCE_S: Final = 10.0


async def take(source: LiveSource, count: int) -> list[Item]:
    """Its first items; TimeoutError if it takes too long."""
    items: list[Item] = []
    async with asyncio.timeout(PATIENCE_S), aclosing(aiter(source)) as stream:
        async for item in stream:
            items.append(item)
            if len(items) == count:
                break
    return items


@asynccontextmanager
async def reading(source: LiveSource) -> AsyncIterator[list[Item]]:
    """The source is read meanwhile; its items so far."""
    items: list[Item] = []

    async def read() -> None:
        async with aclosing(aiter(source)) as stream:
            async for item in stream:
                items.append(item)

    task = asyncio.create_task(read())
    try:
        yield items
    finally:
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled():
        task.result()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)
