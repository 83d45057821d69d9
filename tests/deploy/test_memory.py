"""The embedded broker within its cap: by a topic made anew once all of it is read, and never before."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from deploy import memory
from deploy.children import Child
from deploy.local import LocalStack, open_stack
from deploy.memory import Feed, all_is_read, bounded_memory, resident_mb
from inference_worker.contract import Results, UnknownNamespace
from inference_worker.redis_access import connect
from ingest.contract import posts_topic
from ingest.producer import ensure_topic
from ingest.settings import Settings
from tests.ingest.live.feed import Feed as Network
from tests.ingest.live.jetstream import Happening, Jetstream, commit, did, microseconds, post_record, tid
from tests.pipeline.conftest import on_embedded

HOLDING = "import time; held = b'x' * (200 << 20); print(len(held), flush=True); time.sleep(60)"
POSTS, TEXT = 800, "the tram is late again and my coffee was lovely " * 1280
CAP_MB = 32


async def test_growth_of_what_cannot_wait_is_told_once_until_it_doubles(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "LOOK_EVERY_S", 0.05)
    child = Child("holder", [sys.executable, "-c", HOLDING], log_path=tmp_path / "log")
    try:
        with caplog.at_level(logging.WARNING):
            async with bounded_memory(child, 150, None):
                while not caplog.records:
                    await asyncio.sleep(0.05)
                await asyncio.sleep(0.3)
        assert resident_mb(child.pid) >= 200
    finally:
        await child.stop()
    [record] = caplog.records
    assert "keeps all posts in memory" in record.getMessage()
    assert resident_mb(child.pid) == 0


async def test_a_broker_of_the_users_own_is_left_alone() -> None:
    async with bounded_memory(None, 1, None):
        pass


def told() -> Iterator[Happening]:
    """Ten a second: a source that goes on at its cursor takes some seconds again, which must not fill the broker."""
    first = datetime.now(UTC) - timedelta(seconds=POSTS / 10)
    for number in range(POSTS):
        at = first + timedelta(milliseconds=100 * number)
        body = commit("create", tid(at, number % 1024), tid(at), post_record(f"{TEXT} no {number}", at, langs=["en"]))
        yield Happening(did(number % 1000), microseconds(at), number + 1, "commit", body)


def settings_of(stack: LocalStack, **more: Any) -> Settings:
    return Settings(kafka=stack.kafka, namespace="capped", idempotence=False, **more)


def counted(results: Results) -> dict[str, int]:
    try:
        return results.counters()
    except UnknownNamespace:
        return {}


async def until(condition: Callable[[], bool], what: str, timeout_s: float = 300) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        await asyncio.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_live_feed_that_would_outgrow_the_cap_does_not_and_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "LOOK_EVERY_S", 0.2)
    caplog.set_level(logging.INFO)
    named = {
        "MOODSTREAM_NAMESPACE": "capped",
        "MOODSTREAM_ENGINE": "null",
        "MOODSTREAM_STATE": str(tmp_path),
        "MOODSTREAM_RESULTS_KEPT": "0",
    }
    network = Network(told(), dialect="v1", rate=100)
    async with open_stack(keep=tmp_path) as stack, Jetstream(network.play, dialects=("v1",)).serve() as host:
        worker = stack.run("worker-1", "inference_worker", environment=named)
        assert stack.broker is not None
        most_mb = 0
        with connect(stack.redis) as redis:
            results = Results(redis, "capped")
            await until(lambda: bool(results.workers()), "a worker is ready")
            source = ("bluesky", "--host", f"{host}/subscribe", "--all")
            ingest = stack.run("ingest", "ingest", *source, environment=named)
            feed = Feed(stack, ingest, [worker], settings_of(stack))

            def all_scored() -> bool:
                nonlocal most_mb
                most_mb = max(most_mb, resident_mb(stack.broker.pid))
                return counted(results).get("scored", 0) >= POSTS

            async with stack.watched(), bounded_memory(stack.broker, CAP_MB, feed):
                await until(all_scored, "all is scored")
            emptied = [one for one in caplog.messages if "is empty again" in one]
            logging.getLogger(__name__).info("the broker held %d MB at most; %s", most_mb, "; ".join(emptied))
            assert emptied  # before the last posts were scored: they came by way of the new topic
            assert most_mb < CAP_MB + 25
            counters = results.counters()
            assert counters["scored"] == POSTS and not counters.get("gap") and not counters.get("dead_letters")
            assert len({one.id for one in results.drain_results()}) == POSTS
            assert results.total().posts == POSTS


@on_embedded
async def test_what_nobody_has_committed_is_not_read(stack: LocalStack) -> None:
    settings = Settings(kafka=stack.kafka, namespace="all-is-read", idempotence=False, partitions=2)
    assert await all_is_read(settings)  # nothing is there at all
    await ensure_topic(settings)
    topic, group = posts_topic(settings.namespace), f"{settings.namespace}.inference-worker"
    assert await all_is_read(settings)
    async with AIOKafkaProducer(bootstrap_servers=stack.kafka, enable_idempotence=False) as producer:
        for number in range(10):
            await producer.send_and_wait(topic, b"a record", partition=number % 2)
    assert not await all_is_read(settings)
    async with AIOKafkaConsumer(bootstrap_servers=stack.kafka, group_id=group, enable_auto_commit=False) as consumer:
        consumer.assign([TopicPartition(topic, number) for number in range(2)])
        for first, second, is_read in ((5, 4, False), (5, 5, True)):
            await consumer.commit({TopicPartition(topic, 0): first, TopicPartition(topic, 1): second})
            assert await all_is_read(settings) is is_read


async def test_a_topic_is_old_when_its_first_record_may_be(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path, kafka="k", redis="r")
    ingest = stack.run("ingest", "made_up")
    never, soon = (Feed(stack, ingest, [], settings_of(stack, post_retention_s=kept)) for kept in (0, 1))
    assert not soon.is_old
    await asyncio.sleep(1.1)
    assert soon.is_old and not never.is_old
    await stack.stop()


async def test_a_broker_that_cannot_be_emptied_is_told_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "LOOK_EVERY_S", 0.05)
    stack = LocalStack(tmp_path, kafka="127.0.0.1:1", redis="r")
    ingest = stack.run("ingest", "made_up")
    broker = Child("holder", [sys.executable, "-c", HOLDING], log_path=tmp_path / "log")
    feed = Feed(stack, ingest, [], settings_of(stack))
    try:
        with caplog.at_level(logging.WARNING, logger="deploy.memory"):
            async with bounded_memory(broker, 1, feed):
                await until(lambda: bool(caplog.messages), "the failure is told", 25)
        assert "could not be emptied" in caplog.messages[0]
        assert not ingest.is_paused
    finally:
        await broker.stop()
        await stack.stop()
