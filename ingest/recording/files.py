"""The files of a recording: one that grows by whole zstd frames, and closed ones that can be rewritten without a post.

Beside each closed file lies NAME.keys, the hashes of all posts and authors in it: so a deletion opens only the files
it concerns. Every step leaves a state that a reader, and a recorder started again after a crash, can go on from.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import zstandard

from ingest.contract import Post, Record
from ingest.errors import ArchiveUnwritable
from ingest.recording.tombstones import Tombstone, Tombstones, author_key, deletion_key, post_key
from ingest.sources.archive import RECORDED, WHOLE, recorded_files, records_of, stem_of, write_lines
from ingest.sources.archive_parquet import write_parquet
from ingest.sources.items import Skipped

FRAME_LEVEL: Final = 6
_TIME: Final = "%Y%m%dT%H%M%S"
JSONL, PARQUET = WHOLE
Keys = np.ndarray
"""Sorted uint64."""

log = logging.getLogger(__name__)


@dataclass
class Contents:
    """Of one file: keys of what is in it; erased: posts left out, for a tombstone; unreadable: lines given up."""

    keys: set[int] = field(default_factory=set)
    records: int = 0
    erased: int = 0
    unreadable: int = 0


class OpenFile:
    """The file being written. Each write is a frame of its own, so that a crash costs at most the last one."""

    def __init__(self, folder: Path, opened_at: datetime) -> None:
        self.path = _unused(folder, opened_at)
        self.opened_at = opened_at
        self.size = 0
        self.keys: set[int] = set()
        self._compressor = zstandard.ZstdCompressor(level=FRAME_LEVEL)
        self._file = self.path.open("xb")

    def write(self, lines: bytes, keys: Iterable[int]) -> None:
        """Returns when it is on the disk."""
        self.size += self._file.write(self._compressor.compress(lines))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.keys.update(keys)

    def close(self) -> Path:
        """The file under its final name."""
        self._file.close()
        return self.path.replace(self.path.with_suffix(""))

    def abandon(self) -> None:
        """Leaves the file as a crash would."""
        with suppress(OSError):
            self._file.close()


class ClosedFiles:
    """All other files of a recording. For one thread at a time."""

    def __init__(self, folder: Path, *, suffix: str | None) -> None:
        """Takes over what a crash left. suffix: of the format files get; None leaves each as it is."""
        self._folder, self._suffix = folder, suffix
        for leftover in folder.glob(f"{RECORDED}*.new"):
            leftover.unlink()
        self._keys: dict[Path, Keys] = {}
        for path in recorded_files(folder):
            self._adopt(path)

    def __contains__(self, key: int) -> bool:
        return any(_holds(keys, key) for keys in tuple(self._keys.values()))

    def add(self, path: Path, keys: Collection[int]) -> None:
        self._keys[path] = _write_keys(path, keys)

    def tidy(self, tombstones: Tombstones, pending: Sequence[Tombstone]) -> Contents:
        """Takes what the pending ones of the tombstones cover out of every file, and gives files their format."""
        wanted = np.array([stone.key for stone in pending], np.uint64)
        done = Contents()
        for path, keys in [*self._keys.items()]:
            if path != self._target(path) or np.isin(wanted, keys).any():
                contents = self._rewrite(path, tombstones)
                done.records += contents.records
                done.erased += contents.erased
                done.unreadable += contents.unreadable
        if tombstones:
            tombstones.settle(pending)
        return done

    def drop_before(self, oldest: datetime) -> None:
        """Removes the files that were opened earlier."""
        for path in [path for path in self._keys if _opened_at(path) < oldest]:
            self._keys.pop(path)
            _remove(path)
            log.info("removed %s, kept as long as asked", path.name)

    def _adopt(self, path: Path) -> None:
        keys_file = _keys_file(path)
        if not path.name.endswith(WHOLE):  # the last frame may be cut off
            self._rewrite(path, None, path.with_suffix(""))
            return
        if keys_file.exists():
            self._keys[path] = np.fromfile(keys_file, np.uint64)
        else:
            records = (record for record in records_of(path) if not isinstance(record, Skipped))
            self.add(path, set[int]().union(*map(keys_of, records)))
        for suffix in {f"{JSONL}.part", JSONL, PARQUET} - {path.name.removeprefix(stem_of(path))}:
            _remove(path.with_name(f"{stem_of(path)}{suffix}"))

    def _target(self, path: Path) -> Path:
        return path if self._suffix is None else path.with_name(f"{stem_of(path)}{self._suffix}")

    def _rewrite(self, path: Path, tombstones: Tombstones | None, target: Path | None = None) -> Contents:
        """The old keys go last: a deletion that comes meanwhile must find its file."""
        target = target or self._target(path)
        contents = rewrite(path, target, tombstones)
        if contents.records:
            self.add(target, contents.keys)
        if path != target or not contents.records:
            self._keys.pop(path, None)
            _remove(path)
        return contents


def rewrite(path: Path, target: Path, tombstones: Tombstones | None) -> Contents:
    """Copies a file, in the format of the target's name, without what the tombstones cover; all of it or nothing.

    Without any record left there is no target.
    """
    contents = Contents()

    def kept() -> Iterator[Record]:
        for record in records_of(path):
            if isinstance(record, Skipped):
                contents.unreadable += 1
                log.warning("%s: %s, left out: %s", path.name, record.reason, record.item)
            elif tombstones is not None and tombstones.covers(record):
                contents.erased += isinstance(record, Post)
            else:
                contents.records += 1
                contents.keys |= keys_of(record)
                yield record

    unfinished = target.with_name(f"{target.name}.new")
    write: Callable[[Path, Iterable[Record]], object] = write_parquet if target.name.endswith(PARQUET) else write_lines
    write(unfinished, kept())
    if not contents.records:
        unfinished.unlink()
        return contents
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.replace(target)
    return contents


def keys_of(record: Record) -> set[int]:
    """What a deletion may find the record by."""
    if not isinstance(record, Post):
        return {deletion_key(record)}
    return {post_key(record.id)} | ({author_key(record.author)} if record.author is not None else set())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time changes a recording. Raises ArchiveUnwritable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("wb")
    except OSError as error:
        raise ArchiveUnwritable(folder, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ArchiveUnwritable(folder, "another process records there, which also compacts it") from error
        yield


def _unused(folder: Path, at: datetime) -> Path:
    """A name with the time, put later by milliseconds while there is such a file."""
    while True:
        at_utc = at.astimezone(UTC)
        stem = f"{RECORDED}{at_utc:{_TIME}}-{at_utc.microsecond // 1000:03}Z"
        if not any(folder.glob(f"{stem}.*")):
            return folder / f"{stem}{JSONL}.part"
        at += timedelta(milliseconds=1)


def _opened_at(path: Path) -> datetime:
    """What its name says, else when the file was written."""
    try:
        return datetime.strptime(stem_of(path), f"{RECORDED}{_TIME}-%fZ").replace(tzinfo=UTC)
    except ValueError:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _keys_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.keys")


def _write_keys(path: Path, keys: Collection[int]) -> Keys:
    array = np.sort(np.fromiter(keys, np.uint64, len(keys)))
    array.tofile(_keys_file(path))
    return array


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    _keys_file(path).unlink(missing_ok=True)


def _holds(keys: Keys, key: int) -> bool:
    place = int(np.searchsorted(keys, np.uint64(key)))
    return place < len(keys) and int(keys[place]) == key
