from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from redis.asyncio import Redis

from deploy import accounting
from deploy.accounting import Account, Ledger
from deploy.children import Child
from deploy.errors import StackFailed
from deploy.servers import start_store
from inference_worker.contract import Keys, Meta, meta_key
from ingest.report import IngestReport

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def account(counts: dict[str, int], *, read: int = 10, skipped: int = 0, failed: int = 0) -> Account:
    report = IngestReport(
        run="r",
        namespace="n",
        source="feed.csv",
        read=read,
        sent=read - skipped - failed,
        skipped={"no text": skipped},
        failed={"RecordTooLarge": failed},
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


def test_an_authors_deletion_is_read_once_and_settled_in_every_partition() -> None:
    one = account({"scored": 9, "deletions": 4}, read=10)
    assert one.lost == -3
    told = Account(report=msgspec.structs.replace(one.report, sent=13, copies=3), counts=one.counts, seconds=1.0)
    assert told.lost == 0


def test_throughput_counts_all_records_that_ended_somewhere() -> None:
    assert account({"scored": 6, "duplicates": 4}).as_dict()["throughput_posts_per_s"] == 5.0


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[tuple[Child, str]]:
    child, url = await start_store(tmp_path / "store.log", None)
    async with Redis.from_url(url) as redis:
        await redis.set(meta_key("n"), msgspec.msgpack.encode(Meta(shards=1)))
    yield child, url
    await child.stop()


async def test_follow_ends_when_all_that_was_sent_is_settled(store: tuple[Child, str], tmp_path: Path) -> None:
    ledger = Ledger(store[1], "n", tmp_path / "predictions.parquet")
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
    ledger = Ledger(store[1], "n", tmp_path / "predictions.parquet")
    async with Redis.from_url(store[1]) as redis:
        await redis.hset(Keys("n", 0).run("r"), mapping={"scored": 3})
    ledger.expect(4, final=True)
    assert await asyncio.wait_for(ledger.follow("r"), 5) == {"scored": 3}
    assert ledger.idle_s >= 0.6


async def test_follow_says_when_redis_is_lost(store: tuple[Child, str], tmp_path: Path) -> None:
    child, url = store
    ledger = Ledger(url, "n", tmp_path / "predictions.parquet")
    following = asyncio.create_task(ledger.follow("r"))
    await asyncio.sleep(0.4)
    child.kill()
    with pytest.raises(StackFailed, match="was lost on the way"):
        await asyncio.wait_for(following, 10)
