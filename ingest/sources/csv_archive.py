"""Archived tweets in a CSV file, read by a column map.

Two layouts are known by their headers; any other needs a map such as `text=tweet created_at=date label=sentiment`.
"""

from __future__ import annotations

import csv
from array import array
from collections.abc import AsyncGenerator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import msgspec

from ingest.authors import AuthorHash
from ingest.contract import Label, Post
from ingest.errors import BadSource
from ingest.sources.items import Draft, Item, Kind, Skipped, in_thread, label_of
from ingest.sources.times import EventTime, event_time

ROWS_PER_CHUNK: Final = 500
MAX_UNKNOWN_LABELS: Final = 20
MAX_LINE_BYTES: Final = 1 << 20
NO_TIME_START: Final = datetime(2016, 1, 1, tzinfo=UTC)
"""Rows of files that tell no time stand one second apart from here: the same in every replay."""


class ColumnMap(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which column holds what; only `text` must be there. `source` becomes the first half of the post ids."""

    text: str
    id: str | None = None
    created_at: str | None = None
    label: str | None = None
    author: str | None = None
    lang: str | None = None
    url: str | None = None
    reach: str | None = None
    source: str = "csv"

    def columns(self) -> dict[str, str]:
        """Field → column, for the fields that have one."""
        return {name: column for name, column in msgspec.structs.asdict(self).items() if column and name != "source"}


KNOWN_LAYOUTS: Final[dict[tuple[str, ...], ColumnMap]] = {
    ("tweet_id", "airline_sentiment", "negativereason", "airline", "text", "tweet_created"): ColumnMap(
        source="x", id="tweet_id", text="text", created_at="tweet_created", label="airline_sentiment"
    ),
    # Its labels say whether a tweet is on topic, not what it feels.
    ("tweet id", "tweet", "label"): ColumnMap(source="x", id="tweet id", text="tweet"),
}


class _Row(NamedTuple):
    """Cells of a data row, or the error reading them; `number` counts from 1, `place` is its offset in the file."""

    number: int
    place: int
    cells: list[str] | csv.Error


class CsvArchive:
    """The rows of a CSV file as posts.

    in_time_order: rows come sorted by event time (16 bytes of memory a row) instead of in file order.
    Raises BadSource if the file is missing, its layout unknown, or a mapped column not in its header.
    """

    kind: Kind = "replay"

    def __init__(
        self, path: Path, *, column_map: Mapping[str, str] | None, authors: AuthorHash, in_time_order: bool = False
    ) -> None:
        self.name = str(path)
        self._path, self._authors, self._in_time_order = path, authors, in_time_order
        header, self._delimiter = _read_header(path)
        self._map = _checked_map(path, header, column_map)
        self._index = {name: header.index(column) for name, column in self._map.columns().items()}
        self._unknown_labels: set[str] = set()

    def __aiter__(self) -> AsyncGenerator[Item, None]:
        rows = self._rows_in_time_order() if self._in_time_order else self._rows()
        return in_thread((self._item(row) for row in rows), chunk=ROWS_PER_CHUNK)

    def _rows(self) -> Iterator[_Row]:
        with self._path.open("rb") as file:
            lines = _Lines(file)
            reader = csv.reader(lines, delimiter=self._delimiter, skipinitialspace=True)
            next(reader)
            number = 0
            while True:
                place = file.tell()
                try:
                    cells: list[str] | csv.Error = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    cells = error
                if cells:
                    number += 1
                    yield _Row(number, place, cells)

    def _rows_in_time_order(self) -> Iterator[_Row]:
        """Two passes: find each row's time and place, then read the rows by time. Stable for equal times."""
        numbers, places, times = array("q"), array("q"), array("d")
        for row in self._rows():
            item = self._item(row)
            numbers.append(row.number)
            places.append(row.place)
            times.append(item.post.created_at.timestamp() if isinstance(item, Draft) else 0.0)
        with self._path.open("rb") as file:
            for index in sorted(range(len(times)), key=times.__getitem__):
                file.seek(places[index])
                reader = csv.reader(_Lines(file), delimiter=self._delimiter, skipinitialspace=True)
                try:
                    yield _Row(numbers[index], places[index], next(reader))
                except csv.Error as error:
                    yield _Row(numbers[index], places[index], error)

    def _item(self, row: _Row) -> Item:
        where = f"row {row.number}"
        if isinstance(row.cells, csv.Error):
            return Skipped(reason="unreadable row", item=f"{where}: {row.cells}")
        if len(row.cells) <= max(self._index.values()):
            return Skipped(reason="row with too few columns", item=where)
        cell = {name: row.cells[index].strip() for name, index in self._index.items()}
        native_id = cell.get("id", "").strip("'\"") or f"{self._path.stem}#{row.number}"
        found = event_time(cell.get("id", ""), cell.get("created_at"))
        if found is None and "created_at" in cell:
            return Skipped(reason="row without a readable time", item=where)
        created_at, time_warning = found or _made_up_time(row.number)
        label, label_warning = self._label(cell.get("label", ""))
        handle = cell.get("author") or None
        source = self._map.source
        post = Post(
            id=f"{source}:{native_id}",
            source=source,
            created_at=created_at,
            ingested_at=datetime.now(UTC),
            text=cell["text"],
            lang=cell.get("lang") or None,
            author=self._authors(source, handle) if handle else None,
            reach=_count(cell.get("reach", "")),
            url=cell.get("url") or None,
            label=label,
        )
        warnings = tuple(warning for warning in (time_warning, label_warning) if warning)
        return Draft(post=post, handle=handle, warnings=warnings)

    def _label(self, word: str) -> tuple[Label | None, str | None]:
        """The label, or a warning that names the word; past MAX_UNKNOWN_LABELS words they share one warning."""
        label = label_of(word)
        if label is not None or not word:
            return label, None
        if len(self._unknown_labels) < MAX_UNKNOWN_LABELS:
            self._unknown_labels.add(word)
        known = word in self._unknown_labels
        return None, f"unknown label {word[:40]!r}" if known else "unknown label (others)"


class _Lines:
    """Lines of a binary file as text, read one by one so that `file.tell()` is where the next one starts."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        at_start = self._file.tell() == 0
        line = self._file.readline(MAX_LINE_BYTES).decode("utf-8", errors="replace")
        if not line:
            raise StopIteration
        return line.removeprefix("\ufeff") if at_start else line


def _read_header(path: Path) -> tuple[list[str], str]:
    """Column names and delimiter: of comma, tab and semicolon the one that splits the first line most."""
    try:
        with path.open("rb") as file:
            first = next(_Lines(file), "")
    except OSError as error:
        raise BadSource(f"cannot read {path}: {error.strerror}") from error
    delimiter = max((",", "\t", ";"), key=first.count)
    header = next(csv.reader([first], delimiter=delimiter, skipinitialspace=True), [])
    return [name.strip() for name in header], delimiter


def _checked_map(path: Path, header: list[str], column_map: Mapping[str, str] | None) -> ColumnMap:
    columns = ", ".join(repr(name) for name in header) or "none"
    known = KNOWN_LAYOUTS.get(tuple(header))
    if not column_map:
        if known is None:
            raise BadSource(
                f"{path} is a CSV file of an unknown layout: say which column holds what, for example "
                f"--map text=COLUMN created_at=COLUMN label=COLUMN; its columns are {columns}"
            )
        return known
    try:
        chosen = msgspec.convert(dict(column_map), ColumnMap)
    except msgspec.ValidationError as error:
        fields = ", ".join(ColumnMap.__struct_fields__)
        raise BadSource(f"--map {dict(column_map)}: {error}; it takes {fields}, and text must be given") from error
    for name, column in chosen.columns().items():
        if column not in header:
            raise BadSource(f"--map {name}={column}: {path} has no column {column!r}; its columns are {columns}")
    if not chosen.source.isidentifier():
        raise BadSource(f"--map source={chosen.source}: use a plain word, it starts the post ids")
    return chosen


def _made_up_time(number: int) -> EventTime:
    return EventTime(NO_TIME_START + timedelta(seconds=number), "no time in the file: rows stand one second apart")


def _count(cell: str) -> int | None:
    return int(cell) if cell.isascii() and cell.isdigit() else None
