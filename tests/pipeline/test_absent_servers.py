"""Services that start while Kafka or Redis is away: they wait, or end with one line, and never with a traceback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from deploy.local import Service
from deploy.servers import free_port
from deploy.up import page_answers
from tests.ingest.live.feed import served
from tests.pipeline.conftest import Pipeline, on_embedded
from tests.pipeline.proxy import Proxy
from tests.pipeline.test_redis_faults import took

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200), on_embedded]

NO_KAFKA, NO_REDIS = "127.0.0.1:1", "redis://:hidden@127.0.0.1:1/0"
BACK_WITHIN_S = 30.0


def start(pipeline: Pipeline, module: str, *arguments: str, **more: str) -> Service:
    name = f"{pipeline.namespace}-{module}"
    environment = pipeline.environment() | {"MOODSTREAM_START_TIMEOUT_S": "2", "MOODSTREAM_ENGINE": "null"} | more
    service = pipeline.stack.run(name, module, *arguments, environment=environment, keep_running=False)
    pipeline.workers.append(service)
    return service


def has_said(service: Service, words: str) -> bool:
    return words in service.child.log_path.read_text()


@pytest.mark.parametrize(
    ("module", "arguments", "away", "said"),
    [
        ("inference_worker", (), {"MOODSTREAM_KAFKA": NO_KAFKA}, f"Kafka at {NO_KAFKA} does not answer"),
        ("inference_worker", (), {"MOODSTREAM_REDIS": NO_REDIS}, "Redis at redis://***@127.0.0.1:1/0 does not answer"),
        ("ingest", ("sample",), {"MOODSTREAM_KAFKA": NO_KAFKA}, f"Kafka at {NO_KAFKA} does not answer"),
    ],
)
def test_who_cannot_work_without_it_waits_and_ends_with_one_line(
    pipeline: Pipeline, module: str, arguments: tuple[str, ...], away: dict[str, str], said: str
) -> None:
    service = start(pipeline, module, *arguments, **away)
    pipeline.until(lambda: service.child.exit_code() is not None, "it ends", 60)
    assert service.child.exit_code() == 1
    lines = service.child.log_path.read_text().splitlines()
    waiting, *_, last = lines
    assert said in waiting and waiting.endswith("; trying for 2 s")
    assert last.startswith(f"{module}: {said} (") and "start it, or " in last
    assert not any("Traceback" in line or "hidden" in line for line in lines)


@pytest.mark.parametrize(("module", "arguments"), [("inference_worker", ()), ("ingest", ("sample",))])
def test_who_waits_can_be_stopped(pipeline: Pipeline, module: str, arguments: tuple[str, ...]) -> None:
    service = start(pipeline, module, *arguments, MOODSTREAM_KAFKA=NO_KAFKA, MOODSTREAM_START_TIMEOUT_S="600")
    pipeline.until(lambda: has_said(service, "trying for 600 s"), "it waits", 60)
    assert asyncio.run(service.child.stop()) == 1
    assert service.child.log_tail(1).startswith(f"{module}: Kafka at {NO_KAFKA} does not answer (")
    assert not has_said(service, "Traceback")


def test_the_dashboard_and_the_alerts_wait_for_redis(pipeline: Pipeline) -> None:
    port = free_port()
    dashboard = start(pipeline, "dashboard", "--port", str(port), MOODSTREAM_REDIS=NO_REDIS)
    alerts = start(pipeline, "dashboard.alerts", MOODSTREAM_REDIS=NO_REDIS)
    pipeline.until(lambda: has_said(alerts, "cannot evaluate"), "the alerts say so", 60)
    pipeline.until(lambda: asyncio.run(page_answers(port)), "the page answers", 60)
    for service in (dashboard, alerts):
        assert asyncio.run(service.child.stop()) == 0
        assert not has_said(service, "Traceback") and not has_said(service, "hidden")


@pytest.fixture
def behind(pipeline: Pipeline) -> Iterator[tuple[Proxy, Proxy]]:
    """Other addresses of Kafka and Redis, where nobody listens yet."""
    with ExitStack() as stack:
        targets = (int(pipeline.stack.kafka.rpartition(":")[2]), urlsplit(pipeline.stack.redis).port or 0)
        kafka, redis = (stack.enter_context(Proxy(free_port(), target)) for target in targets)
        kafka.cut()
        redis.cut()
        yield kafka, redis


def test_who_waits_works_once_both_are_there(pipeline: Pipeline, behind: tuple[Proxy, Proxy], tmp_path: Path) -> None:
    kafka, redis = behind
    there = {
        "MOODSTREAM_KAFKA": f"127.0.0.1:{kafka.port}",
        "MOODSTREAM_REDIS": f"redis://127.0.0.1:{redis.port}/0",
        "MOODSTREAM_START_TIMEOUT_S": "60",
        "MOODSTREAM_STATE": str(tmp_path),
    }
    with served("posts", 60) as feed:
        ingest = start(pipeline, "ingest", "bluesky", "--host", feed.url, "--all", **there)
        worker = start(pipeline, "inference_worker", **there)
        for service, server in ((ingest, "Kafka"), (worker, "Redis")):
            pipeline.until(lambda: has_said(service, f"{server} at "), f"{service.name} waits for {server}", 60)  # noqa: B023
        began_s = time.monotonic()
        redis.heal()
        kafka.heal()
        pipeline.until(lambda: pipeline.settled() >= feed.posts, f"{feed.posts} are settled", BACK_WITHIN_S)
        took("started without servers, recovery", time.monotonic() - began_s)
        for service in (ingest, worker):
            assert asyncio.run(service.child.stop()) == 0
            assert not has_said(service, "Traceback")
    assert pipeline.results.total().posts == feed.posts
