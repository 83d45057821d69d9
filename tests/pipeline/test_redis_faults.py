"""A Redis that stalls, fills up, turns read-only, dies or comes back with less than it took: each post counts once.

On a redis-server with an append-only file; `FAULTS.md` has the outcomes in one table.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from deploy.local import LocalStack
from deploy.servers import free_port
from inference_worker.contract import ALL, Counters, Keys, Prediction
from ingest.contract import Post, posts_topic
from tests import own_redis
from tests.own_redis import OwnRedis
from tests.pipeline.conftest import ROOT, Pipeline, on_apache, on_embedded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RUN = "faults"
RECOVERY_S = 120.0
SHARDS = 2
logger = logging.getLogger(__name__)
_numbers = itertools.count(1)


def posts(first: int, count: int) -> list[Post]:
    """Every hundredth of them says what no worker can score."""
    return [
        Post(
            id=f"test:{number}",
            source="test",
            created_at=NOW,
            ingested_at=datetime.now(UTC),
            text=f"post number {number} of many" if number % 100 != 50 else "",
            topics=("tram",) if number % 3 == 0 else (),
        )
        for number in range(first, first + count)
    ]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[OwnRedis]:
    with own_redis.started(tmp_path / "redis") as server:
        yield server


class Feed:
    """Posts on the topic of a pipeline whose Redis is the test's own."""

    def __init__(self, pipeline: Pipeline, redis: OwnRedis) -> None:
        self.pipeline, self.redis, self.sent = pipeline, redis, 0

    def send(self, count: int) -> None:
        self.pipeline.send_fast(posts(self.sent, count), run=RUN)
        self.sent += count

    def send_and_wait(self, count: int) -> float:
        """Seconds until they are settled."""
        began_s = time.monotonic()
        self.send(count)
        self.wait()
        return time.monotonic() - began_s

    def wait(self) -> float:
        """All are settled; seconds it took."""
        began_s = time.monotonic()
        self.pipeline.wait_until_settled(RUN, self.sent, RECOVERY_S)
        return time.monotonic() - began_s

    def applied(self, partition: int) -> int:
        """By the last shard's mark, records of it."""
        marks = Keys(self.pipeline.namespace, SHARDS - 1).applied
        return int(self.redis.client.hget(marks, str(partition)).split()[0]) + 1

    def until_marked(self) -> None:
        """Redis has noted how far all of it is applied, which Kafka is then told."""
        last = Keys(self.pipeline.namespace, SHARDS - 1)

        def marked() -> int:
            return sum(int(mark.split()[0]) + 1 for mark in self.redis.client.hvals(last.applied))

        self.pipeline.until(lambda: marked() == self.sent, "all is marked", RECOVERY_S)

    def until_told(self, words: str) -> None:
        """By the first worker's log, once more than before."""
        log = self.pipeline.workers[0].child.log_path
        before = log.read_text().count(words)
        self.pipeline.until(lambda: log.read_text().count(words) > before, f"{words!r} in the log", RECOVERY_S)

    def counts_are_exact(self) -> None:
        """Every post is scored once or a dead letter, and the rollups are what the predictions add up to."""
        results = self.pipeline.results
        counters, dead = results.counters(RUN), self.sent // 100
        assert (counters["scored"], counters["dead_letters"]) == (self.sent - dead, dead)
        assert counters.get("duplicates", 0) == 0
        letters = results.dead_letters(limit=self.sent)
        assert {letter.key for letter in letters} == {f"test:{number}" for number in range(50, self.sent, 100)}
        assert all("nothing to score" in letter.error for letter in letters)
        predictions = self.pipeline.predictions()
        assert len(predictions) == len({one.id for one in predictions}) == self.sent - dead
        for topic in (ALL, "tram"):
            assert results.total(topic) == summed(predictions, topic)


def took(what: str, seconds: float) -> None:
    """For `--log-file`, which is where the figures of FAULTS.md come from."""
    logger.info("%s: %.1f s", what, seconds)


def summed(predictions: list[Prediction], topic: str) -> Counters:
    total = Counters()
    for one in predictions:
        if topic in (ALL, *one.topics):
            total = total.plus(Counters.of(one))
    return total


@pytest.fixture
def feed(stack: LocalStack, redis: OwnRedis, tmp_path: Path) -> Iterator[Feed]:
    """A worker has partitions, and 300 posts are settled and marked.

    The marks it finds are of a longer topic of the same name, which is gone.
    """
    behind = LocalStack(tmp_path, kafka=stack.kafka, redis=redis.url, broker=stack.broker)
    pipeline = Pipeline(behind, f"redis-faults-{next(_numbers)}", tmp_path / "runs")
    pipeline.more = {"MOODSTREAM_ENGINE": "null", "MOODSTREAM_SHARDS": str(SHARDS)}
    for shard in range(SHARDS):
        redis.client.hset(Keys(pipeline.namespace, shard).applied, mapping=dict.fromkeys(range(4), 5000))
    pipeline.start_worker()
    pipeline.wait_for_worker()
    feed = Feed(pipeline, redis)
    feed.send_and_wait(300)
    feed.until_marked()
    yield feed
    pipeline.close()


def test_what_a_redis_that_comes_back_empty_forgot_is_applied_again(feed: Feed) -> None:
    feed.redis.restart_from(None)
    took("recovery", feed.wait())  # nothing is sent meanwhile: the worker asks by itself
    feed.send_and_wait(100)
    feed.counts_are_exact()


