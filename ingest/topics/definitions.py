"""The user's topics: names and queries (see `query.py`) from `topics.toml`, applied alike to every source."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from ingest.errors import BadTopics
from ingest.topics.index import TopicIndex
from ingest.topics.query import parse_query
from ingest.topics.reading import Reading, Subject
from ingest.topics.terms import Condition
from ingest.topics.watched import WatchedFile

__all__ = ["BUILT_IN", "BadTopics", "Subject", "Topic", "Topics", "TopicsFile", "compile_topics", "load_topics"]

BUILT_IN: Final = "all"
MAX_NAME: Final = 60


class Topic(NamedTuple):
    """A named query."""

    name: str
    query: str
    condition: Condition


class Topics:
    """All topics of the user."""

    def __init__(self, topics: Iterable[Topic] = ()) -> None:
        self.topics = tuple(topics)
        self.names = tuple(topic.name for topic in self.topics)
        self.queries = {topic.name: topic.query for topic in self.topics}
        self._index = TopicIndex([topic.condition for topic in self.topics])

    def match(self, subject: Subject) -> tuple[str, ...]:
        """Names of the topics a post belongs to, in the order of the file."""
        return tuple([self.names[number] for number in self._index.matching(Reading(subject))])


class TopicsFile:
    """The topics of a file that may be edited while they are in use."""

    def __init__(self, path: Path, *, own: Path | None = None) -> None:
        """own: read in place of `path` as soon as it is there. Raises BadTopics."""
        self._watched = WatchedFile(path)
        self._own = WatchedFile(own, unread=True) if own is not None else None
        self.topics = load_topics(path)

    def changed(self) -> bool:
        """Reads the file again if it was written since; `topics` then are the new ones.

        Raises BadTopics, once for each time it is written, if it cannot be used; the old topics then stay.
        """
        if self._own is not None and self._own.written():
            self._watched, self._own = self._own, None
        elif not self._watched.written():
            return False
        self.topics = load_topics(self._watched.path)
        return True


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    query: str


class _File(msgspec.Struct, forbid_unknown_fields=True):
    topic: list[_Entry] = []


def load_topics(path: Path) -> Topics:
    """Reads `[[topic]]` tables with `name` and `query`. Raises BadTopics naming topic, query and column."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        entries = msgspec.convert(tables, _File).topic
    except OSError as error:
        raise BadTopics(f"cannot read {path} (MOODSTREAM_TOPICS): {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise BadTopics(f"{path} is not a list of [[topic]] tables with name and query: {error}") from error
    return compile_topics((entry.name, entry.query) for entry in entries)


def compile_topics(definitions: Iterable[tuple[str, str]]) -> Topics:
    """(name, query) pairs → topics. Raises BadTopics."""
    topics: dict[str, Topic] = {}
    for name, query in definitions:
        if not 1 <= len(name) <= MAX_NAME or not name.isprintable() or name != name.strip():
            raise BadTopics(f"use a name of 1 to {MAX_NAME} printable characters", topic=name)
        if name == BUILT_IN:
            raise BadTopics(f"{BUILT_IN!r} is built in and holds every post; use another name", topic=name)
        if name in topics:
            raise BadTopics("two topics have this name", topic=name)
        try:
            topics[name] = Topic(name, query, parse_query(query))
        except BadTopics as error:
            raise BadTopics(error.problem, topic=name, query=query, column=error.column) from error
    return Topics(topics.values())
