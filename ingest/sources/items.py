"""What a source yields, and what it must look like.

A source is one upstream and an async iterator of `Item`. It knows the upstream's format and nothing else: pictures are
made safe, topics matched and records sent by the service, alike for all sources.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator, Iterator
from itertools import islice
from typing import Literal, Protocol, TypeVar

import msgspec

from ingest.contract import Deletion, Label, Post

Kind = Literal["live", "sample", "replay"]


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """Image bytes as the upstream gave them: of any kind, not to be trusted.

    width, height: of the original where the upstream shrank it before; alt: the author's description.
    """

    data: bytes
    alt: str = ""
    width: int | None = None
    height: int | None = None


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A post still without its images and topics.

    handle: the author's readable name for `from:` queries, never sent on;
    warnings: what was odd about it, in short phrases that are counted.
    """

    post: Post
    pictures: tuple[Picture, ...] = ()
    handle: str | None = None
    warnings: tuple[str, ...] = ()


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """An upstream item that makes no post; `reason` is a short phrase that is counted, `item` says which one."""

    reason: str
    item: str = ""


Item = Draft | Deletion | Skipped


class Source(Protocol):
    """One upstream. `name` is what the user called it; a `replay` ends by itself and is paced by the service."""

    name: str
    kind: Kind

    def __aiter__(self) -> AsyncGenerator[Item, None]: ...


_LABELS: dict[str, Label] = {
    **dict.fromkeys(("positive", "pos", "positiv", "positif", "positivo", "+", "good"), "positive"),
    **dict.fromkeys(("neutral", "neu", "neut", "neutre", "neutro"), "neutral"),
    **dict.fromkeys(("negative", "neg", "negativ", "négatif", "negativo", "-", "bad"), "negative"),
}


def label_of(word: str) -> Label | None:
    """Ground truth in its common spellings; None for any other word, plain numbers included: their order varies."""
    return _LABELS.get(word.strip().casefold())


_T = TypeVar("_T")


async def in_thread(blocking: Iterator[_T], *, chunk: int) -> AsyncGenerator[_T, None]:
    """Runs a blocking iterator in a thread, `chunk` items at a time: the event loop stays free, memory bounded."""
    try:
        while items := await asyncio.to_thread(lambda: list(islice(blocking, chunk))):
            for item in items:
                yield item
    finally:
        # A cancelled read still runs in its thread, where it cannot be closed; it then ends with its chunk.
        if isinstance(blocking, Generator):
            with contextlib.suppress(ValueError):
                blocking.close()
