"""Where a live source goes on after a restart: at the oldest item Kafka has not acknowledged.

A killed ingest then reads again whatever had not arrived. What had arrived and comes again has the same id and
revision, and the worker counts it once.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ingest.errors import BadSettings

log = logging.getLogger(__name__)


class Held:
    """One item on its way. It is settled when `release` was called as often as `hold`, and once more."""

    __slots__ = ("left", "resume")

    def __init__(self, resume: str | None) -> None:
        self.resume = resume
        self.left = 1

    def hold(self) -> None:
        self.left += 1

    def release(self) -> None:
        self.left -= 1


class Cursors:
    """The cursors of the items on their way, in the order of the source."""

    def __init__(self, start: str | None) -> None:
        self._last = start
        self._held: deque[Held] = deque()

    def hold(self, cursor: str | None) -> Held:
        """Call right after the source yielded an item that will be sent; `cursor` is the source's now."""
        self._let_go()
        held = Held(cursor if self._last is None else self._last)  # the first item of a first run has nothing before it
        self._last = cursor
        self._held.append(held)
        return held

    def safe(self, cursor: str | None) -> str | None:
        """The cursor that misses nothing; `cursor` is the source's now, good when nothing is on its way."""
        self._let_go()
        if self._held:
            return self._held[0].resume
        self._last = cursor  # it moves on with what is no item, too
        return cursor

    def _let_go(self) -> None:
        while self._held and self._held[0].left == 0:
            self._held.popleft()


class _Saved(msgspec.Struct, frozen=True):
    cursor: str
    saved_at: datetime


class CursorFile:
    """One cursor, kept in `folder` under the name of the namespace and the source; the file is whole at any time.

    saved_at: when this process last saved one.
    """

    def __init__(self, folder: Path, *, namespace: str, source: str) -> None:
        self.path = folder / f"{namespace}.{source}.cursor.json"
        self.saved_at: datetime | None = None
        self._saved: str | None = None

    def load(self) -> str | None:
        """None if there is none yet, or none that can be read: the source then starts as it does the first time."""
        try:
            self._saved = msgspec.json.decode(self.path.read_bytes(), type=_Saved).cursor
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("%s cannot be read (%s): the source starts without a cursor", self.path, error)
            return None
        return self._saved

    def save(self, cursor: str | None) -> None:
        """Blocking, for a thread. None and what is saved already are left alone."""
        if cursor is None or cursor == self._saved:
            return
        saved_at = datetime.now(UTC)
        self._write(msgspec.json.encode(_Saved(cursor, saved_at)))
        self._saved, self.saved_at = cursor, saved_at

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps others from saving theirs in the same place, as long as this process lives.

        Raises BadSettings if another one does so already, or the folder cannot be written to.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.with_suffix(".lock").open("ab")
        except OSError as error:
            raise self._unwritable(error) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BadSettings(
                    f"another ingest keeps its cursor in {self.path}: let MOODSTREAM_CURSORS name a folder for this one"
                ) from error
            yield

    def _write(self, content: bytes) -> None:
        unfinished = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # else a power cut may leave the new name on an empty file
            unfinished.replace(self.path)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> BadSettings:
        return BadSettings(
            f"the cursor cannot be saved in {self.path.parent} ({error.strerror}): "
            "let MOODSTREAM_STATE or MOODSTREAM_CURSORS name a folder that can be written to"
        )
