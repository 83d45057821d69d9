"""Records → a folder of archive files, and out of it again when their authors delete them.

A sink like the producer: what is sent is gathered for a moment, written as one zstd frame, and only then settled, so
that a source's cursor never is ahead of the disk.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, TypeVar

from ingest.contract import Deletion, Post, Record
from ingest.errors import ArchiveUnwritable, IngestError
from ingest.producer import Settled
from ingest.recording.files import ClosedFiles, Contents, OpenFile, keys_of, locked
from ingest.recording.tombstones import Tombstones, deletion_key, post_key
from ingest.sources.archive import encoded_line

WRITE_EVERY_S: Final = 1.0
FRAME_BYTES: Final = 1 << 20
"""So much is written without waiting for WRITE_EVERY_S."""
MAX_WAITING_BYTES: Final = 16 << 20
MAX_EARLY: Final = 100_000
DELETED: Final = "deleted before it came"
NOTHING_RECORDED: Final = "deletion of nothing recorded"

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """How a folder is written. A file is closed at max_bytes or after max_age, and removed after keep.

    suffix: of the format closed files get; None leaves them as they are, JSONL like the open one.
    """

    suffix: str | None = None
    max_bytes: int = 256 << 20
    max_age: timedelta = timedelta(hours=1)
    compact_every: timedelta = timedelta(minutes=30)
    keep: timedelta | None = None


@dataclass
class _Batch:
    """What the next frame will hold."""

    lines: list[bytes] = field(default_factory=list)
    size: int = 0
    keys: set[int] = field(default_factory=set)
    settled: list[Settled] = field(default_factory=list)


class Recorder:
    """Records one run into `folder`; use as `async with`. `Deletion`s go to the journal, not to the files.

    sent: records that are on the disk; failed: those left out, by reason; compacted: what was erased meanwhile.
    Raises ArchiveUnwritable on entry, or from `send` and `flush` once the folder cannot be written to.
    """

    def __init__(
        self, folder: Path, rotation: Rotation = Rotation(), *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.sent = self.copies = 0
        self.failed: Counter[str] = Counter()
        self.waited_s = 0.0
        self.compacted = Contents()
        self._folder, self._rotation, self._now = folder, rotation, now
        self._batch, self._writing = _Batch(), _Batch()
        self._open: OpenFile | None = None
        self._early: OrderedDict[int, None] = OrderedDict()
        self._lost: ArchiveUnwritable | None = None
        self._turn, self._tidying = asyncio.Lock(), asyncio.Lock()
        self._is_due, self._is_untidy, self._has_room = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._has_room.set()
        self._is_ending = False
        self._tasks: list[asyncio.Task[None]] = []
        self._lock = ExitStack()
        self._writer = ThreadPoolExecutor(1, "record")  # one thread: frames keep their order, whatever is cancelled

    async def __aenter__(self) -> Recorder:
        self._lock.enter_context(locked(self._folder))
        try:
            self._closed = await asyncio.to_thread(ClosedFiles, self._folder, suffix=self._rotation.suffix)
            self._tombstones = Tombstones(self._folder)
            await asyncio.to_thread(self._tombstones.settle, ())  # a line that a crash cut off goes
        except BaseException as error:
            self._lock.close()
            if isinstance(error, OSError):
                raise ArchiveUnwritable(self._folder, error) from error
            raise
        self._tasks = [asyncio.create_task(self._write_regularly()), asyncio.create_task(self._compact_regularly())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Whatever ended the run: what was sent is written, the file closed, and what was deleted erased."""
        self._is_ending = True
        self._is_due.set()
        self._is_untidy.set()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            if self._lost is None:
                await self._write()
                await self._rotate()
                await self.compact()
            for problem in ended:
                if isinstance(problem, Exception):
                    raise problem
        finally:
            if self._open is not None:
                self._open.abandon()
            await asyncio.to_thread(self._writer.shutdown)
            self._lock.close()

    @property
    def silent_s(self) -> float:
        """A disk answers or fails."""
        return 0.0

    async def send(self, record: Record, settled: Settled | None = None, *, number: int | None = None) -> None:
        """Waits only while too much waits for the disk; a deletion is on it when this returns."""
        if isinstance(record, Deletion):
            await self._delete(record)
        elif self._tombstones.covers(record) or post_key(record.id) in self._early:
            self.failed[DELETED] += 1
        else:
            await self._put(record, settled)
            return
        if settled is not None:
            settled()

    async def flush(self) -> None:
        """Returns when all that was sent is on the disk."""
        await self._write()

    async def compact(self) -> None:
        """Erases what was deleted, from every file."""
        async with self._tidying:
            pending = self._tombstones.pending()
            await self._write()
            if self._open is not None and any(stone.key in self._open.keys for stone in pending):
                await self._rotate()
            # What is deleted from here on may be in the open file: it stays pending.
            done = await self._on_disk(None, self._closed.tidy, self._tombstones, pending)
            if self._rotation.keep is not None:
                await self._on_disk(None, self._closed.drop_before, self._now() - self._rotation.keep)
        self.compacted.erased += done.erased
        if done.erased:
            log.info("erased %d records of deleted posts from %s", done.erased, self._folder)

    async def _delete(self, deletion: Deletion) -> None:
        key = deletion_key(deletion)
        if self._knows(key):
            await self._on_disk(None, self._tombstones.add, deletion)
            self.sent += 1
            return
        self.failed[NOTHING_RECORDED] += 1
        if deletion.post_id is not None:  # the post may still come: sources repeat, and not in order
            self._early[key] = None
            if len(self._early) > MAX_EARLY:
                self._early.popitem(last=False)

    def _knows(self, key: int) -> bool:
        if key in self._batch.keys or key in self._writing.keys or key in self._closed:
            return True
        return self._open is not None and key in self._open.keys

    async def _put(self, post: Post, settled: Settled | None) -> None:
        if not self._has_room.is_set():
            began = time.monotonic()
            await self._has_room.wait()
            self.waited_s += time.monotonic() - began
        if self._lost is not None:
            raise self._lost
        line, batch = encoded_line(post), self._batch
        batch.lines.append(line)
        batch.size += len(line)
        batch.keys |= keys_of(post)
        if settled is not None:
            batch.settled.append(settled)
        if batch.size >= FRAME_BYTES:
            self._is_due.set()
        if batch.size >= MAX_WAITING_BYTES:
            self._has_room.clear()

    async def _write(self) -> None:
        """Writes what waits, and closes the file if it is time to."""
        async with self._turn:
            if self._lost is not None:
                raise self._lost
            batch = self._writing = self._batch
            self._batch = _Batch()
            self._is_due.clear()
            self._has_room.set()
            if batch.lines:
                if self._open is None:
                    self._open = await self._on_disk(self._writer, OpenFile, self._folder, self._now())
                await self._on_disk(self._writer, self._open.write, b"".join(batch.lines), batch.keys)
                self.sent += len(batch.lines)
                for settled in batch.settled:
                    settled()
            self._writing = _Batch()
        if self._open is not None and self._is_full(self._open):
            await self._rotate()
            self._is_untidy.set()

    def _is_full(self, file: OpenFile) -> bool:
        return file.size >= self._rotation.max_bytes or self._now() - file.opened_at >= self._rotation.max_age

    async def _rotate(self) -> None:
        async with self._turn:
            file = self._open
            if file is not None:
                await self._on_disk(self._writer, self._close, file)
                self._open = None

    def _close(self, file: OpenFile) -> None:
        self._closed.add(file.close(), file.keys)

    async def _write_regularly(self) -> None:
        while not self._is_ending and self._lost is None:
            await _set_or_after(self._is_due, WRITE_EVERY_S)
            with suppress(ArchiveUnwritable):  # `send` and `flush` raise it
                await self._write()

    async def _compact_regularly(self) -> None:
        while not self._is_ending and self._lost is None:
            await _set_or_after(self._is_untidy, self._rotation.compact_every.total_seconds())
            self._is_untidy.clear()
            try:
                await self.compact()
            except IngestError as error:
                log.error("what was deleted stays hidden, but in its file: %s", error)

    async def _on_disk(self, thread: Executor | None, work: Callable[..., T], *arguments: object) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(thread, work, *arguments)
        except OSError as error:
            self._lost = ArchiveUnwritable(self._folder, error)
            self._has_room.set()
            raise self._lost from error


async def _set_or_after(event: asyncio.Event, timeout_s: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), timeout_s)
