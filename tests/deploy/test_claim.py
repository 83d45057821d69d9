"""A namespace of a shared Redis: one replay at a time, of one archive with one model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from redis.asyncio import Redis

from dashboard.runs import Run
from deploy import claim
from deploy.claim import claim_key, claimed, origin_key
from deploy.errors import Misuse, StackFailed
from deploy.servers import free_port, start_store
from inference_worker.contract import Meta, meta_key

BEGAN = datetime(2026, 5, 4, 12, tzinfo=UTC)


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    child, url = await start_store(tmp_path / "store.log", None)
    yield url
    await child.stop()


@pytest.fixture
async def redis(url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(url) as redis:
        yield redis


def a_run(name: str = "one", archive: str = "feeds/a.csv", sha256: str = "a" * 64, **variables: str) -> Run:
    return Run(
        run=name,
        namespace="ns",
        archive=archive,
        status="running",
        started_at=BEGAN,
        archive_sha256=sha256,
        model_sha256="c" * 64,
        variables={"MOODSTREAM_ENGINE": "null", **variables},
    )


async def replayed(url: str, redis: Redis, run: Run) -> None:
    """As a replay and its worker leave the namespace."""
    async with claimed(url, run):
        await hold(redis, Meta(shards=1, kind="replay", source=Path(run.archive).name, model="null"))


async def hold(redis: Redis, meta: Meta) -> None:
    await redis.set(meta_key("ns"), msgspec.msgpack.encode(meta))


async def test_two_runs_cannot_replay_into_a_namespace_at_the_same_time(url: str, redis: Redis) -> None:
    async with claimed(url, a_run("one")):
        assert 0 < await redis.pttl(claim_key("ns")) <= 30_000
        with pytest.raises(Misuse, match=r"'ns' is being replayed into by another run: wait .* within 30 s\), or give"):
            async with claimed(url, a_run("two")):
                raise AssertionError("it was let in")
    assert not await redis.exists(claim_key("ns"))
    async with claimed(url, a_run("two")):
        pass


async def test_what_a_killed_run_left_is_its_own_at_once_and_free_for_others_later(url: str, redis: Redis) -> None:
    await redis.set(claim_key("ns"), "one", px=30_000)
    async with claimed(url, a_run("one")):
        pass
    await redis.set(claim_key("ns"), "one", px=300)
    with pytest.raises(Misuse, match="being replayed into"):
        async with claimed(url, a_run("two")):
            pass
    await asyncio.sleep(0.35)
    async with claimed(url, a_run("two")):
        assert await redis.get(claim_key("ns")) == b"two"


async def test_a_claim_is_renewed_while_the_replay_runs(
    url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "LEASE_S", 0.5)
    monkeypatch.setattr(claim, "RENEW_S", 0.1)
    async with claimed(url, a_run()):
        await asyncio.sleep(1.0)
        assert await redis.get(claim_key("ns")) == b"one"


async def test_a_redis_lost_before_anything_began_is_told_with_the_same_command() -> None:
    with pytest.raises(StackFailed, match="was lost on the way .*: start it and run the same command again"):
        async with claimed(f"redis://127.0.0.1:{free_port()}/0", a_run()):
            pass


async def test_a_lost_claim_ends_the_replay_and_leaves_the_other_one_be(
    url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "RENEW_S", 0.1)
    with pytest.raises(StackFailed, match="'ns' was deleted, or taken by another replay .* another --namespace"):
        async with claimed(url, a_run()):
            await redis.set(claim_key("ns"), "two")
            await asyncio.sleep(10)
    assert await redis.get(claim_key("ns")) == b"two"


async def test_the_same_archive_and_model_may_come_again_from_wherever_it_lies(url: str, redis: Redis) -> None:
    await replayed(url, redis, a_run("one"))
    await replayed(url, redis, a_run("two", archive="/elsewhere/renamed.csv"))


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (a_run("two", sha256="b" * 64), r"holds a.csv \(a+\) scored by null \(c+\), and a.csv \(b+\) scored by null"),
        (
            a_run("two", MOODSTREAM_ENGINE="onnx"),
            r"scored by null \(c+\), and a.csv \(a+\) scored by mdse-small .* would",
        ),
        (
            msgspec.structs.replace(a_run("two"), model_sha256="d" * 64),
            r"scored by null \(c+\), and a.csv \(a+\) scored by null \(d+\) would be mixed into that: give another "
            r"--namespace, or `moodstream runs delete ns` first",
        ),
    ],
)
async def test_another_archive_or_model_is_refused_with_both_named(
    url: str, redis: Redis, other: Run, told: str
) -> None:
    await replayed(url, redis, a_run("one"))
    before = await redis.get(origin_key("ns"))
    with pytest.raises(Misuse, match=told) as refused:
        async with claimed(url, other):
            raise AssertionError("it was let in")
    assert "\n" not in str(refused.value)
    assert await redis.get(origin_key("ns")) == before
    assert not await redis.exists(claim_key("ns"))


async def test_what_no_replay_began_is_known_by_its_names(url: str, redis: Redis) -> None:
    """`moodstream up --replay FILE` hashes nothing."""
    await hold(redis, Meta(shards=1, kind="replay", source="b.csv", model="null"))
    with pytest.raises(Misuse, match=r"holds b.csv scored by null, and a.csv \(a+\) scored by null"):
        async with claimed(url, a_run()):
            pass
    async with claimed(url, a_run(archive="feeds/b.csv")):
        pass


@pytest.mark.parametrize(
    ("meta", "told"),
    [
        (Meta(shards=1, kind="live"), "namespace 'ns' is a live one: give the replay one of its own with --namespace"),
        (Meta(shards=1, kind="replay", schema=99), "namespace 'ns' has schema 99, this reads up to 1: upgrade"),
    ],
)
async def test_a_namespace_of_another_kind_is_refused(url: str, redis: Redis, meta: Meta, told: str) -> None:
    await hold(redis, meta)
    with pytest.raises(Misuse, match=told):
        async with claimed(url, a_run()):
            pass
