"""What X tells of deletions, by its compliance streams and by batch compliance."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingest.errors import BadCredentials, SourceUnreachable
from ingest.sources.x_batch import PostLog
from ingest.sources.x_compliance import SeenPosts
from tests.ingest.live.upstream import Create, Script, deletions_of, drafts_of
from tests.ingest.live.x_payloads import AUTHOR, id_of, snowflake
from tests.ingest.live.x_play import AUTHORS, NOON, Clock, read
from tests.ingest.live.x_server import XUpstream


def event(kind: str, **fields: Any) -> bytes:
    return json.dumps({"data": {kind: {"event_at": "2026-11-20T18:40:40.000Z", **fields}}}).encode()


def tweet(number: int, edit: int = 0) -> dict[str, dict[str, str]]:
    return {"tweet": {"id": id_of(number, edit), "author_id": AUTHOR}}


async def test_compliance_events_become_deletions(x: XUpstream) -> None:
    posts, users = "/2/tweets/compliance/stream", "/2/users/compliance/stream"
    old = {"tweet": {"id": snowflake(datetime(2025, 1, 1, tzinfo=UTC)), "author_id": "5"}}
    x.extra = {
        (posts, "1"): [event("delete", **old), event("undrop", **old), b"nonsense"],
        (posts, "3"): [event("withheld", withheld_in_countries=["DE"], **tweet(7))],
        (posts, "4"): [event("drop", **tweet(8))],
        (users, "2"): [event("user_suspend", user={"id": AUTHOR}), event("user_unsuspend", user={"id": AUTHOR})],
        (users, "4"): [event("user_profile_modification", user={"id": "5"}, new_value="x")],
    }
    x.play(Script.of(Create(1)))
    source = x.open(with_compliance=True)
    items = await read(source, 5)
    assert {deletion.post_id for deletion in deletions_of(items)} == {
        f"x:{old['tweet']['id']}",
        f"x:{id_of(7)}",
        f"x:{id_of(8)}",
        None,
    }
    assert {deletion.author for deletion in deletions_of(items)} == {None, AUTHORS("x", AUTHOR)}
    assert {deletion.deleted_at for deletion in deletions_of(items)} == {datetime(2026, 11, 20, 18, 40, 40, tzinfo=UTC)}
    assert len(drafts_of(items)) == 1 and source.state.reconnects == 0


def test_a_deletion_of_any_version_finds_the_post() -> None:
    seen = SeenPosts(now=Clock(NOON))
    seen.add(["10", "11", "12"])
    assert [seen.first_of(version) for version in ("10", "11", "12", "13")] == ["10", "10", "10", "13"]


def test_deletions_of_posts_that_never_came_are_left_out() -> None:
    clock = Clock(NOON)
    seen = SeenPosts(now=clock, size=2)
    before, during = snowflake(NOON - timedelta(minutes=1)), snowflake(NOON + timedelta(minutes=1))
    clock.at = NOON + timedelta(hours=1)
    assert seen.first_of(before) == before, "an earlier run may have passed it on"
    assert seen.first_of(during) is None
    young = snowflake(clock.at - timedelta(minutes=2))
    assert seen.first_of(young) == young, "the post may still come"
    for minute in (2, 3, 4):
        seen.add([snowflake(NOON + timedelta(minutes=minute))])
    assert seen.first_of(during) == during, "it may be among those forgotten"


async def test_compliance_streams_that_are_down_are_told(x: XUpstream) -> None:
    x.extra = {("/2/tweets/compliance/stream", "1"): [event("delete", **tweet(1))]}
    x.broken_partition = "3"
    x.play(Script(tuple(Create(number) for number in range(1, 3000))))
    source = x.open(with_compliance=True)
    async with asyncio.timeout(10), aclosing(aiter(source)) as stream:
        async for _ in stream:
            if "2 of 8 compliance streams down" in source.state.detail:
                break


async def test_compliance_without_access_is_told(x: XUpstream) -> None:
    x.play(Script.of(Create(1)))
    with pytest.raises(BadCredentials, match="or leave out --channel compliance"):
        await read(x.open(with_compliance=True), 2)


def test_ids_are_kept_by_day_and_not_for_ever(tmp_path: Path) -> None:
    clock = Clock(NOON)
    log = PostLog(tmp_path / "x-posts", now=clock)
    log.add("10", "10")
    log.add("11", "10")
    clock.at += timedelta(days=1)
    file = tmp_path / "x-posts" / "2026-11-23.txt"
    file.write_text("\n3")  # the disk was full
    log.add("20", "20")
    assert log.read() == {"10": "10", "11": "10", "20": "20"}
    clock.at = NOON + timedelta(days=31)
    assert log.read() == {"20": "20"} and len(list((tmp_path / "x-posts").iterdir())) == 1
    assert PostLog(tmp_path / "nowhere").read() == {}


def test_ids_that_cannot_be_kept_are_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "x-posts").write_text("a file where the folder should be")
    with pytest.raises(SourceUnreachable, match=r"X's posts in .*/x-posts \(File exists\): .* MOODSTREAM_STATE"):
        PostLog(tmp_path / "x-posts").add("10", "10")
    (tmp_path / "kept" / "2026-11-22.txt").mkdir(parents=True)
    with pytest.raises(SourceUnreachable, match=r"X's posts in .*/kept \(Is a directory\): .* MOODSTREAM_STATE"):
        PostLog(tmp_path / "kept", now=Clock(NOON)).read()


async def test_posts_x_reports_gone_become_deletions_once(x: XUpstream) -> None:
    log = PostLog(x.state_dir / "x-posts")
    for version, first in ((id_of(1), id_of(1)), (id_of(1, 1), id_of(1)), (id_of(2), id_of(2)), (id_of(3), id_of(3))):
        log.add(version, first)
    x.gone = {
        id_of(1): "deleted",
        id_of(1, 1): "deleted",
        id_of(2): "suspended",
        id_of(3): "scrub_geo",
        "77": "deleted",
    }
    x.play(Script.of(Create(4)))
    items = await read(x.open(post_log=log), 3)
    assert [deletion.post_id for deletion in deletions_of(items)] == [f"x:{id_of(1)}", f"x:{id_of(2)}"]
    assert deletions_of(items)[0].deleted_at == datetime(2026, 11, 21, 8, 30, tzinfo=UTC)
    assert set(x.uploads[0].decode().split()) >= {id_of(1), id_of(1, 1), id_of(2), id_of(3)}
    assert id_of(4) in log.read(), "what is passed on now is asked for the next time"
    assert x.token_at_storage is False


async def test_a_job_that_fails_or_is_refused_is_made_again(x: XUpstream) -> None:
    log = PostLog(x.state_dir / "x-posts")
    log.add(id_of(1), id_of(1))
    x.gone, x.failing_jobs, x.failing_results = {id_of(1): "deleted"}, 1, 1
    assert len(deletions_of(await read(x.open(post_log=log), 1))) == 1
    assert [wait for wait in x.waits.seconds if wait < 30] == [5, 10] and len(x.uploads) == 2


async def test_batch_compliance_without_access_is_told(x: XUpstream) -> None:
    log = PostLog(x.state_dir / "x-posts")
    log.add("1", "1")
    with pytest.raises(BadCredentials, match="or leave out --channel batch-compliance"):
        await read(x.open(post_log=log), 1)
