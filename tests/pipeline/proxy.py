"""A bad network: a TCP proxy that delays, falls silent or cuts, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

CHUNK: Final = 64 << 10


class Proxy:
    """From `port` to another port of this machine; use as `with`.

    delay_s: how much later bytes arrive, either way. `stall`: connections stay, nothing passes, as when a cable is
    pulled; `cut`: they are reset, and new ones refused; `heal` ends both.
    """

    def __init__(self, port: int, target: int) -> None:
        self.port, self.target = port, target
        self.delay_s = 0.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{port}")
        self._flows = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def __enter__(self) -> Proxy:
        self._thread.start()
        self.heal()
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def stall(self) -> None:
        self._call(self._stall)

    def cut(self) -> None:
        self._call(self._cut)

    def heal(self) -> None:
        self._call(self._heal)

    def _call(self, what: Callable[[], Awaitable[None]]) -> None:
        async def called() -> None:
            await what()

        asyncio.run_coroutine_threadsafe(called(), self._loop).result(timeout=5)

    async def _stall(self) -> None:
        self._flows.clear()

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()

    async def _heal(self) -> None:
        self._flows.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._connect, "127.0.0.1", self.port)

    async def _close(self) -> None:
        await self._cut()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            for task in self._pumping(source, sink):
                self._pumps.add(task)
                task.add_done_callback(self._pumps.discard)

    def _pumping(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> tuple[asyncio.Task[None], asyncio.Task[None]]:
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def take() -> None:
            data = b"."
            while data:
                try:
                    data = await source.read(CHUNK)
                except ConnectionError:
                    data = b""
                late.put_nowait((self._loop.time() + self.delay_s, data))

        async def give() -> None:
            while True:
                due_s, data = await late.get()
                await asyncio.sleep(due_s - self._loop.time())
                await self._flows.wait()
                if not data or sink.transport.is_closing():
                    break
                sink.write(data)
                with suppress(ConnectionError):
                    await sink.drain()
            sink.transport.abort()
            self._writers.discard(sink)

        return self._loop.create_task(take()), self._loop.create_task(give())
