"""The user's topics, edited: `topics.toml` read, tried on retained posts, written whole or not at all, applied to what
is retained.

Ingest reads the file again within two seconds. Comments stay; the shipped file is never changed: the first edit makes
./topics.toml of it.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Final

import ingest.topics
from inference_worker import amendments
from inference_worker.contract import ALL, Prediction, Results
from ingest.topics.definitions import BadTopics, Topics, compile_topics, load_topics

from .errors import DashboardError
from .search import subject_of

OWN: Final = Path("topics.toml")
_SHIPPED: Final = Path(ingest.topics.__file__ or "").parent.parent
BACKFILLED: Final = 20_000
"""Most posts one backfill looks at, the newest first."""
_HEADER: Final = re.compile(r"^[ \t]*\[\[[ \t]*topic[ \t]*\]\][ \t]*(?:#.*)?$", re.M)
_QUOTED: Final = re.compile(r'"[^"]*"')
_UNTOLD: Final = re.compile(r"(?:^|[\s(-])((?:from|to|url|is):|has:(?:links|media))", re.I)


class TopicsChanged(DashboardError):
    """The file was written by somebody else since it was read."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} was changed by somebody else meanwhile: look at it again, then repeat the edit")


class TopicsUnwritable(DashboardError):
    """The file cannot be written."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} cannot be written ({reason}): let MOODSTREAM_TOPICS name a file that can")


@dataclass(frozen=True, kw_only=True)
class Edited:
    """The topics as they stand. path: where they are read; target: where an edit goes; version: tells one text of the
    file from another; error: why the file cannot be used.
    """

    path: Path
    target: Path
    version: str
    definitions: tuple[tuple[str, str], ...]
    error: str = ""

    @property
    def is_shipped(self) -> bool:
        return self.path != self.target

    @property
    def queries(self) -> dict[str, str]:
        return dict(self.definitions)


def opened(named: Path | None, *, kind: str) -> Edited:
    """The file that ingest reads, by the same rule. named: in MOODSTREAM_TOPICS; kind: of the feed."""
    target = named or OWN
    path = target if named or target.exists() else _shipped(kind)
    version = _version(path)
    if named and not path.exists():
        return Edited(path=path, target=target, version=version, definitions=())
    try:
        topics = load_topics(path)
    except BadTopics as error:
        return Edited(path=path, target=target, version=version, definitions=(), error=str(error))
    return Edited(path=path, target=target, version=version, definitions=tuple(topics.queries.items()))


def _shipped(kind: str) -> Path:
    return _SHIPPED / ("topics_live.toml" if kind == "live" else "topics.toml")


def _version(path: Path) -> str:
    try:
        return sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def changed(definitions: Sequence[tuple[str, str]], old: str | None, name: str, query: str) -> list[tuple[str, str]]:
    """The definitions with topic `old` (None: a new one) as it is to be. Raises BadTopics."""
    entry = (name.strip(), query.strip())
    if old is None:
        wanted = [*definitions, entry]
    else:
        wanted = [entry if known == old else (known, said) for known, said in definitions]
    compile_topics(wanted)
    return wanted


def without(definitions: Sequence[tuple[str, str]], name: str) -> list[tuple[str, str]]:
    return [(known, said) for known, said in definitions if known != name]


def save(edited: Edited, definitions: Sequence[tuple[str, str]]) -> None:
    """Writes the topics; the file is the old one or the new one at any moment.

    Raises BadTopics, TopicsChanged, TopicsUnwritable.
    """
    compile_topics(definitions)
    if edited.error:
        raise BadTopics(f"mend it by hand first: {edited.error}")
    if _version(edited.path) != edited.version or (edited.is_shipped and edited.target.exists()):
        raise TopicsChanged(edited.target)
    target = edited.target.resolve()  # a link stays a link
    before = edited.path.read_text(encoding="utf-8") if edited.path.exists() else ""
    text = rewritten(before, definitions)
    try:
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=target.parent, suffix=".part", delete=False
        ) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), mode)
        Path(file.name).replace(target)
    except OSError as error:
        raise TopicsUnwritable(edited.target, str(error.strerror)) from error


def rewritten(text: str, definitions: Sequence[tuple[str, str]]) -> str:
    """The file with these topics; each table that stays as it is keeps its words, and what stands before it."""
    starts = [found.start() for found in _HEADER.finditer(text)]
    preamble = text[: starts[0]] if starts else text
    tables = {_read(table): table for table in _tables(text, starts)}
    blocks = [tables.get(entry, _table(*entry)).rstrip("\n") for entry in definitions]
    made = (preamble + "\n\n".join(blocks)).rstrip("\n") + "\n"
    return (
        made if _definitions(made) == list(definitions) else "\n\n".join(_table(*entry) for entry in definitions) + "\n"
    )


def _tables(text: str, starts: Sequence[int]) -> Iterator[str]:
    for start, end in pairwise([*starts, len(text)]):
        yield text[start:end]


def _read(table: str) -> tuple[str, str] | None:
    found = _definitions(table)
    return found[0] if found and len(found) == 1 else None


def _definitions(text: str) -> list[tuple[str, str]] | None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "topics.toml"
        path.write_text(text, encoding="utf-8")
        try:
            return list(load_topics(path).queries.items())
        except BadTopics:
            return None


def _table(name: str, query: str) -> str:
    return f"[[topic]]\nname = {_quoted(name)}\nquery = {_quoted(query)}"


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's, but for DEL, which TOML wants escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def untold(query: str) -> tuple[str, ...]:
    """What a query asks that a scored post no longer tells: its author's handle, expanded links, what it answers."""
    return tuple(dict.fromkeys(said.lower() for said in _UNTOLD.findall(_QUOTED.sub('""', query))))


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a query finds among posts read. by_hour: posts per hour that match; untold: what could not be told."""

    matching: tuple[Prediction, ...]
    read: int
    by_hour: tuple[tuple[datetime, int], ...]
    untold: tuple[str, ...]


def preview(query: str, posts: Sequence[Prediction]) -> Preview:
    """Tries a query. Raises BadTopics with its column."""
    topics = compile_topics([("preview", query.strip())])
    found = [post for post in posts if topics.match(subject_of(post))]
    hours = Counter(post.created_at.astimezone(UTC).replace(minute=0, second=0, microsecond=0) for post in found)
    return Preview(matching=tuple(found), read=len(posts), by_hour=tuple(sorted(hours.items())), untold=untold(query))


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a backfill is. reached: event time it got to, going back."""

    looked_at: int
    moved: int
    reached: datetime
    is_done: bool


