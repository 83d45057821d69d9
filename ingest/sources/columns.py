"""Rows of named cells → posts, by a column map: what CSV, TSV and JSON Lines share."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from ingest.authors import AuthorHash
from ingest.contract import Label, Post
from ingest.errors import BadSource
from ingest.sources.items import Draft, Item, Skipped, label_of
from ingest.sources.times import EventTime, event_time

MAX_UNKNOWN_LABELS: Final = 20
MAX_ID_CHARS: Final = 512
"""An id is a Kafka key, and part of keys in Redis."""
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


def map_of(given: Mapping[str, str], *, source: str) -> ColumnMap:
    """--map as a map. Raises BadSource."""
    try:
        chosen = msgspec.convert({"source": source, **given}, ColumnMap)
    except msgspec.ValidationError as error:
        fields = ", ".join(ColumnMap.__struct_fields__)
        raise BadSource(f"--map {dict(given)}: {error}; it takes {fields}, and text must be given") from error
    if not chosen.source.isidentifier():
        raise BadSource(f"--map source={chosen.source}: use a plain word, it starts the post ids")
    return chosen


class RowReader:
    """Cells by field → items. `source` starts the ids; a row without an id is called after its file and number."""

    def __init__(self, source: str, *, authors: AuthorHash) -> None:
        self._source, self._authors = source, authors
        self._unknown_labels: set[str] = set()

    def item_of(self, cell: Mapping[str, str], number: int, *, stem: str, where: str) -> Item:
        native_id = cell.get("id", "").strip("'\"")
        if len(native_id) > MAX_ID_CHARS:
            return Skipped(reason="row whose id is too long", item=where)
        found = event_time(native_id, cell.get("created_at"))
        if found is None and "created_at" in cell:
            return Skipped(reason="row without a readable time", item=where)
        created_at, time_warning = found or _made_up_time(number)
        label, label_warning = self._label(cell.get("label", ""))
        handle = cell.get("author") or None
        source = self._source
        post = Post(
            id=f"{source}:{native_id or f'{stem}#{number}'}",
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
        word = word[:40]
        if len(self._unknown_labels) < MAX_UNKNOWN_LABELS:
            self._unknown_labels.add(word)
        known = word in self._unknown_labels
        return None, f"unknown label {word!r}" if known else "unknown label (others)"


def _made_up_time(number: int) -> EventTime:
    return EventTime(NO_TIME_START + timedelta(seconds=number), "no time in the file: rows stand one second apart")


def _count(cell: str) -> int | None:
    return int(cell) if cell.isascii() and cell.isdigit() and len(cell) < 19 else None
