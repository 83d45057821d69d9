"""A web server that says anything it is told to, byte for byte, over real sockets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType

Talk = Callable[[asyncio.StreamWriter], Awaitable[None]]


def answer(body: bytes = b"", *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """A whole response; `length` is what it claims of its body."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def redirect(target: str, status: str = "302 Found") -> bytes:
    return answer(b"", f"Location: {target}", status=status)


class HostileServer:
    """Serves `pages`: path → the bytes of a response, or a function that writes it to the connection.

    requests: each request's lines in the order they came; most_at_once: requests in progress at a time.
    """

    def __init__(self, pages: dict[str, bytes | Talk] | None = None, *, tls: ssl.SSLContext | None = None) -> None:
        self.pages = dict(pages or {})
        self._tls = tls
        self.requests: list[list[str]] = []
        self.most_at_once = 0
        self._at_once = 0
        self._talks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> HostileServer:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    def url(self, path: str) -> str:
        return f"http://{self.address}{path}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.current_task()
        assert talk is not None
        self._talks.add(talk)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    await self._serve(await reader.readuntil(b"\r\n\r\n"), writer)
        except asyncio.CancelledError:
            pass  # the server closes; asyncio would report it
        finally:
            self._talks.discard(talk)
            writer.close()

    async def _serve(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        lines = head.decode("latin-1").split("\r\n")
        self.requests.append(lines[:-2])
        page = self.pages.get(lines[0].split(" ")[1].partition("?")[0], answer(status="404 Not Found"))
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            if isinstance(page, bytes):
                writer.write(page)
            else:
                await page(writer)
            await writer.drain()
        finally:
            self._at_once -= 1
