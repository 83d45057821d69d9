"""Eight workers share sixteen partitions of Apache Kafka: each post once, each worker its part; workers come and go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from deploy.local import LocalStack, Service
from ingest.contract import Post
from tests.pipeline.conftest import Pipeline, on_apache, on_embedded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(700)]

WORKERS: Final = 8
PARTITIONS: Final = 16
SHARDS: Final = 4
POSTS: Final = 4_000
NOW: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Scaled(Pipeline):
    def environment(self, namespace: str | None = None) -> dict[str, str]:
        return {
            **super().environment(namespace),
            "MOODSTREAM_ENGINE": "null",
            "MOODSTREAM_PARTITIONS": str(PARTITIONS),
            "MOODSTREAM_SHARDS": str(SHARDS),
        }


@pytest.fixture
def scaled(stack: LocalStack, tmp_path: Path) -> Iterator[Scaled]:
    pipeline = Scaled(stack, "scaled", tmp_path / "runs")
    yield pipeline
    pipeline.close()


@on_apache
def test_eight_workers_share_sixteen_partitions(scaled: Scaled) -> None:
    for _ in range(WORKERS):
        scaled.start_worker()
    scaled.until(lambda: len(scaled.results.workers()) == WORKERS, "all workers are ready", 300)
    scaled.send_fast(posts(), run="r")
    counts = scaled.wait_until_settled("r", POSTS)
    assert (counts["scored"], len(scaled.results.shards()), scaled.results.total().posts) == (POSTS, SHARDS, POSTS)
    once = Counter(one.id for one in scaled.predictions())
    assert len(once) == POSTS and set(once.values()) == {1}
    scaled.until(
        lambda: all(worker.posts_per_s for worker in scaled.results.workers()), "every worker did its part", 30
    )
    assert [scaled.stop_worker(worker) for worker in scaled.workers] == [0] * WORKERS


@on_embedded
def test_a_leader_that_stops_while_another_worker_joins_leaves_a_group_that_goes_on(scaled: Scaled) -> None:
    """The embedded broker takes a leader that leaves a group amid joining for its leader ever after."""
    scaled.start_worker()
    scaled.until(lambda: len(scaled.results.workers()) == 1, "the first worker is ready", 60)
    scaled.start_worker()
    scaled.until(lambda: len(scaled.results.workers()) == 2, "both are ready", 60)
    leader = max(scaled.workers, key=elected_at)
    newcomer = scaled.start_worker()
    scaled.until(lambda: "joining group" in newcomer.child.log_tail(1000), "the third joins", 60)
    assert scaled.stop_worker(leader) == 0
    scaled.send_fast(posts(), run="r")
    counts = scaled.wait_until_settled("r", POSTS, timeout_s=60)
    assert counts["scored"] == POSTS


def elected_at(worker: Service) -> str:
    """When the group last took it for its leader; empty if never."""
    return max(
        (line[:23] for line in worker.child.log_tail(1000).splitlines() if "Elected group leader" in line), default=""
    )


def posts() -> list[Post]:
    return [
        Post(
            id=f"test:{number}",
            source="test",
            created_at=NOW + timedelta(seconds=number),
            ingested_at=NOW,
            text=f"a lovely day, no {number}",
        )
        for number in range(POSTS)
    ]
