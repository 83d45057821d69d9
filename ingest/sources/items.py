"""What a source yields, and what it must look like.

A source is one upstream and an async iterator of `Item`. It knows the upstream's format and nothing else: pictures are
made safe, topics matched and records sent by the service, alike for all sources.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator, Iterator
from itertools import islice
from typing import Literal, Protocol, TypeVar, runtime_checkable

import msgspec

from ingest.contract import Deletion, Label, Post
from ingest.sources.live import SourceState

Kind = Literal["live", "sample", "replay"]


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """Image bytes as the upstream gave them: of any kind, not to be trusted.

    width, height: of the original where the upstream shrank it before; alt: the author's description;
    words: where an archive of ours has them already.
    """

    data: bytes
    alt: str = ""
    width: int | None = None
    height: int | None = None
    words: str | None = None


class MediaLink(msgspec.Struct, frozen=True, kw_only=True):
    """A picture still to be fetched, in the smallest rendition the source offers that has 256 px on its short side.

    width, height: of the original, where the source tells; alt: the author's description.
    """

    url: str
    alt: str = ""
    width: int | None = None
    height: int | None = None


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A post still without its images and topics.

    pictures: at hand; links: to be fetched (a live source's), only once the post is known to be wanted;
    warnings: what was odd about it, in short phrases that are counted.
    The rest is for queries alone and never sent on. handle: the author's readable name; reply_to: of the author
    answered; urls: its links, expanded, where the text does not spell them out.
    """

    post: Post
    pictures: tuple[Picture, ...] = ()
    links: tuple[MediaLink, ...] = ()
    warnings: tuple[str, ...] = ()
    handle: str | None = None
    reply_to: str | None = None
    urls: tuple[str, ...] = ()
    is_reply: bool = False
    is_retweet: bool = False
    is_quote: bool = False
    has_video: bool = False


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


@runtime_checkable
class Counted(Protocol):
    """An archive that may tell how many items it has, for far less than it takes to read them."""

    def count(self) -> int | None:
        """Those skipped included; None where only reading all of it would tell."""


class LiveSource(Source, Protocol):
    """An upstream without end, `kind` "live". It reconnects by itself; what cannot be mended is raised.

    cursor: where a new connection would start so as to miss nothing after the item yielded last (that item itself may
    come again); None where the upstream cannot go back. Kept by the service once Kafka has acknowledged the item, and
    given back as SourceOptions.cursor after a restart.
    state: what a person wants to know of it now, changed in place.
    media_hosts: hosts its pictures come from ("cdn.bsky.app"; "*.example.org" is any host under it), nothing else is
    fetched unless the user allows it.
    """

    @property
    def cursor(self) -> str | None: ...
    @property
    def state(self) -> SourceState: ...
    @property
    def media_hosts(self) -> tuple[str, ...]: ...


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
