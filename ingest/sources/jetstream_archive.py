"""Captures of Bluesky's Jetstream, both dialects: a line is a frame."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ingest.authors import AuthorHash
from ingest.sources.bluesky_posts import PostReader
from ingest.sources.bluesky_wire import V1, V2, Dialect, MalformedEvent, Notice, Position, StreamEnded
from ingest.sources.items import Draft, Item, Skipped
from ingest.sources.line_archive import Fields, Format, Read, at_hand, each_line


def _is_v1(fields: Fields) -> bool:
    return {"did", "time_us", "kind"} <= fields.keys()


def _is_v2(fields: Fields) -> bool:
    return "$type" in fields and ("payload" in fields or "error" in fields)


def _reader(authors: AuthorHash, dialect: Dialect) -> Read:
    posts = PostReader(authors=authors)

    def items_of(line: bytes) -> Iterator[Item]:
        try:
            event = dialect.decode(line)
        except (MalformedEvent, StreamEnded) as error:
            raise ValueError(str(error)) from error
        if isinstance(event, Notice):
            yield Skipped(reason="remark of the server", item=event.name)
            return
        item = posts.item_of(event, at=Position(event.time_us).at)
        if isinstance(item, str):
            yield Skipped(reason=item, item=event.did)
        else:
            yield at_hand(item) if isinstance(item, Draft) else item

    return each_line(items_of)


FORMATS: Final = (
    Format("Jetstream v1 JSON Lines", lambda authors: _reader(authors, V1()), _is_v1),
    Format("Jetstream v2 JSON Lines", lambda authors: _reader(authors, V2()), _is_v2),
)
