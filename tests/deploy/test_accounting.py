from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from redis.asyncio import Redis

from dashboard.parts import Parts
from deploy import accounting
from deploy.accounting import Account, Ledger
from deploy.children import Child
from deploy.errors import StackFailed
from deploy.servers import start_store
from inference_worker.contract import Keys, Meta, Prediction, encode_prediction, meta_key
from ingest.report import IngestReport
from tests.inference_worker.conftest import predict

__all__ = ["predict"]

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def account(counts: dict[str, int], *, read: int = 10, skipped: int = 0, failed: int = 0) -> Account:
    report = IngestReport(
        run="r",
        namespace="n",
        source="feed.csv",
        read=read,
        sent=read - skipped - failed,
        skipped={"no text": skipped},
        failed={"RecordTooLarge": failed} if failed else {},
        warnings={},
        started_at=NOON,
        finished_at=NOON,
    )
    return Account(report=report, counts=counts, seconds=2.0)


@pytest.mark.parametrize(
    ("counts", "skipped", "failed", "lost"),
    [
        ({"scored": 6, "duplicates": 2, "dead_letters": 1, "stale": 1}, 0, 0, 0),
        ({"scored": 10, "redelivered": 7}, 0, 0, 0),  # a redelivery was counted when it came first
        ({"scored": 8}, 2, 0, 0),
        ({"scored": 8}, 0, 2, 2),  # Kafka refused them: they are nowhere
        ({"scored": 7}, 0, 0, 3),
        ({"scored": 11}, 0, 0, -1),
        ({}, 0, 0, 10),
    ],
)
def test_lost_is_what_was_read_and_ended_nowhere(counts: dict[str, int], skipped: int, failed: int, lost: int) -> None:
    assert account(counts, skipped=skipped, failed=failed).lost == lost


@pytest.mark.parametrize(
    ("counts", "failed", "told"),
    [
        ({"scored": 10}, 0, ""),
        (
            {"scored": 7},
            0,
            "3 of 10 posts are unaccounted for: nothing was scored for 180 s; "
            "see the workers' logs in /logs, then go on with it",
        ),
        ({"scored": 8}, 2, "2 of 10 posts were refused by Kafka (2 x RecordTooLarge): let it take records of 1 MiB"),
        ({"scored": 7}, 2, "leave it out of the archive; 1 of 10 posts are unaccounted for"),
        ({"scored": 12}, 0, "2 more results than there were posts to score: some are counted twice, so do not rely"),
    ],
)
def test_what_does_not_come_out_even_is_explained_in_one_line(counts: dict[str, int], failed: int, told: str) -> None:
    said = account(counts, failed=failed).amiss(Path("/logs"), "go on with it")
    assert told in said and bool(told) == bool(said) and "\n" not in said


def test_an_authors_deletion_is_read_once_and_settled_in_every_partition() -> None:
    one = account({"scored": 9, "deletions": 4}, read=10)
    assert one.lost == -3
    told = Account(report=msgspec.structs.replace(one.report, sent=13, copies=3), counts=one.counts, seconds=1.0)
    assert told.lost == 0


def test_throughput_counts_all_records_that_ended_somewhere() -> None:
    assert account({"scored": 6, "duplicates": 4}).as_dict(6)["throughput_posts_per_s"] == 5.0


@pytest.mark.parametrize(
    "counts",
    [
        {"scored": 5, "edits": 1, "duplicates": 1, "deletions": 2, "forgotten": 1},
        {"scored": 3, "edits": 0, "stale": 3, "duplicates": 1, "deletions": 2},  # the same, scored too late to matter
    ],
)
def test_what_is_not_judged_adds_up_however_far_it_came(counts: dict[str, int]) -> None:
    found = account(counts, read=10, skipped=1).as_dict(3)
    assert (found["withdrawn"], found["deletions"], found["lost"]) == (3, 2, 0)
    parts = ("duplicates", "withdrawn", "deletions", "dead_letters", "lost")
    assert 3 + sum(found[name] for name in parts) + sum(found["skipped"].values()) == 10


def test_a_namespace_replayed_into_again_withdraws_nothing() -> None:
    assert account({"duplicates": 10}).as_dict(0)["withdrawn"] == 0
    assert account({"scored": 2, "duplicates": 8}).as_dict(5)["withdrawn"] == 0  # 3 of a run before were left there


@pytest.mark.parametrize("counts", [{"scored": 9}, {"scored": 11, "deletions": 1, "forgotten": 1}, {"duplicates": 9}])
def test_predictions_that_are_all_there_pass(counts: dict[str, int]) -> None:
    account(counts).check_drained(9)


