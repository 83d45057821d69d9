"""A local HTTP server whose answers are streams that a script cuts into chunks, tears and stalls."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from tests.ingest.live.upstream import Connection, Refuse

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
HEARTBEAT_EVERY_S: Final = 0.05
SLOWNESS_S: Final = 0.02
SLOW_BYTES: Final = 40


@asynccontextmanager
async def http_server(routes: Mapping[str, Handler], *, port: int = 0) -> AsyncIterator[str]:
    """Serves "METHOD /path" (aiohttp's patterns) → handler; yields http://127.0.0.1:PORT. Ends with all connections."""
    app = web.Application()
    for route, handler in routes.items():
        method, path = route.split(" ", 1)
        app.router.add_route(method, path, handler)
    # A client that leaves cancels its handler: a stalled stream would wait for ever otherwise.
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


def refused(request: web.Request, refusal: Refuse) -> web.Response:
    """The answer to a refused attempt; a redirect leads to where it came from."""
    headers = dict(refusal.headers)
    if 300 <= refusal.status < 400:
        headers["Location"] = str(request.url)
    return web.Response(status=refusal.status, headers=headers)


class HttpConnection(Connection):
    """One streamed answer: each piece a chunk of its own. `heartbeat` is what the protocol sends when nothing happens.

    Use as `async with`: at the end the TCP connection is closed in the middle of the stream; what was sent before
    still arrives.
    """

    def __init__(
        self,
        request: web.Request,
        *,
        headers: Mapping[str, str],
        chunk_bytes: int | None = None,
        heartbeat: bytes | None = None,
    ) -> None:
        self._request = request
        self._chunk_bytes = chunk_bytes
        self._heartbeat = heartbeat
        self.response = web.StreamResponse(headers=headers)

    async def __aenter__(self) -> HttpConnection:
        self.response.enable_chunked_encoding()
        await self.response.prepare(self._request)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._request.transport is not None:
            self._request.transport.close()

    async def send(self, data: bytes) -> None:
        size = self._chunk_bytes or len(data)
        for start in range(0, len(data), size):
            await self.response.write(data[start : start + size])

    async def send_part(self, data: bytes, *, slowly: bool = False) -> None:
        if slowly:
            for byte in data[:SLOW_BYTES]:
                await self.response.write(bytes([byte]))
                await asyncio.sleep(SLOWNESS_S)
        else:
            await self.send(data)

    async def wait_until_gone(self) -> None:
        """A handler is cancelled when its client has gone; until then nothing is sent."""
        await asyncio.Event().wait()

    async def idle(self) -> None:
        """Heartbeats until the client has gone."""
        with contextlib.suppress(ConnectionError):
            while True:
                await asyncio.sleep(HEARTBEAT_EVERY_S)
                if self._heartbeat is not None:
                    await self.response.write(self._heartbeat)
