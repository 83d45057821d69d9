"""A replay with its folder, from its start to its end: what is noted there, and what a full disk means."""

from __future__ import annotations

import argparse
import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from dashboard.runs import (
    JUDGEMENT_FILE,
    PARTS_FOLDER,
    PAUSE_FILE,
    PREDICTIONS_FILE,
    REPORT_FILE,
    RESULT_FILE,
    STORE_FOLDER,
    SUMMARY_FILE,
    TOPICS_FILE,
    Run,
    Status,
    write_run,
)
from deploy.errors import NoRoom
from deploy.settings import OUTCOME

AUTHOR_KEY: Final = "author.key"
OUTCOMES: Final = (PREDICTIONS_FILE, RESULT_FILE, JUDGEMENT_FILE, REPORT_FILE, SUMMARY_FILE)
"""What a replay ends with; those of the one before would be taken for its own until then."""
NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The disk is full, or what one user or one file may have of it."""
FIRST_BYTES: Final = 1 << 20


@dataclass(kw_only=True)
class Undertaking:
    """One replay; `options` are those it was started with, `run` is its record.

    The record is written from `start` on: what fails before that leaves the folder as it was.
    topics: file of the topics it is begun with, None if they are in the folder; is_new: the folder was made for it;
    left_out: items read, by this process, that make no record.
    """

    folder: Path
    options: argparse.Namespace
    run: Run
    topics: Path | None = None
    is_new: bool = False
    is_started: bool = False
    left_out: int = 0

    @property
    def variables(self) -> dict[str, str]:
        """For its workers; those that were not set are not, whatever they are now."""
        return {name: self.run.variables.get(name, "") for name in OUTCOME}

    @property
    def began_ms(self) -> int:
        return round(self.run.started_at.timestamp() * 1000)

    @property
    def predictions(self) -> Path:
        return self.folder / PREDICTIONS_FILE

    @property
    def resumption(self) -> str:
        """How to go on with one that was started."""
        return f"go on with `moodstream replay --resume {self.folder}`"

    @property
    def remedy(self) -> str:
        """How to go on once what stopped it is mended."""
        if not self.is_started or self.run.stack == "none":
            return "run the same command again"
        return self.resumption

    @contextmanager
    def room_needed(self) -> Iterator[None]:
        """Raises NoRoom when the disk of its folder is full."""
        try:
            yield
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise NoRoom(f"no room left for {self.folder} ({error.strerror}): make some and {self.remedy}") from error

    def check_room(self) -> None:
        """Raises OSError if there is none for its servers' first files: they would only say that they ended."""
        probe = self.folder / "room"
        try:
            probe.write_bytes(bytes(FIRST_BYTES))
        finally:
            probe.unlink(missing_ok=True)

    def is_paused(self) -> bool:
        return (self.folder / PAUSE_FILE).exists()

    def start(self) -> None:
        """From now on the folder tells of it, and no more of one before."""
        if self.topics is not None:
            _clear(self.folder)
            if self.topics.resolve() != (self.folder / TOPICS_FILE).resolve():
                shutil.copyfile(self.topics, self.folder / TOPICS_FILE)
        self._write()
        self.is_started = True

    def withdraw(self) -> None:
        """It was not started: takes away the folder that was made for it."""
        if self.is_new and not self.is_started:
            shutil.rmtree(self.folder, ignore_errors=True)

    def note(self, *, read: int, settled: int, archive_format: str = "") -> None:
        """How far it is, and what the archive was taken for once that is known; a resumed run that reads again what it
        had read is no less far."""
        self._write(
            read=max(read, self.run.read),
            settled=max(settled, self.run.settled),
            format=archive_format or self.run.format,
        )

    def end(self, status: Status, *, error: str = "") -> None:
        """Noted only of one that was started."""
        if self.is_started:
            self._write(status=status, error=error, finished_at=datetime.now(UTC))

    def clean(self) -> None:
        """Removes what only going on with it needs."""
        for name in (AUTHOR_KEY, PAUSE_FILE):
            (self.folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.folder / PARTS_FOLDER, ignore_errors=True)
        if not self.options.keep:
            shutil.rmtree(self.folder / STORE_FOLDER, ignore_errors=True)

    def _write(self, **changes: Any) -> None:
        self.run = msgspec.structs.replace(self.run, **changes)
        write_run(self.folder, self.run)


def _clear(folder: Path) -> None:
    """What a replay before left."""
    shutil.rmtree(folder / PARTS_FOLDER, ignore_errors=True)
    for name in OUTCOMES:
        (folder / name).unlink(missing_ok=True)
