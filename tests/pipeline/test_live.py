"""From a local Jetstream to Redis: cut connections and a killed ingest lose nothing, and nothing counts twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from deploy.local import Service
from tests.ingest.live.feed import served
from tests.pipeline.conftest import Pipeline

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

CUTS = 50
KILLS = 5


def start_ingest(pipeline: Pipeline, url: str, state: Path) -> Service:
    environment = pipeline.environment() | {"MOODSTREAM_STATE": str(state)}
    arguments = ("bluesky", "--host", url, "--all", "--json")
    name = f"{pipeline.namespace}-ingest"
    return pipeline.stack.run(name, "ingest", *arguments, environment=environment, keep_running=False)


def assert_each_post_once(pipeline: Pipeline, posts: int) -> None:
    """In the rollups, in the counters and, by their numbers, one by one."""
    assert pipeline.results.counters()["scored"] == posts
    assert pipeline.results.total("all").posts == posts
    numbers = Counter(int(prediction.text.rpartition(" ")[2]) for prediction in pipeline.predictions())
    assert numbers == Counter(range(posts))


@pytest.mark.parametrize("dialect", ["v1", "v2"])
def test_fifty_cut_connections_lose_nothing_and_double_nothing(
    pipeline: Pipeline, tmp_path: Path, dialect: str
) -> None:
    pipeline.start_worker()
    with served("posts", 1500, "--dialect", dialect, "--cuts", str(CUTS)) as feed:
        ingest = start_ingest(pipeline, feed.url, tmp_path)
        try:
            pipeline.until(lambda: pipeline.settled() >= feed.posts, f"all of {feed.posts} posts are settled", 200)
            assert asyncio.run(ingest.child.stop()) == 0, ingest.child.log_tail(30)
        finally:
            ingest.child.kill()
            pipeline.stack.services.remove(ingest)
    assert f'"reconnects":{CUTS}' in ingest.child.log_tail(5)
    assert_each_post_once(pipeline, feed.posts)
    assert pipeline.results.counters().get("duplicates", 0) == 0, "ingest knows what a reconnect brings again"


def test_a_killed_ingest_loses_nothing(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.start_worker()
    with served("posts", 2000, "--rate", "300") as feed:
        for kill in range(1, KILLS + 1):
            ingest = start_ingest(pipeline, feed.url, tmp_path)
            goal = feed.posts * kill // (KILLS + 2)
            pipeline.until(lambda goal=goal: pipeline.settled() >= goal, f"{goal} posts are settled", 100)
            ingest.child.kill()
            pipeline.stack.services.remove(ingest)
        ingest = start_ingest(pipeline, feed.url, tmp_path)
        try:
            scored = lambda: pipeline.results.counters().get("scored", 0)  # noqa: E731
            pipeline.until(lambda: scored() >= feed.posts, f"all of {feed.posts} posts are scored", 200)
            assert asyncio.run(ingest.child.stop()) == 0, ingest.child.log_tail(30)
        finally:
            ingest.child.kill()
            pipeline.stack.services.remove(ingest)
    assert_each_post_once(pipeline, feed.posts)
