"""Posts are counted as X bills them."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingest.errors import BadSource, SourceUnreachable
from ingest.sources.items import Item
from ingest.sources.x_budget import UsageCounter, open_counter
from tests.ingest.live.upstream import Create, Edit, Script
from tests.ingest.live.x_play import NOON, Clock, read
from tests.ingest.live.x_server import XUpstream


def test_usage_counts_each_post_once_a_utc_day(tmp_path: Path) -> None:
    clock = Clock(NOON)
    counter = UsageCounter(budget=1000, file=tmp_path / "usage.json", now=clock)
    for post_id in ("1", "2", "1"):
        counter.count(post_id)
    clock.at += timedelta(days=1)
    counter.count("1")
    assert counter.used == 3 and str(counter) == "3 of 1,000 posts of November 2026 used"
    clock.at = datetime(2026, 12, 1, tzinfo=UTC)
    counter.count("1")
    assert str(counter) == "1 of 1,000 posts of December 2026 used"


def test_usage_is_kept_and_a_kill_counts_too_many_rather_than_too_few(tmp_path: Path) -> None:
    file = tmp_path / "state" / "usage.json"
    killed = UsageCounter(budget=10_000, file=file)
    for number in range(150):
        killed.count(str(number))
    assert 150 <= UsageCounter(budget=10_000, file=file).used < 250
    killed.close()
    assert UsageCounter(budget=10_000, file=file).used == 150
    later = UsageCounter(budget=10_000, file=file, now=Clock(datetime.now(UTC) + timedelta(days=32)))
    assert later.used == 0


async def test_the_budget_stops_the_stream_before_it_is_overdrawn(x: XUpstream) -> None:
    x.play(Script(tuple(Create(number) for number in range(1, 50))))
    source = x.open(budget=3)
    items: list[Item] = []
    with pytest.raises(SourceUnreachable, match="3 of 3 posts of .* raise MOODSTREAM_X_BUDGET_POSTS"):
        async with aclosing(aiter(source)) as stream:
            async for item in stream:
                items.append(item)
    assert len(items) == 3
    with pytest.raises(SourceUnreachable):
        await read(x.open(budget=3), 1)
    assert x.stage.attempts == 1, "it does not even connect again"


async def test_a_larger_budget_leaves_room_for_posts_under_way(tmp_path: Path) -> None:
    counter = UsageCounter(budget=1000, file=tmp_path / "usage.json")
    for number in range(990):
        counter.check()
        counter.count(str(number))
    with pytest.raises(SourceUnreachable):
        counter.check()


async def test_the_state_shows_what_is_used(x: XUpstream) -> None:
    x.play(Script.of(Create(1), Create(1), Edit(1, 1)))
    source = x.open(budget=1234)
    await read(source, 3)
    assert "connected, 2 of 1,234 posts of" in source.state.detail


def test_an_unreadable_count_is_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "x-usage.json").write_text("{")
    with pytest.raises(BadSource, match=r"x-usage\.json should hold the count"):
        open_counter({}, tmp_path)
