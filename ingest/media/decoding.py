"""Pictures made safe in processes of their own, each with a limit on its memory and on the time a picture may take.

Plain child processes talked to over pipes, rather than multiprocessing: they start in a known state (no fork of a
process with threads, no second import of the main module), and end by themselves when their parent dies.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import Final

import msgspec

from ingest.contract import Image
from ingest.errors import DecoderDown, MalformedMedia
from ingest.media.sandbox import LENGTH_BYTES, READY, Answer
from ingest.media.sanitize import MAX_BYTES

PROCESSES: Final = 2
LIMIT_S: Final = 5.0
MEMORY_BYTES: Final = 1 << 30
"""Of address space, libraries included; a picture of MAX_PIXELS stays below it in every format (tested)."""
MAX_WAITING_BYTES: Final = 128 << 20
"""Pictures that wait for a process; when each takes as long as it may, they come faster than they go."""
START_S: Final = 30.0
MAX_ANSWER_BYTES: Final = 4 << 20
READ_AHEAD_BYTES: Final = 1 << 20

_decoder = msgspec.msgpack.Decoder(Answer)


class Decoder:
    """`make_safe` in a bounded pool of processes; an async context manager, at whose end no process is left.

    limit_s: for one picture, from when a process takes it; memory_bytes: for one process.
    """

    def __init__(
        self, *, processes: int = PROCESSES, limit_s: float = LIMIT_S, memory_bytes: int = MEMORY_BYTES
    ) -> None:
        self._workers = [_Worker(limit_s=limit_s, memory_bytes=memory_bytes) for _ in range(processes)]
        self._idle: asyncio.LifoQueue[_Worker] = asyncio.LifoQueue()  # the last one used has the warmest caches
        for worker in self._workers:
            self._idle.put_nowait(worker)
        self._asking: dict[asyncio.Task[Answer], _Worker] = {}
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

    async def _turn(self, waiting_bytes: int) -> _Worker:
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


class _Worker:
    """One place in the pool: a process, replaced before the next picture if the last one was its end."""

    def __init__(self, *, limit_s: float, memory_bytes: int) -> None:
        self.starts = 0
        self._limit_s = limit_s
        # The same modules as here; the environment, where the secrets are, stays behind.
        self._program = (
            f"import sys; sys.path[:] = {sys.path!r}; from ingest.media.sandbox import main; "
            f"main(memory_bytes={memory_bytes}, limit_s={limit_s + 1})"
        )
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Raises OSError if the process does not come up."""
        self.starts += 1
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-c",
            self._program,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={"OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is the service's to handle, which may still want pictures
            limit=READ_AHEAD_BYTES,
        )
        try:
            async with asyncio.timeout(START_S):
                if await _read(process) != READY:
                    raise OSError("it does not speak as it should")
        except BaseException as error:
            await self.stop()
            if isinstance(error, (TimeoutError, OSError, EOFError)):
                raise OSError(f"the process that decodes pictures does not start: {error}") from error
            raise

    async def ask(self, data: bytes) -> Answer:
        """Leaves the process behind either ready for the next picture or dead."""
        process = await self._running()
        try:
            async with asyncio.timeout(self._limit_s):
                await _write(process, data)
                return _decoder.decode(await _read(process))
        except BaseException as error:
            await self.stop()
            if isinstance(error, TimeoutError):
                raise MalformedMedia("decoding took too long", f"more than {self._limit_s:g} s") from error
            if isinstance(error, (OSError, EOFError, msgspec.MsgspecError)):
                raise MalformedMedia("decoder died", f"at {len(data):,} bytes") from error
            raise

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is not None:
            await self.stop()  # killed between two pictures, by the system most likely
        if self._process is None:
            try:
                await self.start()
            except OSError as error:
                raise MalformedMedia("decoder does not start", str(error)) from error
        assert self._process is not None
        return self._process

    def kill(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def stop(self) -> None:
        self.kill()
        if self._process is not None:
            await self._process.communicate()  # empties the pipes too, and closes them
        self._process = None


async def _write(process: asyncio.subprocess.Process, data: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(len(data).to_bytes(LENGTH_BYTES))
    process.stdin.write(data)
    await process.stdin.drain()


async def _read(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    length = int.from_bytes(await process.stdout.readexactly(LENGTH_BYTES))
    if length > MAX_ANSWER_BYTES:
        raise EOFError(f"an answer of {length:,} bytes")
    return await process.stdout.readexactly(length)