def backfill(
    results: Results, topics: Topics, start: datetime, end: datetime, *, drop_unknown: bool = False
) -> Iterator[Progress]:
    """Moves retained posts to the topics whose queries they match, the newest first; doing it again moves nothing.

    Topics that are no longer in the file stay as they are unless `drop_unknown`; so do those whose queries ask what a
    scored post no longer tells. At most BACKFILLED posts are looked at.
    """
    kept = {name for name, query in topics.queries.items() if untold(query)}
    told = set(topics.names) - kept
    looked_at = moved = 0
    until = end
    while until > start and looked_at < BACKFILLED:
        since, room = max(start, until - timedelta(hours=1)), BACKFILLED - looked_at
        posts = results.posts(ALL, since, until, limit=room)
        for post in posts:
            matched = set(topics.match(subject_of(post)))
            stays = [
                name for name in post.topics if (name in matched if name in told else name in kept or not drop_unknown)
            ]
            wanted = [*stays, *(name for name in topics.names if name in matched and name not in stays)]
            moved += set(wanted) != set(post.topics) and amendments.retag(results, post.id, wanted)
            looked_at += 1
        # A busy hour may hold more than there is room for: the rest of it is still to come.
        until = since if len(posts) < room else posts[-1].created_at + timedelta(milliseconds=1)
        yield Progress(looked_at=looked_at, moved=moved, reached=until, is_done=until <= start)
    yield Progress(looked_at=looked_at, moved=moved, reached=until, is_done=until <= start)