def test_predictions_another_replay_took_away_are_missed() -> None:
    with pytest.raises(StackFailed, match="^3 predictions of namespace 'n' were drained by somebody else: let one"):
        account({"scored": 9, "deletions": 1}).check_drained(5)


def test_what_was_left_out_is_told_with_its_first_place() -> None:
    report = msgspec.structs.replace(
        account({}).report,
        skipped={"archive damaged from here on": 1, "neither text nor image": 2},
        samples={"archive damaged from here on": ["line 7: it ends too soon"]},
    )
    assert Account(report=report, counts={}, seconds=1.0).left_out() == [
        "left out: 2 x neither text nor image",
        "left out: 1 x archive damaged from here on, first line 7: it ends too soon",
    ]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[tuple[Child, str]]:
    child, url = await start_store(tmp_path / "store.log", None)
    async with Redis.from_url(url) as redis:
        await redis.set(meta_key("n"), msgspec.msgpack.encode(Meta(shards=1)))
    yield child, url
    await child.stop()


async def test_follow_ends_when_all_that_was_sent_is_settled(store: tuple[Child, str], tmp_path: Path) -> None:
    ledger = Ledger(store[1], "n", Parts(tmp_path / "parts"))
    following = asyncio.create_task(ledger.follow("r"))
    async with Redis.from_url(store[1]) as redis:
        await redis.hset(Keys("n", 0).run("r"), mapping={"scored": 3, "duplicates": 1})
        ledger.expect(4)
        await asyncio.sleep(0.5)
        assert not following.done()  # more may come
        ledger.expect(4, final=True)
        assert await asyncio.wait_for(following, 5) == {"scored": 3, "duplicates": 1}


async def test_follow_gives_up_on_what_never_comes(
    store: tuple[Child, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounting, "STALL_S", 0.6)
    ledger = Ledger(store[1], "n", Parts(tmp_path / "parts"))
    async with Redis.from_url(store[1]) as redis:
        await redis.hset(Keys("n", 0).run("r"), mapping={"scored": 3})
    ledger.expect(4, final=True)
    assert await asyncio.wait_for(ledger.follow("r"), 5) == {"scored": 3}
    assert ledger.idle_s >= 0.6


async def test_follow_says_when_redis_is_lost(store: tuple[Child, str], tmp_path: Path) -> None:
    child, url = store
    ledger = Ledger(url, "n", Parts(tmp_path / "parts"))
    following = asyncio.create_task(ledger.follow("r"))
    await asyncio.sleep(0.4)
    child.kill()
    with pytest.raises(StackFailed, match="was lost on the way"):
        await asyncio.wait_for(following, 10)


async def test_what_a_resumed_run_sends_again_is_no_stall(
    store: tuple[Child, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounting, "STALL_S", 0.8)
    ledger = Ledger(store[1], "n", Parts(tmp_path / "parts"))
    ledger.expect(4, final=True)
    following = asyncio.create_task(ledger.follow("r"))
    async with Redis.from_url(store[1]) as redis:
        for redelivered in range(1, 6):
            await redis.hset(Keys("n", 0).run("r"), mapping={"scored": 3, "redelivered": redelivered})
            await asyncio.sleep(0.5)
            assert not following.done()
        await redis.hset(Keys("n", 0).run("r"), mapping={"scored": 4})
    assert (await asyncio.wait_for(following, 5))["scored"] == 4


async def test_entries_leave_redis_once_they_are_in_a_part_and_never_come_twice(
    store: tuple[Child, str], tmp_path: Path, predict: Callable[..., Prediction]
) -> None:
    """A process that ends between writing a part and trimming the stream leaves entries that are in both."""
    parts = Parts(tmp_path / "parts")
    key = Keys("n", 0).results
    async with Redis.from_url(store[1]) as redis:
        for number in (1, 2, 3):
            await redis.xadd(key, {"p": encode_prediction(predict(f"x:{number}"))}, id=f"5-{number}")
        parts.write(0, "5-2", [predict("x:1"), predict("x:2")])
        await redis.hset(Keys("n", 0).run("r"), mapping={"scored": 3})
        ledger = Ledger(store[1], "n", Parts(tmp_path / "parts"))
        ledger.expect(3, final=True)
        await asyncio.wait_for(ledger.follow("r"), 5)
        assert await redis.xlen(key) == 0
    assert sorted(path.stem for path in parts.folder.iterdir()) == [
        "0000-000000000000005-0000000002",
        "0000-000000000000005-0000000003",
    ]
    assert parts.merge(tmp_path / "all.parquet") == 3
