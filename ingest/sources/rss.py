"""RSS and Atom feeds, each polled at the pace it asks for; an unchanged feed costs one small answer.

An entry that leaves its feed is not taken for deleted: feeds only show their newest.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing, closing, suppress
from datetime import UTC, datetime
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

import httpx

from ingest.authors import AuthorHash
from ingest.contract import EDIT_STEP
from ingest.errors import BadSource
from ingest.media.guard import Resolve, SystemResolver
from ingest.sources.items import Item, Kind, LiveSource, Skipped
from ingest.sources.lanes import Lane, LaneEnded, Lanes, Sleep
from ingest.sources.live import MAX_AGE, Backoff, SourceState
from ingest.sources.patient_http import DEADLINE_S, Answer, open_client, refusal
from ingest.sources.rss_document import Document, read_document
from ingest.sources.rss_entries import SOURCE, digest, draft_of, entry_id, revision, revision_after, written_at
from ingest.sources.rss_redirects import PrivateTarget, follow

if TYPE_CHECKING:  # it opens this source
    from ingest.sources.detect import SourceOptions

BACKOFF: Final = Backoff(first=2.0, factor=2.0, ceiling=3600.0)
PACE_S: Final = 300.0
"""For feeds that tell none."""
FASTEST_PACE_S: Final = 60.0
SLOWEST_PACE_S: Final = 3600.0
MAX_KNOWN: Final = 5_000
"""Entries remembered per feed."""
ACCEPT: Final = "application/atom+xml, application/rss+xml, application/rdf+xml, application/xml;q=0.9, */*;q=0.1"


class Rss:
    """Entries of feeds, from those of the last two days on.

    feeds: their addresses. deadline_s: a document that takes longer is given up. resolve: host and port → addresses,
    the operating system's by default.
    """

    name = SOURCE
    kind: Kind = "live"

    def __init__(
        self,
        *,
        authors: AuthorHash,
        feeds: Sequence[str],
        cursor: str | None = None,
        backoff: Backoff = BACKOFF,
        sleep: Sleep = asyncio.sleep,
        deadline_s: float = DEADLINE_S,
        resolve: Resolve | None = None,
    ) -> None:
        self.state = SourceState()
        self._lanes = Lanes(self.state, backoff=backoff, sleep=sleep, cursor=cursor)
        self._authors, self._sleep, self._deadline_s, self._resolve = authors, sleep, deadline_s, resolve
        self._feeds = {feed.name: feed for feed in map(_Feed, feeds)}
        if not self._feeds:
            raise BadSource("there is no feed to read: give the address of one, such as https://example.org/feed.xml")
        self.media_hosts = tuple(dict.fromkeys(feed.media_host for feed in self._feeds.values()))

    @property
    def cursor(self) -> str | None:
        """ETag and Last-Modified of each feed's document that was read to its end."""
        return self._lanes.cursor

    async def __aiter__(self) -> AsyncGenerator[Item, None]:
        for feed in self._feeds.values():
            feed.forget()  # what was read but not handed on is read again
        with closing(SystemResolver()) as system:
            async with open_client(timeout_s=self._deadline_s, follow_redirects=False) as client:
                get = partial(follow, client, resolve=self._resolve or system, deadline_s=self._deadline_s)
                readers = {name: partial(self._poll, get, feed) for name, feed in self._feeds.items()}
                async with aclosing(self._lanes.read(readers)) as items:
                    async for item in items:
                        yield item

    async def _poll(self, get: Callable[..., Awaitable[Answer]], feed: _Feed, lane: Lane) -> None:
        headers = {"Accept": ACCEPT, **_conditions(lane.position)}
        try:
            answer = await get(feed.url, own_url=feed.first_url, headers=headers)
        except PrivateTarget:
            self.state.skipped["redirect to an address that is not public"] += 1
            raise
        if answer.moved:
            feed.url = answer.url
        if answer.status == 200:
            content_type = answer.headers.get("content-type", "")
            document = await read_document(answer.body, url=answer.url, content_type=content_type)
            lane.answered()
            await self._take(document, answer, feed, lane)
            feed.pace_s = _pace_s(document, answer.headers)
        elif answer.status in (401, 410):
            raise LaneEnded(f"HTTP {answer.status}: the feed is gone, or wants a login; leave it out")
        elif answer.status != 304:
            raise refusal(answer.status, answer.headers)
        lane.answered()
        lane.live(f"read, again in {feed.pace_s:.0f} s")
        await self._sleep(feed.pace_s)

    async def _take(self, document: Document, answer: Answer, feed: _Feed, lane: Lane) -> None:
        """Its news, oldest first; only the last one moves the position, for a document is read whole or again."""
        if document.is_broken:
            self.state.skipped["broken XML, read as far as it goes"] += 1
        names = [name for entry in document.entries if (name := entry_id(entry, feed.first_url))]
        if names and feed.has_lost_touch(names):
            lane.gap(f"all {len(names)} entries are new: others may have left the feed unread")
        items = [item for entry in _by_time(document.entries) if (item := self._item(entry, document, feed))]
        position = [answer.headers.get("etag"), answer.headers.get("last-modified")]
        for item in items[:-1]:
            await lane.put(item, lane.position or [None, None])
        await lane.put(items[-1] if items else None, position)

    def _item(self, entry: Any, document: Document, feed: _Feed) -> Item | None:
        """None for what was read before."""
        name = entry_id(entry, feed.first_url)
        if name is None:
            mark = digest(entry).hex()
            is_news = feed.news(mark, 0, b"", None) is not None
            return Skipped(reason="entry without id, link and text", item=feed.name) if is_news else None
        at = written_at(entry)
        number = feed.news(name, revision(entry), digest(entry), at)
        if number is None:
            return None
        if at is not None and not number and datetime.now(UTC) - at > MAX_AGE:
            return Skipped(reason="older than two days", item=name)
        return draft_of(entry, name, number, feed=document.feed, feed_url=feed.first_url, authors=self._authors)


