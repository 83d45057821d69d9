"""JSON Lines of any layout, read by a column map; dotted names reach into objects (`author=user.screen_name`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from ingest.authors import AuthorHash
from ingest.errors import BadSource
from ingest.sources.columns import ColumnMap, RowReader, map_of
from ingest.sources.items import Item, Skipped
from ingest.sources.line_archive import Fields, Format, Read, objects_in
from ingest.sources.lines import Lines
from ingest.sources.live import UNREADABLE

NAME: Final = "JSON Lines"

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_MISSING: Final = object()


def jsonl_format(path: Path, beginning: bytes, column_map: Mapping[str, str]) -> Format:
    """Raises BadSource for a map that fits none of the first lines."""
    chosen = map_of(column_map, source="jsonl")
    objects = objects_in(beginning)
    for name, column in chosen.columns().items():
        if name == "text" and not any(_has(fields, column) for fields in objects):
            there = ", ".join(repr(field[:80]) for field in list(objects[0])[:50]) if objects else "none"
            raise BadSource(f"--map {name}={column}: {path} has no field {column!r}; its fields are {there}")
    return Format(NAME, lambda authors: _reader(chosen, authors), lambda fields: True, is_line_by_line=True)


def _reader(chosen: ColumnMap, authors: AuthorHash) -> Read:
    rows = RowReader(chosen.source, authors=authors)
    columns = [(name, column, tuple(column.split("."))) for name, column in chosen.columns().items()]

    def item_of(line: bytes, lines: Lines, stem: str) -> Item:
        row = _decode(line)
        cell = {}
        for name, column, steps in columns:
            value = row.get(column, _MISSING)
            if value is _MISSING and len(steps) > 1:
                value = _within(row, steps)
            if value is _MISSING or value is None:
                if name == "text":
                    return Skipped(reason=f"line without {column!r}", item=lines.said())
                value = ""
            elif isinstance(value, dict | list):
                return Skipped(reason=f"line whose {column!r} is not one value", item=lines.said())
            cell[name] = value.strip() if isinstance(value, str) else str(value)
        return rows.item_of(cell, lines.number, stem=stem, where=lines.said())

    def read(lines: Lines, stem: str) -> Iterator[Item]:
        for line in lines:
            if line.isspace():
                continue
            try:
                yield item_of(line, lines, stem)
            except UNREADABLE as error:
                yield Skipped(reason="unreadable line", item=f"{lines.said()}: {error}")

    return read


def _within(row: Any, steps: tuple[str, ...]) -> Any:
    for step in steps:
        row = row.get(step, _MISSING) if isinstance(row, dict) else _MISSING
    return row


def _has(fields: Fields, column: str) -> bool:
    return column in fields or column.partition(".")[0] in fields
