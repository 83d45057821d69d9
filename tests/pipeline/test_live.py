"""From local upstreams to Redis: cut connections and a killed ingest lose nothing, and nothing counts twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.local import Service
from ingest.report import IngestReport
from ingest.service import ingest
from ingest.settings import Settings
from ingest.topics.definitions import Topics
from tests.ingest.live.feed import served
from tests.ingest.live.mastodon_upstream import MastodonUpstream
from tests.ingest.live.reddit_upstream import RedditUpstream
from tests.ingest.live.rss_upstream import RssUpstream
from tests.ingest.live.upstream import Create, Cut, Script, Upstream
from tests.ingest.live.x_server import XUpstream
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


async def ingest_until_settled(pipeline: Pipeline, upstream: Upstream, posts: int) -> IngestReport:
    settings = Settings.from_env(pipeline.environment() | {"MOODSTREAM_KEEP": "all"})
    stop = asyncio.Event()
    running = asyncio.create_task(ingest(upstream.open(), settings, topics=Topics(), stop=stop))
    try:
        await asyncio.to_thread(pipeline.until, lambda: pipeline.settled() >= posts, f"{posts} posts are settled", 90)
    finally:
        stop.set()
        report = await running
    return report


@pytest.mark.parametrize("protocol", [XUpstream, MastodonUpstream, RedditUpstream, RssUpstream])
async def test_fifty_cut_connections_of_any_source_lose_nothing_and_double_nothing(
    pipeline: Pipeline, protocol: Callable[[], Upstream]
) -> None:
    pipeline.start_worker()
    steps = [step for number in range(CUTS) for step in (Create(number), Cut())]
    async with protocol() as upstream:
        upstream.play(Script.of(*steps, Create(CUTS)))
        report = await ingest_until_settled(pipeline, upstream, CUTS + 1)
    assert report.state is not None and report.state.reconnects + upstream.polled >= 1
    assert pipeline.results.counters()["scored"] == pipeline.results.total("all").posts == CUTS + 1
    found = sorted(prediction.id for prediction in pipeline.predictions())
    assert found == sorted(upstream.post_id(number) for number in range(CUTS + 1))


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
