"""Pictures made safe in processes of their own, each with a limit on its memory and on the time a picture may take."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from ingest.contract import Image
from ingest.errors import DecoderDown, MalformedMedia
from ingest.media.process import Process
from ingest.media.sandbox import Answer
from ingest.media.sanitize import MAX_BYTES

PROCESSES: Final = 2
LIMIT_S: Final = 5.0
MEMORY_BYTES: Final = 1 << 30
"""Of address space, libraries included; a picture of MAX_PIXELS stays below it in every format (tested)."""
MAX_WAITING_BYTES: Final = 128 << 20
"""Pictures that wait for a process; when each takes as long as it may, they come faster than they go."""


class Decoder:
    """`make_safe` in a bounded pool of processes; an async context manager, at whose end no process is left.

    limit_s: for one picture, from when a process takes it; memory_bytes: for one process.
    """

    def __init__(
        self, *, processes: int = PROCESSES, limit_s: float = LIMIT_S, memory_bytes: int = MEMORY_BYTES
    ) -> None:
        self._workers = [
            Process(
                "ingest.media.sandbox",
                Answer,
                doing="decoding",
                doer="decoder",
                limit_s=limit_s,
                memory_bytes=memory_bytes,
            )
            for _ in range(processes)
        ]
        self._idle: asyncio.LifoQueue[Process[Answer]] = asyncio.LifoQueue()  # the last one used has the warmest caches
        for worker in self._workers:
            self._idle.put_nowait(worker)
        self._asking: dict[asyncio.Task[Answer], Process[Answer]] = {}
        self._waiting_bytes = 0
        self._is_closed = False

    async def __aenter__(self) -> Decoder:
        try:
            started = await asyncio.gather(*(worker.start() for worker in self._workers), return_exceptions=True)
            for problem in started:
                if isinstance(problem, OSError):
                    raise DecoderDown(
                        f"no process comes up to decode pictures ({problem}): free memory or cores for it"
                    )
                if isinstance(problem, BaseException):
                    raise problem
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._close()

    async def _close(self) -> None:
        self._is_closed = True
        for worker in self._workers:
            worker.kill()
        for _ in self._workers:  # each comes back here once the picture it was at is refused
            await (await self._idle.get()).stop()

    @property
    def restarts(self) -> int:
        """Processes replaced because a picture killed them or took too long."""
        return sum(worker.starts - 1 for worker in self._workers)

    async def make_safe(
        self, data: bytes, *, alt: str = "", width: int | None = None, height: int | None = None
    ) -> Image:
        """As `make_safe`, and raises MalformedMedia also for a picture its process did not survive."""
        if len(data) > MAX_BYTES:
            raise MalformedMedia("too large", f"{len(data):,} bytes; at most {MAX_BYTES:,} are read")
        worker = await self._turn(len(data))
        if self._is_closed:
            self._idle.put_nowait(worker)
            raise MalformedMedia("decoder closed")
        asking = asyncio.create_task(worker.ask(data))
        self._asking[asking] = worker
        asking.add_done_callback(self._take_back)
        # Whoever stops waiting leaves the picture to its process: that is done sooner than a new one is there.
        answer = await asyncio.shield(asking)
        if answer.image is None:
            raise MalformedMedia(answer.reason, answer.detail.removeprefix(f"{answer.reason}: "))
        image = answer.image
        return msgspec.structs.replace(image, alt=alt, width=width or image.width, height=height or image.height)

    async def _turn(self, waiting_bytes: int) -> Process[Answer]:
        if self._waiting_bytes + waiting_bytes > MAX_WAITING_BYTES:
            raise MalformedMedia("decoder too busy", f"{self._waiting_bytes:,} bytes of pictures wait for it")
        self._waiting_bytes += waiting_bytes
        try:
            return await self._idle.get()
        finally:
            self._waiting_bytes -= waiting_bytes

    def _take_back(self, asking: asyncio.Task[Answer]) -> None:
        self._idle.put_nowait(self._asking.pop(asking))
        if not asking.cancelled():
            asking.exception()  # perhaps nobody waits for it any more
