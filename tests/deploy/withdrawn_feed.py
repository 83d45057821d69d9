"""An archive in which people change their minds: edits, deletions, and authors who are to be forgotten."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from ingest.contract import Deletion, Post, Record

NOON: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
JUDGED: Final = {
    "x:edited": "edited twice, as it stands",
    "x:kept": "kept",
    "x:ann after": "ann writes again",
    "x:ann last": "and again",
}


def withdrawn_feed() -> list[Record]:
    """13 records; 4 posts are left to judge, 1 comes twice, 2 are deletions, and 6 posts or revisions are withdrawn."""

    def post(name: str, text: str, *, revision: int = 0, author: str | None = None, minute: int = 0) -> Post:
        at = NOON + timedelta(minutes=minute)
        return Post(
            id=f"x:{name}",
            source="x",
            revision=revision,
            created_at=at,
            ingested_at=at,
            text=text,
            author=author,
            label="neutral",
        )

    def deletion(*, post_id: str | None = None, author: str | None = None) -> Deletion:
        return Deletion(source="x", deleted_at=NOON, ingested_at=NOON, post_id=post_id, author=author)

    return [
        post("edited", "edited: not as it stands"),
        post("edited", "edited once", revision=1),
        post("edited", "edited twice, as it stands", revision=2),
        post("edited", "late: an older revision", revision=1),
        post("kept", "kept", author="bob"),
        post("kept", "kept", author="bob"),
        post("deleted", "deleted by its author"),
        deletion(post_id="x:deleted"),
        post("ann before", "ann, before she is forgotten", author="ann"),
        deletion(author="ann"),
        post("ann before", "and an edit of it that comes too late", revision=1, author="ann"),
        post("ann after", "ann writes again", author="ann", minute=1),
        post("ann last", "and again", author="ann", minute=2),
    ]
