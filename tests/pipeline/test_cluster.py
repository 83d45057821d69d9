"""Results in a real Redis Cluster of three nodes, by TLS and with the rights deploy/ grants, beside a single store.

Both get the same posts. A node is killed and its replica takes over, a shard's slot moves on while workers write, and
in the end every rollup is the same, to the bit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from redis.crc import key_slot
from redis.exceptions import RedisError

from dashboard.alerts.errors import LockLost
from dashboard.alerts.evaluation import Outcome, State
from dashboard.alerts.ledger import Ledger
from dashboard.feeds import Feed
from deploy.checks import store
from deploy.checks.finding import Deployment
from deploy.local import LocalStack
from inference_worker.admission import refused
from inference_worker.amendments import corrections, relabel
from inference_worker.contract import Keys, Results
from inference_worker.redis_access import connect, connect_async, reconnect
from inference_worker.settings import Settings
from ingest.contract import Deletion, Post, Record
from ingest.settings import Settings as IngestSettings
from tests import apache
from tests.pipeline.conftest import Pipeline, on_embedded
from tests.redis_cluster import RedisCluster, opened

SHARDS: Final = 8
NOW: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEPT: Final = (
    "minute",
    "hour",
    "day",
    "topics",
    "counters",
    "run",
    "tail",
    "posts",
    "watermark",
    "thumbs",
    "corrected",
)
"""What depends on the posts alone; the rest also says when it was written."""
pytestmark = [pytest.mark.slow, pytest.mark.kafka, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    if (reason := apache.missing()) is not None:
        pytest.skip(reason)
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            yield runner.run(opened(tmp_path_factory.mktemp("cluster"), "*", stack))
        finally:
            runner.run(stack.aclose())


class Sharded(Pipeline):
    """Workers without a model, their results in several shards."""

    def environment(self, namespace: str | None = None) -> dict[str, str]:
        return {
            **super().environment(namespace),
            "MOODSTREAM_ENGINE": "null",
            "MOODSTREAM_SHARDS": str(SHARDS),
        }

    def settled(self, run: str | None = None) -> int:
        try:
            return super().settled(run)
        except RedisError:  # a node is gone, and its replica not yet in its place
            return 0


@pytest.fixture
def single(stack: LocalStack, tmp_path: Path) -> Iterator[Sharded]:
    pipeline = Sharded(stack, "single", tmp_path / "runs")
    yield pipeline
    pipeline.close()


@pytest.fixture
def clustered(stack: LocalStack, cluster: RedisCluster, tmp_path: Path) -> Iterator[Sharded]:
    ours = LocalStack(
        tmp_path, kafka=stack.kafka, redis=cluster.url("moodstream-operator"), broker=stack.broker, services=[]
    )
    pipeline = Sharded(ours, "clustered", tmp_path / "runs")
    yield pipeline
    pipeline.close()


def posts(first: int, count: int, revision: int = 0) -> list[Record]:
    return [
        Post(
            id=f"test:{number}",
            revision=revision,
            source="test",
            created_at=NOW + timedelta(seconds=17 * number),
            ingested_at=NOW,
            text=f"a lovely day, no {number}" + " again" * revision,
            author=f"author-{number % 20}",
            topics=("trams", "weather")[: number % 3],
        )
        for number in range(first, first + count)
    ]


def send(pipelines: tuple[Pipeline, ...], records: list[Record]) -> None:
    for pipeline in pipelines:
        pipeline.send_fast(records, run="r")


def settle(pipelines: tuple[Pipeline, ...], sent: int) -> None:
    for pipeline in pipelines:
        pipeline.wait_until_settled("r", sent)


def dump(redis: Any, namespace: str) -> dict[str, Any]:
    """What a namespace keeps, by its keys without their namespace."""
    readers = {b"string": redis.get, b"hash": redis.hgetall, b"set": redis.smembers}
    found = {}
    for key in redis.scan_iter(match=f"{{{namespace}:*", count=1000):
        name = key.decode().removeprefix(f"{{{namespace}")
        if name.split(":")[2] in KEPT:
            kind = redis.type(key)
            found[name] = redis.zrange(key, 0, -1, withscores=True) if kind == b"zset" else readers[kind](key)
            if isinstance(found[name], dict):  # a write whose answer a dying node kept to itself was sent again
                found[name].pop(b"redelivered", None)
    return found


@on_embedded
def test_a_cluster_holds_what_one_store_holds_to_the_bit(
    single: Sharded, clustered: Sharded, cluster: RedisCluster
) -> None:
    both = (single, clustered)
    for pipeline in both:
        pipeline.start_worker()
    for pipeline in both:
        pipeline.wait_for_worker()
    send(both, posts(0, 600))
    settle(both, 600)
    assert {cluster.holder(key_slot(Keys("clustered", shard).counters.encode())) for shard in range(SHARDS)} == {
        *cluster.ports[:3]
    }, "every node holds a shard"

    gone, heir = cluster.ports[0], cluster.ports[3]
    cluster.kill(gone)
    deletion = [Deletion(source="test", deleted_at=NOW, ingested_at=NOW, post_id=f"test:{n}") for n in range(0, 60, 3)]
    send(both, [*posts(600, 400), *posts(90, 30, revision=1), *deletion])
    settle(both, 1050)
    assert cluster.replication(heir)["role"] == "master"

    moved, to = next(
        (slot, port)
        for shard in range(SHARDS)
        if (slot := key_slot(Keys("clustered", shard).counters.encode())) is not None
        for port in cluster.ports
        if port != cluster.holder(slot)
    )
    cluster.move(moved, to, during=lambda: send(both, posts(1000, 400)))
    assert cluster.holder(moved) == to
    settle(both, 1450)
    for pipeline in both:  # of one and the same partition, as an author's deletion has no key
        pipeline.send([Deletion(source="test", deleted_at=NOW, ingested_at=NOW, author="author-7")], run="r")
    settle(both, 1451)

    expected = dump(single.redis, "single")
    assert dump(clustered.redis, "clustered") == expected
    assert {name.split(":")[1] for name in expected} == {f"{shard}}}" for shard in range(SHARDS)}
    assert (
        clustered.results.total().posts
        == single.results.total().posts
        == 1380 - clustered.results.counters()["forgotten"]
    )
    told = [(one.id, one.revision, one.predicted, one.topics) for one in clustered.results.tail()]
    assert told == [(one.id, one.revision, one.predicted, one.topics) for one in single.results.tail()]
    assert clustered.stop_worker(clustered.workers[0]) == 0
    assert len(clustered.predictions()) == len(single.predictions())


@on_embedded
def test_a_replay_drains_a_cluster_and_leaves_nothing_when_deleted(
    clustered: Sharded, cluster: RedisCluster, made_up_feed: Path, made_up_map: tuple[str, ...]
) -> None:
    clustered.namespace = "replayed"
    clustered.results = results = Results(clustered.redis, "replayed")
    result = clustered.replay(made_up_feed, *made_up_map)
    found = {name: result[name] for name in ("posts_read", "duplicates", "predictions", "lost", "dead_letters")}
    assert found == {"posts_read": 126, "duplicates": 5, "predictions": 120, "lost": 0, "dead_letters": 0}
    assert (results.total().posts, sum(map(results.waiting_results, range(SHARDS)))) == (120, 0)

    one = results.tail()[0]
    with connect(cluster.url("moodstream-editor")) as redis:
        said = relabel(editor := Results(redis, "replayed"), one.id, "negative", by="ann", at=NOW)
        assert corrections(editor) == [said] and results.total().corrected == 1
    with connect(cluster.url("moodstream-dashboard")) as redis:
        assert Feed(redis, "replayed", address="cluster").head().counts["scored"] == 120

    assert "replayed" in [run["namespace"] for run in clustered.ask_runs("list")["runs"]]
    assert clustered.ask_runs("delete", "replayed", "--yes")["keys"] > 120
    assert list(clustered.redis.scan_iter(match="{replayed*", count=1000)) == []


def test_alerts_hold_a_cluster_in_one_transaction(cluster: RedisCluster) -> None:
    with connect(cluster.url("moodstream-alerts")) as redis:
        first, standby = Ledger(redis, "watched"), Ledger(redis, "watched")
        assert first.hold() and not standby.hold()
        assert first.commit(State(next_minute=7), Outcome(), [], []) == 0
        first.release()
        assert standby.hold() and standby.state() == State(next_minute=7)
        with pytest.raises(LockLost):
            first.commit(State(next_minute=8), Outcome(), [], [])
        assert standby.state() == State(next_minute=7)


def test_the_doctor_looks_at_every_node(cluster: RedisCluster) -> None:
    deployment = Deployment(worker=Settings(redis=cluster.url("moodstream-operator")), ingest=IngestSettings())
    levels = {check.name: check.look(deployment).level for check in store.CHECKS}
    assert {name for name, level in levels.items() if level == "fail"} == set(), levels
    assert ", cluster, at rediss-cluster://***@" in store.server(deployment).found
    port = cluster.ports[1]
    cluster.ask(port, "CONFIG SET", "maxmemory-policy", "allkeys-lru")
    found = store.eviction(deployment)
    cluster.ask(port, "CONFIG SET", "maxmemory-policy", "noeviction")
    assert (
        found.level == "fail" and found.found == f"127.0.0.1:{cluster.tls_port(port)}: maxmemory-policy is allkeys-lru"
    )


def test_a_node_taken_for_a_server_of_its_own_is_refused(cluster: RedisCluster) -> None:
    for port in cluster.ports:
        told = asyncio.run(refused(Settings(redis=f"redis://127.0.0.1:{port}/0")))
        assert told is not None and "it is a node of a cluster: begin MOODSTREAM_REDIS with redis-cluster://" in told


@on_embedded
def test_a_server_taken_for_a_cluster_is_refused(stack: LocalStack) -> None:
    url = stack.redis.replace("redis://", "redis-cluster://")
    told = asyncio.run(refused(Settings(redis=url)))
    assert told is not None and "it is no cluster: begin MOODSTREAM_REDIS with redis://" in told


async def test_a_client_of_a_cluster_reconnects(cluster: RedisCluster) -> None:
    redis = connect_async(cluster.url("moodstream-worker"))
    try:
        await redis.set("{live:0}:tried", "before")
        await reconnect(redis)
        assert await redis.get("{live:0}:tried") == b"before"
    finally:
        await redis.aclose()


def test_a_wrong_password_of_a_cluster_is_told(cluster: RedisCluster) -> None:
    url = cluster.url("moodstream-worker").replace("moodstream-worker:", "moodstream-worker:not-")
    told = asyncio.run(refused(Settings(redis=url)))
    assert told is not None and "the user or password is not known" in told and "not-" not in told
