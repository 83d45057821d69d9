"""What was read already."""

from __future__ import annotations

from ingest.sources.seen import Seen


def test_only_a_higher_revision_is_news() -> None:
    seen = Seen()
    assert [seen.is_news("x:1", revision) for revision in (0, 0, 4, 2, 4, 6)] == [True, False, True, False, False, True]


def test_nothing_is_news_of_a_deleted_post() -> None:
    seen = Seen()
    seen.is_news("x:1", 0)
    assert [seen.is_new_deletion("x:1"), seen.is_new_deletion("x:1")] == [True, False]
    assert not seen.is_news("x:1", (1 << 31) - 2) and seen.is_deleted("x:1")


def test_those_that_came_first_are_forgotten() -> None:
    seen = Seen(limit=2)
    for post_id in ("x:1", "x:2", "x:3"):
        seen.is_news(post_id, 0)
    assert [seen.is_news(post_id, 0) for post_id in ("x:3", "x:2")] == [False, False]
    assert seen.is_news("x:1", 0)
