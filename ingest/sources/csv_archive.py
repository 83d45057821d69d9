"""Archived tweets in CSV or TSV files, read by a column map.

Two layouts are known by their headers; any other needs a map such as `text=tweet created_at=date label=sentiment`.
"""

from __future__ import annotations

import csv
from array import array
from collections.abc import AsyncGenerator, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from ingest.authors import AuthorHash
from ingest.errors import BadSource
from ingest.sources.columns import ColumnMap, RowReader, map_of
from ingest.sources.items import Draft, Item, Kind, Skipped, in_thread
from ingest.sources.lines import Lines
from ingest.sources.opened import UNKNOWN, Member, described, members

ROWS_PER_CHUNK: Final = 500
NOT_UTF_8: Final = "letters that are not UTF-8 shown as \ufffd"
DELIMITERS: Final = {",": "CSV", "\t": "TSV", ";": "CSV (semicolons)"}
KNOWN_LAYOUTS: Final[dict[tuple[str, ...], ColumnMap]] = {
    ("tweet_id", "airline_sentiment", "negativereason", "airline", "text", "tweet_created"): ColumnMap(
        source="x", id="tweet_id", text="text", created_at="tweet_created", label="airline_sentiment"
    ),
    # Its labels say whether a tweet is on topic, not what it feels.
    ("tweet id", "tweet", "label"): ColumnMap(source="x", id="tweet id", text="tweet"),
}


class _Header(NamedTuple):
    names: list[str]
    delimiter: str


class _Row(NamedTuple):
    """Cells of a data row, or the error reading them; `number` counts from 1, `place` is its offset in the file."""

    number: int
    place: int
    cells: list[str] | csv.Error


class CsvArchive:
    """The rows of CSV files as posts; of several files those with the header of the first one.

    in_time_order: rows come sorted by event time (24 bytes of memory a row) instead of in file order, of a plain file.
    Raises BadSource if the file is missing, its layout unknown, or a mapped column not in its header.
    """

    kind: Kind = "replay"

    def __init__(
        self,
        path: Path,
        *,
        column_map: Mapping[str, str] | None,
        authors: AuthorHash,
        in_time_order: bool = False,
        member: Member | None = None,
    ) -> None:
        self.name = str(path)
        self._path = path
        first = member or next((found for found in members(path) if isinstance(found, Member)), None)
        if first is None:
            raise BadSource(f"{path} holds no CSV file")
        self._header = _header_of(first.beginning)
        self._is_plain = path.is_file() and not first.packed
        self._in_time_order = in_time_order and self._is_plain
        self._map = _checked_map(path, self._header.names, column_map)
        self._index = {name: self._header.names.index(column) for name, column in self._map.columns().items()}
        self._rows_of = RowReader(self._map.source, authors=authors)
        self.format = described(DELIMITERS[self._header.delimiter], first, path)

    def __aiter__(self) -> AsyncGenerator[Item, None]:
        return in_thread(self._items(), chunk=ROWS_PER_CHUNK)

    def count(self) -> int | None:
        """Rows of a plain file: a row of quoted text may be several lines."""
        if not self._is_plain:
            return None
        with self._path.open("rb") as file:
            lines = Lines(file)
            return sum(1 for _ in self._rows(lines)) + len(lines.troubles)

    def _items(self) -> Iterator[Item]:
        for member in members(self._path):
            if isinstance(member, Skipped):
                yield member
            elif _header_of(member.beginning) != self._header:
                yield Skipped(reason=UNKNOWN, item=f"{member.name}: another header than the first file's")
            elif self._in_time_order:
                yield from self._items_in_time_order(member)
            else:
                lines = member.lines
                for row in self._rows(lines):
                    yield from lines.taken_troubles()
                    yield self._item(row, member.stem, member.name)
                yield from lines.taken_troubles()

    def _rows(self, lines: Lines) -> Iterator[_Row]:
        reader = self._reader(lines)
        next(reader, None)
        number = 0
        while True:
            place = lines.place
            try:
                cells: list[str] | csv.Error = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                cells = error
            if cells:
                number += 1
                yield _Row(number, place, cells)

    def _items_in_time_order(self, member: Member) -> Iterator[Item]:
        """Two passes: find each row's time and place, then read the rows by time. Stable for equal times."""
        numbers, places, times = array("q"), array("q"), array("d")
        lines = member.lines
        for row in self._rows(lines):
            item = self._item(row, member.stem, member.name)
            numbers.append(row.number)
            places.append(row.place)
            times.append(item.post.created_at.timestamp() if isinstance(item, Draft) else 0.0)
        yield from lines.taken_troubles()
        with self._path.open("rb") as file:
            for index in sorted(range(len(times)), key=times.__getitem__):
                file.seek(places[index])
                try:
                    cells: list[str] | csv.Error = next(self._reader(Lines(file)))
                except csv.Error as error:
                    cells = error
                yield self._item(_Row(numbers[index], places[index], cells), member.stem, member.name)

    def _reader(self, lines: Lines) -> Iterator[list[str]]:
        text = (line.decode("utf-8", "replace") for line in lines)
        return csv.reader(text, delimiter=self._header.delimiter, skipinitialspace=True)

    def _item(self, row: _Row, stem: str, name: str) -> Item:
        where = f"{name}, row {row.number}" if name else f"row {row.number}"
        if isinstance(row.cells, csv.Error):
            return Skipped(reason="unreadable row", item=f"{where}: {row.cells}")
        if len(row.cells) <= max(self._index.values()):
            return Skipped(reason="row with too few columns", item=where)
        cell = {name: row.cells[index].strip() for name, index in self._index.items()}
        item = self._rows_of.item_of(cell, row.number, stem=stem, where=where)
        if "\ufffd" in cell["text"] and isinstance(item, Draft):
            return msgspec.structs.replace(item, warnings=(*item.warnings, NOT_UTF_8))
        return item


def _header_of(beginning: bytes) -> _Header:
    """Column names and delimiter: of comma, tab and semicolon the one that splits the first line most."""
    line = beginning.removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0]
    first = line[: csv.field_size_limit()].decode("utf-8", "replace").rstrip("\r")
    delimiter = max(DELIMITERS, key=first.count)
    header = next(csv.reader([first], delimiter=delimiter, skipinitialspace=True), [])
    return _Header([name.strip() for name in header], delimiter)


def _checked_map(path: Path, header: list[str], column_map: Mapping[str, str] | None) -> ColumnMap:
    columns = ", ".join(repr(name[:80]) for name in header[:50]) or "none"
    known = KNOWN_LAYOUTS.get(tuple(header))
    if not column_map:
        if known is None:
            raise BadSource(
                f"{path} is a CSV file of an unknown layout: say which column holds what, for example "
                f"--map text=COLUMN created_at=COLUMN label=COLUMN; its columns are {columns}"
            )
        return known
    chosen = map_of(column_map, source="csv")
    for name, column in chosen.columns().items():
        if column not in header:
            raise BadSource(f"--map {name}={column}: {path} has no column {column!r}; its columns are {columns}")
    return chosen
