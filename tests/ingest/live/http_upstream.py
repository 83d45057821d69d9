"""What adapters of HTTP protocols share: a server of their routes, a stage, and answers to polls that break off."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from aiohttp import web

from ingest.sources.items import Item
from tests.ingest.live.http_stream import Handler, HttpConnection, http_server
from tests.ingest.live.upstream import Cut, Raw, Script, Stage, Stall, Upstream, Waits


class HttpUpstream(Upstream):
    """An adapter says its `routes`, and the rest of what an Upstream has. Without a payload file nothing is read."""

    payload: str | None = None

    def __init__(self) -> None:
        self.address = ""
        self.waits = Waits()
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.address = await self._exits.enter_async_context(http_server(self.routes()))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._exits.aclose()

    def routes(self) -> Mapping[str, Handler]:
        """As http_server takes them."""
        raise NotImplementedError

    def play(self, script: Script) -> None:
        self.stage = Stage(self, script)

    def payload_events(self, data: bytes) -> Iterable[Raw]:
        return ()

    def check_payload(self, items: Sequence[Item]) -> None:
        raise AssertionError("there is no payload file of this protocol")

    async def answer_poll(
        self, request: web.Request, body: bytes, end: Cut | Stall | None, *, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        """The body in the script's chunks, whole or broken off as `end` says."""
        connection = HttpConnection(request, headers=headers, chunk_bytes=self.stage.chunk_bytes)
        if end is None:
            await connection.response.prepare(request)
            await connection.send(body)
            return connection.response
        async with connection:
            if end.torn is not None or isinstance(end, Stall):
                await connection.send_part(body[: len(body) // 2], slowly=isinstance(end, Stall))
            if isinstance(end, Stall):
                await asyncio.Event().wait()
        return connection.response
