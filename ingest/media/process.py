"""A child process that answers one request after another over pipes, with limits on its memory and its time.

Plain child processes, rather than multiprocessing: they start in a known state (no fork of a process with threads, no
second import of the main module), and end by themselves when their parent dies.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import Final, Generic, TypeVar

import msgspec

from ingest.errors import MalformedMedia
from ingest.media.sandbox import LENGTH_BYTES, READY

START_S: Final = 30.0
MAX_ANSWER_BYTES: Final = 4 << 20
READ_AHEAD_BYTES: Final = 1 << 20

T = TypeVar("T")


class Process(Generic[T]):
    """One place for a process, which is replaced before the next request if the last one was its end.

    module: its `main(memory_bytes=…, limit_s=…)` runs there; doing, doer: what it is at, and as what, in refusals.
    """

    def __init__(
        self,
        module: str,
        answer: type[T],
        *,
        doing: str,
        doer: str,
        limit_s: float,
        memory_bytes: int,
        start_s: float = START_S,
    ) -> None:
        self.starts = 0
        self._doing, self._doer, self._limit_s, self._start_s = doing, doer, limit_s, start_s
        self._decoder = msgspec.msgpack.Decoder(answer)
        # The same modules as here; the environment, where the secrets are, stays behind.
        self._program = (
            f"import sys; sys.path[:] = {sys.path!r}; from {module} import main; "
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
            async with asyncio.timeout(self._start_s):
                if await _read(process) != READY:
                    raise OSError("it does not speak as it should")
        except BaseException as error:
            await self.stop()
            if isinstance(error, (TimeoutError, OSError, EOFError)):
                raise OSError(f"the process for {self._doing} does not start: {error}") from error
            raise

    async def ask(self, data: bytes) -> T:
        """Leaves the process behind either ready for the next picture or dead."""
        process = await self._running()
        try:
            async with asyncio.timeout(self._limit_s):
                await _write(process, data)
                return self._decoder.decode(await _read(process))
        except BaseException as error:
            await self.stop()
            if isinstance(error, TimeoutError):
                raise MalformedMedia(f"{self._doing} took too long", f"more than {self._limit_s:g} s") from error
            if isinstance(error, (OSError, EOFError, msgspec.MsgspecError)):
                raise MalformedMedia(f"{self._doer} died", f"at {len(data):,} bytes") from error
            raise

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is not None:
            await self.stop()  # killed between two pictures, by the system most likely
        if self._process is None:
            try:
                await self.start()
            except OSError as error:
                raise MalformedMedia(f"{self._doer} does not start", str(error)) from error
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
