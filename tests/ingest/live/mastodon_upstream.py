"""A Mastodon server of two parts, streaming and REST, and the adapter that puts scripts on its public timeline."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from aiohttp import web

from ingest.authors import AuthorHash
from ingest.sources.items import Item, LiveSource
from ingest.sources.mastodon import Mastodon
from tests.ingest.live.http_stream import Handler, HttpConnection, refused
from tests.ingest.live.http_upstream import HttpUpstream
from tests.ingest.live.upstream import (
    READ_TIMEOUT_S,
    Create,
    Delete,
    Edit,
    Event,
    Heartbeat,
    Malformed,
    Noise,
    Raw,
    drafts_of,
    text_of,
    time_of,
)

MADE_UP_TOKEN: Final = "made-up-token-of-mastodon"
_MALFORMED: Final = (
    b'event: update\ndata: {"id":"1","created_at":\n\n',
    b"event: update\ndata: [1, 2]\n\n",
    b'event: update\ndata: {"id":"7","created_at":"2026-01-01T00:00:00Z","content":"\xff\xfe"}\n\n',
    b'event: update\ndata: {"id":"7","created_at":"yesterday","account":{"acct":"ann"}}\n\n',
    b"event: delete\ndata: {not an id}\n\n",
    b"event: status.update\ndata: undefined\n\n",
)


def number_of(number: int) -> str:
    """Mastodon's own number of a status: milliseconds and 16 bits."""
    return str(int(time_of(number).timestamp() * 1000) << 16)


def made_up_status(number: int, address: str, *, edit: int = 0, pictures: int = 0, **changes: Any) -> dict[str, Any]:
    """A status as the API gives it."""
    edited_at = time_of(number + 10 * edit).isoformat() if edit else None
    account = {
        "id": "42",
        "acct": "ann",
        "username": "ann",
        "url": f"{address}/@ann",
        "bot": False,
        "noindex": False,
        "note": "<p>trams</p>",
        "followers_count": 17,
    }
    text = text_of(number, edit).replace("&", "&amp;")
    return {
        "id": number_of(number),
        "uri": f"{address}/users/ann/statuses/{number_of(number)}",
        "url": f"{address}/@ann/{number_of(number)}",
        "created_at": time_of(number).isoformat().replace("+00:00", "Z"),
        "edited_at": edited_at,
        "visibility": "public",
        "sensitive": False,
        "spoiler_text": "",
        "language": "de",
        "content": f"<p>{text}</p>",
        "reblog": None,
        "account": account,
        "media_attachments": [made_up_picture(address, place) for place in range(pictures)],
    } | changes


def made_up_picture(address: str, place: int = 0) -> dict[str, Any]:
    return {
        "id": str(place),
        "type": "image",
        "url": f"{address}/media/{place}.png",
        "preview_url": f"{address}/media/{place}-small.png",
        "description": "a tram",
        "meta": {"original": {"width": 1200, "height": 900, "size": "1200x900", "aspect": 1.33}},
    }


def sse(kind: str, data: str) -> bytes:
    return f"event: {kind}\ndata: {data}\n\n".encode()


class MastodonUpstream(HttpUpstream):
    """The public timeline of one server; what happened while nobody listened stands in its REST timeline."""

    name = "mastodon"
    resumes = True
    edits = True
    deletes = True
    polled = False
    credentials = (MADE_UP_TOKEN,)
    malformed = len(_MALFORMED)
    payload = "mastodon_stream.sse"

    def routes(self) -> Mapping[str, Handler]:
        return {
            "GET /api/v2/instance": self._instance,
            "GET /api/v1/streaming/public": self._stream,
            "GET /api/v1/timelines/public": self._timeline,
            "GET /api/v1/statuses": self._statuses,
        }

    def open(self, *, cursor: str | None = None) -> LiveSource:
        return Mastodon(
            authors=AuthorHash(b"key"),
            servers=(self.address,),
            tokens={self.address.removeprefix("http://"): MADE_UP_TOKEN},
            cursor=cursor,
            sleep=self.waits,
            silence_s=READ_TIMEOUT_S,
        )

    def post_id(self, number: int) -> str:
        return f"mastodon:{self.address.removeprefix('http://')}/{number_of(number)}"

    def render(self, event: Event, place: int) -> bytes:
        match event:
            case Create(number, pictures):
                return sse("update", json.dumps(made_up_status(number, self.address, pictures=pictures)))
            case Edit(number, edit):
                return sse("status.update", json.dumps(made_up_status(number, self.address, edit=edit)))
            case Delete(number):
                return sse("delete", number_of(number))
            case Noise():
                return sse("filters_changed", "undefined")
            case Heartbeat():
                return b":thump\n"
            case Malformed(variant):
                return _MALFORMED[variant]
            case Raw(data):
                return data

    def statuses(self) -> dict[str, dict[str, Any]]:
        """The timeline as it stands, by number."""
        found: dict[str, dict[str, Any]] = {}
        for event in self.stage.log:
            if isinstance(event, Create):
                status = made_up_status(event.number, self.address, pictures=event.pictures)
                found.setdefault(number_of(event.number), status)
            elif isinstance(event, Edit):
                found[number_of(event.number)] = made_up_status(event.number, self.address, edit=event.edit)
            elif isinstance(event, Delete):
                found.pop(number_of(event.number), None)
        return found

    async def _instance(self, request: web.Request) -> web.Response:
        urls = {"streaming": self.address.replace("http", "ws", 1)}
        return web.json_response({"configuration": {"urls": urls}, "thumbnail": {"url": f"{self.address}/a.png"}})

    async def _timeline(self, request: web.Request) -> web.Response:
        after, limit = int(request.query.get("min_id", "0")), int(request.query["limit"])
        page = sorted((s for s in self.statuses().values() if int(s["id"]) > after), key=lambda s: int(s["id"]))
        chosen = page[:limit] if "min_id" in request.query else page[-limit:]
        return web.json_response(chosen[::-1])

    async def _statuses(self, request: web.Request) -> web.Response:
        numbers = request.query.getall("id[]")[:20]
        return web.json_response([status for number, status in self.statuses().items() if number in numbers])

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        if (refusal := self.stage.refusal()) is not None:
            return refused(request, refusal)
        connection = HttpConnection(
            request,
            headers={"Content-Type": "text/event-stream"},
            chunk_bytes=self.stage.chunk_bytes,
            heartbeat=b":thump\n",
        )
        async with connection:
            await connection.send(b":)\n")
            await self.stage.play(connection)
            await asyncio.sleep(0)
        return connection.response

    def payload_events(self, data: bytes) -> Iterable[Raw]:
        return [Raw(event.rstrip(b"\n") + b"\n\n") for event in data.split(b"\n\n") if event.strip()]

    def check_payload(self, items: Sequence[Item]) -> None:
        (draft,) = drafts_of(items)
        assert draft.post.id == "mastodon:localhost:3000/117024248092393661"
        assert (draft.post.text, draft.post.lang, draft.post.reach) == ("it's cool guy", "ja", 0)
        assert not draft.links and not draft.post.sensitive
