"""The posts' topic deleted and made anew under workers at work: offsets start at 0 again, and nothing is skipped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from ingest.contract import posts_topic
from ingest.producer import Producer
from ingest.settings import Settings
from tests.pipeline.conftest import Pipeline
from tests.pipeline.test_faults import post
from tests.pipeline.test_redis_faults import took

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PARTITIONS = 4
RECOVERY_S = 30.0


async def test_a_topic_made_anew_is_read_from_its_beginning(pipeline: Pipeline) -> None:
    """Once with fewer records than the old one had, where a worker's place is past the end, once with more."""
    pipeline.more = {"MOODSTREAM_ENGINE": "null"}
    workers = [pipeline.start_worker(), pipeline.start_worker()]
    await until(pipeline, lambda: len(pipeline.results.workers()) == 2, "both have partitions")
    environment = pipeline.stack.environment()
    settings = Settings.from_env({**environment, "MOODSTREAM_NAMESPACE": pipeline.namespace})
    sent = 0
    async with Producer(settings, run="anew") as producer:
        for name, count in (("before", 400), ("fewer", 80), ("more", 1200)):
            if sent:
                await make_anew(pipeline)
            for number in range(count):
                await producer.send(post(f"{name}-{number}"))
            await producer.flush()
            began_s, sent = time.monotonic(), sent + count
            await until(pipeline, lambda: pipeline.settled() >= sent, f"{sent} are settled")  # noqa: B023
            took(f"{name}, until all are scored", time.monotonic() - began_s)
    assert (producer.sent, pipeline.results.counters()["scored"]) == (sent, sent)
    assert pipeline.results.counters().keys().isdisjoint({"duplicates", "gap"})
    assert pipeline.results.total().posts == len({one.id for one in pipeline.predictions()}) == sent
    assert [worker.child.exit_code() for worker in workers] == [None, None]
    told = f"topic {posts_topic(pipeline.namespace)} was made anew: partitions "
    assert 2 <= sum(worker.child.log_path.read_text().count(told) for worker in workers) <= 4


async def until(pipeline: Pipeline, condition: Callable[[], bool], what: str) -> None:
    await asyncio.to_thread(pipeline.until, condition, what, RECOVERY_S)


async def make_anew(pipeline: Pipeline) -> None:
    """Deletes the topic, and makes it again as soon as the broker lets go of the name."""
    topic = posts_topic(pipeline.namespace)
    admin = AIOKafkaAdminClient(bootstrap_servers=pipeline.stack.kafka)
    await admin.start()
    try:
        await admin.delete_topics([topic])
        async with asyncio.timeout(30):
            while True:
                ((_, code, *_),) = (await admin.create_topics([NewTopic(topic, PARTITIONS, 1)])).topic_errors
                if code == 0:
                    return
                await asyncio.sleep(0.05)
    finally:
        await admin.close()
