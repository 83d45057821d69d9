"""Which posts were read already, and in which revision: streams and listings repeat themselves."""

from __future__ import annotations

from typing import Final

MAX_SEEN: Final = 200_000
DELETED: Final = 1 << 31
"""Above every revision: nothing that comes later is news of a deleted post."""


class Seen:
    """Post ids and their newest revision; beyond `limit` those that came first are forgotten."""

    def __init__(self, limit: int = MAX_SEEN) -> None:
        self._limit = limit
        self._revisions: dict[str, int] = {}

    def __contains__(self, post_id: str) -> bool:
        return post_id in self._revisions

    def is_deleted(self, post_id: str) -> bool:
        return self._revisions.get(post_id) == DELETED

    def is_news(self, post_id: str, revision: int) -> bool:
        """True for a new post or a higher revision, which from now on is known."""
        if self._revisions.get(post_id, -1) >= revision:
            return False
        if post_id not in self._revisions and len(self._revisions) >= self._limit:
            del self._revisions[next(iter(self._revisions))]
        self._revisions[post_id] = revision
        return True

    def is_new_deletion(self, post_id: str) -> bool:
        """True unless it is known to be deleted, which it is from now on."""
        return self.is_news(post_id, DELETED)
