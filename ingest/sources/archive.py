"""Our own archive: one record a line as JSON, zstd-compressed, images inline as base64 (`NAME.jsonl.zst`).

Written atomically; replays without the internet. Read as well: uncompressed `.jsonl`, Parquet, and a folder of such
files as `moodstream record` makes it. What its journal of tombstones covers is left out.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec
import zstandard

from ingest.contract import SCHEMA_VERSION, Post, Record
from ingest.errors import BadSource
from ingest.recording.tombstones import Tombstones
from ingest.sources.archive_parquet import is_own_parquet, read_parquet, rows_in
from ingest.sources.items import Draft, Item, Kind, Picture, Skipped, in_thread
from ingest.sources.line_archive import Fields, looks, objects_in
from ingest.sources.opened import UNKNOWN, members

LINES_PER_CHUNK: Final = 64
COMPRESSION_LEVEL: Final = 12
RECORDED: Final = "posts-"
"""How the names of recorded files begin; the time goes on, as 20261122T115959-123Z."""
WHOLE: Final = (".jsonl.zst", ".parquet")


class _Schema(msgspec.Struct):
    schema: int


_encoder = msgspec.json.Encoder()
_schema_decoder = msgspec.json.Decoder(_Schema)
_decoder = msgspec.json.Decoder(Record)


class OwnArchive:
    """The records of an archive file, or of all files of a folder, in the order they were written."""

    kind: Kind = "replay"

    def __init__(self, path: Path, *, form: str = "Moodstream archive") -> None:
        self.name = str(path)
        self.format = form
        self._path = path

    def __aiter__(self) -> AsyncGenerator[Item, None]:
        return in_thread(self.items(), chunk=LINES_PER_CHUNK)

    def count(self) -> int | None:
        """Rows of a Parquet file; other files do not tell."""
        return rows_in(self._path) if self._path.is_file() and is_own_parquet(self._path) else None

    def items(self) -> Iterator[Item]:
        """The same, blocking."""
        if not self._path.is_dir() or not recorded_files(self._path):
            folder = self._path if self._path.is_dir() else self._path.parent
            yield from _items_of(self._path, Tombstones(folder))
            return
        tombstones = Tombstones(self._path)
        read: set[str] = set()
        while unread := [path for path in recorded_files(self._path) if stem_of(path) not in read]:
            try:
                yield from _items_of(unread[0], tombstones)
            except BadSource:
                if unread[0].exists():
                    raise
                continue  # closed or compacted in this moment: it has another name now, or is gone
            read.add(stem_of(unread[0]))


def _items_of(path: Path, tombstones: Tombstones) -> Iterator[Item]:
    for record in records_of(path):
        if not isinstance(record, Post):
            yield record
        elif tombstones.covers(record):
            yield Skipped(reason="deleted since it was recorded", item=record.id)
        else:
            yield draft_of(record)


def recorded_files(folder: Path) -> list[Path]:
    """Files of `moodstream record` in the order they were written, the one still being written (.part) included."""
    by_time: dict[str, Path] = {}
    for ending in (f"{WHOLE[0]}.part", *WHOLE):  # after a crash a file may be there twice; the last is the final one
        by_time |= {stem_of(path): path for path in folder.glob(f"{RECORDED}*{ending}")}
    return [path for _, path in sorted(by_time.items())]


def stem_of(path: Path) -> str:
    """Of a recorded file: its name without what tells format and state."""
    return path.name.partition(".")[0]


def records_of(path: Path) -> Iterator[Record | Skipped]:
    """All that is at `path`. Raises BadSource if it cannot be read, or a newer Moodstream wrote it."""
    if path.is_file() and is_own_parquet(path):
        yield from read_parquet(path)
        return
    for member in members(path):
        if isinstance(member, Skipped):
            yield member
            continue
        if (path.is_dir() or "tar" in member.packed) and not any(map(is_own, objects_in(member.beginning))):
            yield Skipped(reason=UNKNOWN, item=f"{member.name}: begins with {looks(member.beginning)}")
            continue
        lines = member.lines
        for line in lines:
            if lines.troubles:
                yield from lines.taken_troubles()
            yield _decoded(line, f"{path}, {lines.said()}")
        if path.suffix != ".part":  # one still being written ends in the middle
            yield from lines.taken_troubles()


def is_own(fields: Fields) -> bool:
    """Is it a record of the contract?"""
    return "schema" in fields and bytes(fields.get("type", b"")) in (b'"post"', b'"deletion"')


def _decoded(line: bytes, where: str) -> Record | Skipped:
    try:
        schema = _schema_decoder.decode(line).schema
        if schema > SCHEMA_VERSION:
            raise BadSource(f"{where}: schema {schema}, this reads up to {SCHEMA_VERSION}: upgrade Moodstream")
        record: Record = _decoder.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return Skipped(reason="unreadable archive line", item=f"{where}: {error}")
    return record


def draft_of(post: Post) -> Draft:
    """A finished post taken apart again: an archive may be anybody's, so its images are checked like all others."""
    pictures = tuple(
        Picture(data=image.jpeg, alt=image.alt, width=image.width, height=image.height, words=image.words)
        for image in post.images
    )
    return Draft(post=msgspec.structs.replace(post, images=(), topics=()), pictures=pictures)


def write_archive(path: Path, records: Iterable[Record]) -> int:
    """Writes records as an archive and returns how many; the file appears whole or not at all."""
    unfinished = path.with_name(path.name + ".part")
    written = write_lines(unfinished, records)
    unfinished.replace(path)
    return written


def write_lines(path: Path, records: Iterable[Record]) -> int:
    """The same, as it goes."""
    written = 0
    with path.open("wb") as raw, zstandard.ZstdCompressor(level=COMPRESSION_LEVEL).stream_writer(raw) as file:
        for record in records:
            file.write(encoded_line(record))
            written += 1
    return written


def encoded_line(record: Record) -> bytes:
    return _encoder.encode(record) + b"\n"
