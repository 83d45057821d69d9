"""What a command line asks for, opened: a source, and the topics for its posts."""

from __future__ import annotations

from typing import NamedTuple

from ingest.arguments import Request
from ingest.authors import AuthorHash, kept_key
from ingest.cursors import CursorFile
from ingest.errors import BadSource, BadTopics
from ingest.settings import OWN_TOPICS, SHIPPED_LIVE_TOPICS, SHIPPED_TOPICS, Settings
from ingest.sources.detect import SourceOptions, open_source
from ingest.sources.items import Source
from ingest.topics.definitions import TopicsFile


class Asked(NamedTuple):
    """A source still unread, and the file of its topics."""

    source: Source
    topics: TopicsFile


def open_asked(request: Request, settings: Settings) -> Asked:
    """Raises Misuse if the options do not fit each other or the source."""
    if request.keep_all and not request.is_live:
        raise BadSource(f"--all: {request.source} is sent whole anyway; leave it out")
    path = request.topics or settings.topics_of("live" if request.is_live else "replay")
    if request.source == "x" and path == SHIPPED_LIVE_TOPICS:
        raise BadTopics("X bills every post, so the shipped topics are not used: write your own topics.toml")
    # Topics edited first on the dashboard become a file of their own; the shipped ones are never changed.
    topics = TopicsFile(path, own=OWN_TOPICS if path in (SHIPPED_TOPICS, SHIPPED_LIVE_TOPICS) else None)
    options = SourceOptions(
        authors=AuthorHash(_author_key(settings, is_live=request.is_live)),
        split=request.split,
        column_map=request.column_map,
        in_time_order=request.speed is not None,
        hosts=request.hosts,
        channels=request.channels,
        cursor=_cursor(settings, request.source) if request.is_live else None,
        queries=topics.topics.queries,
        environ=settings.environ,
    )
    return Asked(open_source(request.source, options), topics)


def _author_key(settings: Settings, *, is_live: bool) -> bytes:
    if is_live and not settings.is_author_key_given and settings.state_dir is not None:
        return kept_key(settings.state_dir)
    return settings.author_key


def _cursor(settings: Settings, source: str) -> str | None:
    if settings.cursor_dir is None:
        return None
    return CursorFile(settings.cursor_dir, namespace=settings.namespace, source=source).load()
