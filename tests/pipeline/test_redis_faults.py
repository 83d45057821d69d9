"""A Redis that stalls, fills up, turns read-only, dies or comes back with less than it took: each post counts once.

On a redis-server with an append-only file; `FAULTS.md` has the outcomes in one table.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.local import LocalStack
from inference_worker.contract import ALL, Counters, Prediction
from ingest.contract import Post
from tests import own_redis
from tests.own_redis import OwnRedis
from tests.pipeline.conftest import Pipeline

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RUN = "faults"
RECOVERY_S = 60.0
ON_KAFKA = pytest.mark.parametrize("stack", [pytest.param("apache", marks=pytest.mark.kafka)], indirect=True)
ON_BOTH = pytest.mark.parametrize("stack", ["embedded", pytest.param("apache", marks=pytest.mark.kafka)], indirect=True)


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
    if (reason := own_redis.missing()) is not None:
        pytest.skip(reason)
    server = OwnRedis(tmp_path / "redis")
    yield server
    server.close()


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

    def until_settled(self, more: int) -> None:
        """So many beyond what is settled now."""
        wanted = self.pipeline.settled(RUN) + more
        self.pipeline.until(lambda: self.pipeline.settled(RUN) >= wanted, f"{wanted} are settled", 60)

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


def summed(predictions: list[Prediction], topic: str) -> Counters:
    total = Counters()
    for one in predictions:
        if topic in (ALL, *one.topics):
            total = total.plus(Counters.of(one))
    return total


@pytest.fixture
def feed(stack: LocalStack, redis: OwnRedis, tmp_path: Path) -> Iterator[Feed]:
    """A worker has partitions, and 300 posts are settled."""
    behind = LocalStack(tmp_path, kafka=stack.kafka, redis=redis.url, broker=stack.broker)
    pipeline = Pipeline(behind, f"faults-{time.time_ns()}", tmp_path / "runs")
    pipeline.more = {"MOODSTREAM_ENGINE": "null", "MOODSTREAM_SHARDS": "2"}
    pipeline.start_worker()
    pipeline.wait_for_worker()
    feed = Feed(pipeline, redis)
    feed.send_and_wait(300)
    yield feed
    pipeline.close()


@ON_BOTH
def test_what_a_redis_that_comes_back_empty_forgot_is_applied_again(feed: Feed) -> None:
    feed.redis.restart_from(None)
    took_s = feed.wait()
    feed.send_and_wait(100)
    feed.counts_are_exact()
    assert took_s < 30