class _Known(NamedTuple):
    revision: int
    digest: bytes


class _Feed:
    """A feed's address, its pace, and its entries that were read.

    name: what may be shown and kept of the address; a password or a key in it may not.
    """

    def __init__(self, url: str) -> None:
        with suppress(ValueError):
            parts = urlsplit(url)
            if parts.scheme in ("http", "https") and parts.hostname:
                port = f":{parts.port}" if parts.port else ""
                self.name = f"{parts.hostname}{port}#{blake2b(url.encode(), digest_size=4).hexdigest()}"
                self.media_host = f"{parts.hostname}{port}" if parts.scheme == "http" else parts.hostname
                self.first_url = self.url = url
                self.pace_s = PACE_S
                self.forget()
                return
        raise BadSource(f"{_without_secrets(url)!r} is no feed's address: write https://…")

    def forget(self) -> None:
        self._known: dict[str, _Known] = {}

    def has_lost_touch(self, names: Iterable[str]) -> bool:
        """None of the entries is known, though some of an earlier document are: others may have come and gone."""
        return bool(self._known) and self._known.keys().isdisjoint(names)

    def news(self, name: str, number: int, content: bytes, at: datetime | None) -> int | None:
        """The revision by which an entry is new, None if it is not. Many feeds change words and tell no date."""
        known = self._known.get(name)
        if known is not None and known.digest == content:
            return None
        if known is not None and number <= known.revision:
            age_s = (datetime.now(UTC) - at).total_seconds() if at else 0
            number = max(revision_after(age_s), known.revision + EDIT_STEP)
        elif known is None and len(self._known) >= MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[name] = _Known(number, content)
        return number


def open_rss(options: SourceOptions) -> LiveSource:
    """`options.channels` are the addresses of the feeds."""
    if options.hosts:
        raise BadSource("--host: feeds are named by their whole address, with --channel; leave it out")
    return Rss(authors=options.authors, feeds=options.channels, cursor=options.cursor)


def _conditions(position: Any) -> dict[str, str]:
    """What makes the server answer 304 if nothing changed since `position`."""
    if not (isinstance(position, list) and len(position) == 2):
        return {}
    etag, modified = position
    named = {"If-None-Match": etag, "If-Modified-Since": modified}
    return {name: value for name, value in named.items() if isinstance(value, str) and value.isprintable()}


def _pace_s(document: Document, headers: httpx.Headers) -> float:
    """The slowest pace that document and server tell, within reason."""
    told = [document.pace_s] if document.pace_s else []
    if max_age := re.search(r"max-age=(\d{1,9})", headers.get("cache-control", "")):
        told.append(float(max_age[1]))
    return min(max(max(told, default=PACE_S), FASTEST_PACE_S), SLOWEST_PACE_S)


def _by_time(entries: list[Any]) -> list[Any]:
    """Oldest first; feeds list their newest first, and those without a date are as old as their place says."""
    oldest = datetime.min.replace(tzinfo=UTC)
    return sorted(reversed(entries), key=lambda entry: written_at(entry) or oldest)


def _without_secrets(url: str) -> str:
    return url.partition("?")[0].rpartition("@")[2][:80]
