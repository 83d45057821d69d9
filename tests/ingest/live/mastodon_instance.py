"""A Mastodon server under a test's hand: any channel, statuses said when the test says so, refusals on any path."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from tests.ingest.live.http_stream import HttpConnection, http_server
from tests.ingest.live.mastodon_upstream import sse

STREAMS = "/api/v1/streaming/"
_CUT = b""


class Instance:
    """timeline: what its REST timelines show, by number; refusals: path → status; requests: all asked for, in order.

    streaming: what its instance page says of the streaming address; None is itself.
    """

    def __init__(self, *, page: int = 40, recheck: bool = True) -> None:
        self.timeline: dict[str, dict[str, Any]] = {}
        self.refusals: dict[str, int] = {}
        self.requests: list[web.Request] = []
        self.address = ""
        self.streaming: str | None = None
        self._page, self._recheck = page, recheck
        self._streams: defaultdict[str, list[asyncio.Queue[bytes]]] = defaultdict(list)
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.address = await self._exits.enter_async_context(http_server({"GET /{path:.*}": self._answer}))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._exits.aclose()

    @property
    def host(self) -> str:
        return self.address.removeprefix("http://")

    def listeners(self, channel: str = "public") -> int:
        return len(self._streams[channel])

    def write(self, status: dict[str, Any], *, channel: str = "public", kind: str = "update") -> None:
        """On its timeline, and to whoever listens."""
        self.timeline[status["id"]] = status
        self.say(sse(kind, json.dumps(status)), channel)

    def say(self, data: bytes, channel: str = "public") -> None:
        for stream in self._streams[channel]:
            stream.put_nowait(data)

    def cut(self, channel: str = "public") -> None:
        self.say(_CUT, channel)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if (status := self.refusals.get(request.path)) is not None:
            return web.Response(status=status)
        if request.path.startswith(STREAMS):
            return await self._stream(request)
        if request.path == "/api/v2/instance":
            streaming = self.streaming or self.address.replace("http", "ws", 1)
            return web.json_response({"configuration": {"urls": {"streaming": streaming}}})
        if request.path.startswith("/api/v1/timelines/"):
            return web.json_response(self._timeline(request))
        if request.path == "/api/v1/statuses" and self._recheck:
            return web.json_response([self.timeline[n] for n in request.query.getall("id[]") if n in self.timeline])
        return web.Response(status=404)

    def _timeline(self, request: web.Request) -> list[dict[str, Any]]:
        limit = min(int(request.query["limit"]), self._page)
        later = sorted((n for n in self.timeline if int(n) > int(request.query.get("min_id", 0))), key=int)
        chosen = later[:limit] if "min_id" in request.query else later[-limit:]
        return [self.timeline[number] for number in reversed(chosen)]

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        channel = request.path.removeprefix(STREAMS) + "".join(f":{tag}" for tag in request.query.values())
        events: asyncio.Queue[bytes] = asyncio.Queue()
        async with HttpConnection(request, headers={"Content-Type": "text/event-stream"}) as connection:
            await connection.send(b":)\n")
            self._streams[channel].append(events)
            try:
                while (data := await events.get()) != _CUT:
                    await connection.send(data)
            finally:
                self._streams[channel].remove(events)
        return connection.response
