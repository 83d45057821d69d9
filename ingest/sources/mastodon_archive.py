"""Captures of Mastodon: the raw stream of server-sent events, or a status a line."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from ingest.authors import AuthorHash
from ingest.contract import Deletion
from ingest.sources.items import Item, Skipped
from ingest.sources.line_archive import Fields, Format, Read, archived, each_line
from ingest.sources.lines import MAX_LINE_BYTES, Lines
from ingest.sources.mastodon_status import MALFORMED, SOURCE, Status, draft_of, read_status

REMEMBERED: Final = 100_000
"""Numbers of statuses, for deletions that name nothing else."""
_STATUS_EVENTS: Final = (b"update", b"status.update")
_BEGINNINGS: Final = (b":", b"event:", b"data:")


class _Statuses:
    """Statuses and deletions → items."""

    def __init__(self, authors: AuthorHash) -> None:
        self._authors = authors
        self._ids: OrderedDict[str, str] = OrderedDict()
        self._newest = datetime(2016, 10, 6, tzinfo=UTC)  # the first toot

    def item_of(self, data: bytes, where: str) -> Item:
        status = read_status(data)
        if status is None:
            return Skipped(reason=MALFORMED, item=where)
        item = draft_of(status, _home(status), authors=self._authors, skip_bots=True)
        if isinstance(item, Skipped):
            return item
        draft = archived(item)
        self._newest = draft.post.created_at
        self._ids[status.id] = draft.post.id
        if len(self._ids) > REMEMBERED:
            self._ids.popitem(last=False)
        return draft

    def deletion_of(self, number: str) -> Item:
        post_id = self._ids.get(number)
        if post_id is None:
            return Skipped(reason="deletion of a status that is not in the capture", item=number[:80])
        now = datetime.now(UTC)
        return Deletion(source=SOURCE, post_id=post_id, deleted_at=self._newest, ingested_at=now)


def _home(status: Status) -> str:
    """The server it was written on; for a local one its name is in its address alone."""
    host = urlsplit(status.uri or status.url or "").hostname
    return host or "unknown.invalid"


def _sse_reader(authors: AuthorHash) -> Read:
    statuses = _Statuses(authors)

    def read(lines: Lines, stem: str) -> Iterator[Item]:
        event, data, size = b"", [], 0
        for line in lines:
            field, _, value = line.rstrip(b"\r\n").partition(b":")
            value = value.removeprefix(b" ")
            if field == b"event":
                event = value
            elif field == b"data":
                size += len(value)
                if size <= MAX_LINE_BYTES:  # what is cut here is no status any more
                    data.append(value)
            elif not line.strip():
                if event or data:
                    yield _item(statuses, event, b"\n".join(data), lines.said())
                event, data, size = b"", [], 0
        if data:
            yield _item(statuses, event, b"\n".join(data), lines.said())

    return read


def _item(statuses: _Statuses, event: bytes, data: bytes, where: str) -> Item:
    if event in _STATUS_EVENTS:
        return statuses.item_of(data, where)
    if event == b"delete":
        return statuses.deletion_of(data.decode("utf-8", "replace").strip())
    return Skipped(reason="event of another kind", item=f"{where}: {event[:40].decode('utf-8', 'replace')}")


def _lines_reader(authors: AuthorHash) -> Read:
    statuses = _Statuses(authors)

    def items_of(line: bytes) -> Iterator[Item]:
        yield statuses.item_of(line, line[:80].decode("utf-8", "replace"))

    return each_line(items_of)


def _is_status(fields: Fields) -> bool:
    return {"id", "created_at", "account", "content"} <= fields.keys() and ("uri" in fields or "url" in fields)


def _is_sse(beginning: bytes) -> bool:
    lines = [line for line in beginning.split(b"\n", 50)[:50] if line.strip()]
    return bool(lines) and all(line.startswith(_BEGINNINGS) for line in lines[:10]) and b"event:" in beginning


FORMATS: Final = (
    Format("Mastodon event stream", _sse_reader, begins=_is_sse),
    Format("Mastodon JSON Lines", _lines_reader, _is_status),
)