@on_embedded
def test_what_is_lost_by_an_older_file_is_applied_again_at_work_or_at_the_next_start(feed: Feed) -> None:
    feed.pipeline.start_worker()
    feed.pipeline.until(lambda: len(feed.pipeline.results.workers()) == 2, "both workers have partitions", RECOVERY_S)
    copied = feed.redis.copy()
    feed.send_and_wait(200)
    feed.redis.restart_from(copied)
    took("recovery", feed.send_and_wait(100))
    copied = feed.redis.copy()
    feed.send_and_wait(100)
    assert [feed.pipeline.stop_worker(worker) for worker in feed.pipeline.workers] == [0, 0]
    feed.redis.restart_from(copied)
    assert feed.pipeline.settled(RUN) < feed.sent
    feed.pipeline.start_worker()
    took("recovery at start", feed.wait())
    feed.counts_are_exact()


@on_embedded
def test_a_redis_that_refuses_writes_is_waited_for(feed: Feed) -> None:
    """Full, a replica, short of replicas: as long as that lasts."""
    redis = feed.redis.client
    for refusal, begin, end in (
        ("command not allowed when used memory", ("CONFIG SET", "maxmemory", 1), ("CONFIG SET", "maxmemory", 0)),
        ("against a read only replica", ("REPLICAOF", "127.0.0.1", free_port()), ("REPLICAOF", "NO", "ONE")),
        (
            "Not enough good replicas",
            ("CONFIG SET", "min-replicas-to-write", 1),
            ("CONFIG SET", "min-replicas-to-write", 0),
        ),
    ):
        redis.execute_command(*begin)
        feed.send(100)
        feed.until_told(refusal)
        assert feed.pipeline.settled(RUN) == feed.sent - 100
        redis.execute_command(*end)
        took(refusal, feed.wait())
    assert feed.pipeline.workers[0].child.exit_code() is None
    feed.counts_are_exact()


@on_embedded
def test_a_redis_that_stalls_is_waited_for(feed: Feed) -> None:
    """Longer than a call may take: what it did of that call after all is not counted twice."""
    feed.redis.client.client_pause(2000, all=False)
    feed.send_and_wait(100)
    feed.redis.send(signal.SIGSTOP)
    try:
        feed.send(100)
        feed.until_told("retrying")
    finally:
        feed.redis.send(signal.SIGCONT)
    took("recovery", feed.wait())
    feed.counts_are_exact()


@on_embedded
def test_a_redis_killed_amid_batches_loses_nothing_of_its_file(feed: Feed) -> None:
    for _ in range(2):
        wanted = feed.sent + 100
        feed.send(1000)
        feed.pipeline.until(lambda wanted=wanted: feed.pipeline.settled(RUN) > wanted, "some are settled", RECOVERY_S)
        feed.redis.kill()
        feed.redis.start()
        took("recovery", feed.wait())
    feed.counts_are_exact()


@on_apache
def test_what_kafka_no_longer_has_of_what_redis_forgot_is_a_gap_and_told(feed: Feed) -> None:
    dropped = asyncio.run(drop_first(feed, 40))
    feed.redis.restart_from(None)
    results = feed.pipeline.results
    feed.pipeline.until(lambda: feed.pipeline.settled() == feed.sent - dropped, "the rest is applied again", 60)
    assert results.counters()["gap"] == dropped
    assert f"{dropped} records before" in feed.pipeline.workers[0].child.log_path.read_text()


@on_embedded
def test_what_a_backup_lacks_is_applied_again_once_it_is_put_back(feed: Feed, tmp_path: Path) -> None:
    copy = tmp_path / "copy.rdb"
    follow("Take a copy", feed.redis, copy)
    feed.send_and_wait(200)
    feed.redis.restart_from(None)  # as on a new disk: its append-only file is there, and empty
    feed.redis.kill()
    follow("Put it back", feed.redis, copy)
    feed.redis.start()
    took("recovery", feed.send_and_wait(100))
    feed.counts_are_exact()


@on_apache
def test_what_a_backup_lacks_and_kafka_too_is_a_gap_and_told(feed: Feed, tmp_path: Path) -> None:
    copy = tmp_path / "copy.rdb"
    follow("Take a copy", feed.redis, copy)
    copied = feed.applied(0)
    feed.send_and_wait(100)
    feed.until_marked()
    kept = asyncio.run(drop_first(feed, feed.applied(0)))
    feed.redis.kill()
    follow("Put it back", feed.redis, copy)
    feed.redis.start()
    results, gap = feed.pipeline.results, kept - copied
    assert gap > 0
    feed.pipeline.until(lambda: feed.pipeline.settled(RUN) == feed.sent - gap, "the rest is applied again", 60)
    assert results.counters()["gap"] == gap
    assert f"{gap} records before {kept} are not in Redis" in feed.pipeline.workers[0].child.log_path.read_text()


def follow(section: str, redis: OwnRedis, copy: Path) -> None:
    """Runs what BACKUP.md says there, as it says it."""
    text = (ROOT / "deploy" / "BACKUP.md").read_text().split(f"## {section}\n")[1].split("\n## ")[0]
    (commands,) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    told = {"COPY": str(copy), "REDIS_DATA": str(redis.folder), "MOODSTREAM_REDIS": redis.url}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(["sh", "-euc", commands], env={**os.environ, **told, "PATH": path}, check=True, timeout=60)


async def drop_first(feed: Feed, count: int) -> int:
    """As retention does, of one partition."""
    admin = AIOKafkaAdminClient(bootstrap_servers=feed.pipeline.stack.kafka)
    await admin.start()
    try:
        partition = TopicPartition(posts_topic(feed.pipeline.namespace), 0)
        await admin.delete_records({partition: RecordsToDelete(before_offset=count)})
    finally:
        await admin.close()
    return count
