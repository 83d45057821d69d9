"""A site with one feed, RSS or Atom, that knows ETags; and the adapter that puts scripts into it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from email.utils import format_datetime
from typing import Final
from xml.sax.saxutils import escape

from aiohttp import web

from ingest.authors import AuthorHash
from ingest.sources.items import LiveSource
from ingest.sources.rss import Rss
from ingest.sources.rss_entries import entry_id
from tests.ingest.live.http_stream import Handler, refused
from tests.ingest.live.http_upstream import HttpUpstream
from tests.ingest.live.upstream import (
    READ_TIMEOUT_S,
    Create,
    Edit,
    Event,
    Malformed,
    text_of,
    time_of,
)

_MALFORMED: Final = ("<item/>", "</wrong>")


def made_up_item(number: int, *, edit: int = 0, pictures: int = 0) -> str:
    """An entry as RSS 2.0 has it."""
    url = f"https://example.org/trams/{number}"
    media = "".join(
        f'<media:content medium="image" url="https://example.org/{number}-{place}.jpg" width="1200" height="800"/>'
        for place in range(pictures)
    )
    updated = f"<atom:updated>{time_of(number + 10 * edit).isoformat()}</atom:updated>" if edit else ""
    return (
        f"<item><title>{escape(text_of(number, edit))}</title><link>{url}</link><guid>{url}</guid>"
        f"<author>ann@example.org</author><pubDate>{format_datetime(time_of(number))}</pubDate>{updated}{media}</item>"
    )


def made_up_feed(items: Iterable[str]) -> bytes:
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        '<rss version="2.0" xmlns:media="http://search.yahoo.com/mrss/" xmlns:atom="http://www.w3.org/2005/Atom">'
        f"<channel><title>Trams</title><language>de-DE</language><ttl>1</ttl>{''.join(items)}</channel></rss>"
    ).encode()


class RssUpstream(HttpUpstream):
    """One feed. Every poll moves the script on to its next break."""

    name = "rss"
    resumes = True
    edits = False  # a feed shows an entry as it is now: see test_rss.py
    deletes = False
    polled = True
    credentials = ()
    malformed = len(_MALFORMED)

    def routes(self) -> Mapping[str, Handler]:
        return {"GET /feed.xml": self._feed}

    def open(self, *, cursor: str | None = None) -> LiveSource:
        return Rss(
            authors=AuthorHash(b"key"),
            feeds=(f"{self.address}/feed.xml",),
            cursor=cursor,
            sleep=self.waits,
            deadline_s=READ_TIMEOUT_S,
        )

    def post_id(self, number: int) -> str:
        name = entry_id({"id": f"https://example.org/trams/{number}"}, "")
        assert name is not None
        return name

    def render(self, event: Event, place: int) -> bytes:
        match event:
            case Create(number, pictures):
                return made_up_item(number, pictures=pictures).encode()
            case Edit(number, edit):
                return made_up_item(number, edit=edit).encode()
            case Malformed(variant):
                return _MALFORMED[variant].encode()
            case _:
                return b""

    async def _feed(self, request: web.Request) -> web.StreamResponse:
        self.stage.connected += 1
        try:
            return await self._answer(request)
        finally:
            self.stage.connected -= 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if (refusal := self.stage.refusal()) is not None:
            return refused(request, refusal)
        end = self.stage.poll()
        body = made_up_feed(self.render(event, place).decode() for place, event in enumerate(self.stage.log[::-1]))
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        if end is None and request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers={"ETag": etag})
        headers = {"Content-Type": "application/rss+xml; charset=utf-8", "ETag": etag}
        return await self.answer_poll(request, body, end, headers=headers)
