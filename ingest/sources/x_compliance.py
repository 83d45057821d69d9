"""X's compliance streams → deletions. X opens them to Enterprise apps only.

They tell of every post and account of X, in four partitions each, so what surely never came here is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import msgspec

from ingest.authors import AuthorHash
from ingest.contract import Deletion
from ingest.sources.times import parse_time, snowflake_time
from ingest.sources.x_posts import SOURCE

STREAMS: Final = ("/2/tweets/compliance/stream", "/2/users/compliance/stream")
PARTITIONS: Final = range(1, 5)
POST_GONE: Final = frozenset(("delete", "drop", "withheld"))
AUTHOR_GONE: Final = frozenset(("user_delete", "user_suspend", "user_protect", "user_withheld"))
EDIT: Final = "tweet_edit"
REMEMBERED: Final = 200_000
STILL_COMING: Final = timedelta(minutes=10)
"""X may deliver a post after its deletion; younger ones than this are deleted unseen."""


class _Named(msgspec.Struct):
    id: str


class _Event(msgspec.Struct):
    event_at: str | None = None
    tweet: _Named | None = None
    user: _Named | None = None
    initial_tweet_id: str | None = None
    edit_tweet_ids: list[str] = []


class _Message(msgspec.Struct):
    data: dict[str, _Event]


read_events: Final = msgspec.json.Decoder(_Message).decode
"""Raises msgspec.DecodeError for what is no compliance event."""


class SeenPosts:
    """The posts that came of late, by the ids of all their versions: deleting one version deletes them all.

    A post neither among them nor older than this memory never came here.
    """

    def __init__(self, *, now: Callable[[], datetime] = lambda: datetime.now(UTC), size: int = REMEMBERED) -> None:
        self._now, self._size = now, size
        self._first: dict[str, str] = {}
        self._since = now()

    def add(self, versions: Sequence[str]) -> None:
        """Ids of a post, the first version's first."""
        for version in versions:
            self._first[version] = versions[0]
        while len(self._first) > self._size:
            forgotten = next(iter(self._first))
            del self._first[forgotten]
            self._since = max(self._since, snowflake_time(forgotten) or self._now())

    def first_of(self, version: str) -> str | None:
        """The id the post goes by here; None if it never came."""
        if version in self._first:
            return self._first[version]
        created_at = snowflake_time(version)
        if created_at is None or created_at <= self._since or self._now() - created_at < STILL_COMING:
            return version
        return None


class Outcome(NamedTuple):
    """A deletion, or why there is none."""

    deletion: Deletion | None
    reason: str = ""


def outcome_of(kind: str, event: _Event, *, seen: SeenPosts, authors: AuthorHash, at: datetime) -> Outcome:
    """What an event of this kind asks for, received `at`."""
    if kind == EDIT and event.initial_tweet_id is not None:
        if seen.first_of(event.initial_tweet_id) is not None:
            seen.add([event.initial_tweet_id, *event.edit_tweet_ids])
        return Outcome(None, "edit told without its text")
    deleted_at = _time_of(event, at)
    if kind in AUTHOR_GONE and event.user is not None:
        author = authors(SOURCE, event.user.id)
        return Outcome(Deletion(source=SOURCE, author=author, deleted_at=deleted_at, ingested_at=at))
    if kind in POST_GONE and event.tweet is not None:
        first = seen.first_of(event.tweet.id)
        if first is None:
            return Outcome(None, "deletion of a post that never came")
        post_id = f"{SOURCE}:{first}"
        return Outcome(Deletion(source=SOURCE, post_id=post_id, deleted_at=deleted_at, ingested_at=at))
    return Outcome(None, "other compliance event")


def _time_of(event: _Event, at: datetime) -> datetime:
    told = parse_time(event.event_at) if event.event_at else None
    if told is None:
        return at
    return told.astimezone(UTC) if told.tzinfo else told.replace(tzinfo=UTC)
