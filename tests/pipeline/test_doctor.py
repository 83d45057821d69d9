"""`moodstream doctor` on a real stack: topics missing and short, workers gone and behind, records lost."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from deploy.checks import kafka, store
from deploy.checks.finding import Deployment
from inference_worker.settings import Settings as WorkerSettings
from ingest.contract import Post, dead_letters_topic, posts_topic
from ingest.settings import Settings as IngestSettings
from tests.pipeline.conftest import Pipeline, on_apache

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def deployment(pipeline: Pipeline, **worker: object) -> Deployment:
    settings = {"namespace": pipeline.namespace, "kafka": pipeline.stack.kafka, "redis": pipeline.stack.redis}
    return Deployment(worker=WorkerSettings(**settings | worker), ingest=IngestSettings())


def posts(count: int) -> list[Post]:
    return [
        Post(id=f"test:{number}", source="test", created_at=NOW, ingested_at=NOW, text=f"a lovely day, no {number}")
        for number in range(count)
    ]


def make_topic(pipeline: Pipeline, name: str, partitions: int, **configs: str) -> None:
    async def make() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=pipeline.stack.kafka)
        try:
            await admin.start()
            await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)])
        finally:
            await admin.close()

    asyncio.run(make())


def test_a_deployment_at_work_has_nothing_amiss(pipeline: Pipeline) -> None:
    pipeline.start_worker()
    pipeline.wait_for_worker()
    pipeline.send_fast(posts(20), run="r")
    pipeline.wait_until_settled("r", 20, 60)
    answer = pipeline.ask("doctor")
    amiss = {check["name"]: check for check in answer["checks"] if check["level"] != "ok"}
    assert amiss.keys() <= {"redis-persistence", "redis-memory", "disk"}, amiss  # as this machine happens to be
    found = {check["name"]: check["found"] for check in answer["checks"]}
    assert found["topics"] == f"{pipeline.namespace}.posts x 4, {pipeline.namespace}.dead-letters x 1"
    assert "Stable, 1 members" in found["consumer-group"]
    assert found["workers"].startswith("1 alive, ")


def test_missing_topics_are_told_with_who_makes_them(pipeline: Pipeline) -> None:
    name = posts_topic(pipeline.namespace)
    found = kafka.topics(deployment(pipeline))
    assert (found.level, found.found) == ("fail", f"no topic {name}")
    assert "moodstream ingest" in found.remedy
    for look in (kafka.consumer_group, kafka.message_size):
        assert look(deployment(pipeline)).level == "warn"
    make_topic(pipeline, name, 3)
    found = kafka.topics(deployment(pipeline, partitions=3))
    assert (found.level, found.found) == ("warn", f"{name} x 3; no topic {dead_letters_topic(pipeline.namespace)}")
    found = kafka.topics(deployment(pipeline, partitions=8))
    assert (found.level, found.found) == ("warn", f"{name} x 3; MOODSTREAM_PARTITIONS is 8")
    assert found.remedy.startswith("set it to 3, or ")
    assert kafka.message_size(deployment(pipeline)).level == "ok"


def test_workers_that_are_gone_leave_records_behind(pipeline: Pipeline) -> None:
    worker = pipeline.start_worker()
    pipeline.wait_for_worker()
    pipeline.send_fast(posts(20), run="r")
    pipeline.wait_until_settled("r", 20, 60)
    assert pipeline.stop_worker(worker) == 0
    pipeline.send_fast(posts(70), run="r")
    assert store.workers(deployment(pipeline)).found == "no worker says that it is alive"
    found = kafka.consumer_group(deployment(pipeline))
    assert " 0 records behind" not in found.found
    if pipeline.stack.broker is None:  # the embedded one keeps who has left until somebody joins, and counts batches
        assert found.found == f"{pipeline.namespace}.inference-worker: Empty, 0 members, 70 records behind"
        assert (found.level, found.remedy) == ("warn", "start `moodstream worker`")


@on_apache
def test_records_kafka_dropped_before_they_were_scored_fail(pipeline: Pipeline) -> None:
    worker = pipeline.start_worker()
    pipeline.wait_for_worker()
    pipeline.send(posts(5), run="r")
    pipeline.wait_until_settled("r", 5, 60)
    assert pipeline.stop_worker(worker) == 0
    pipeline.send(posts(9), run="r")

    async def drop() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=pipeline.stack.kafka)
        try:
            await admin.start()
            await admin.delete_records({TopicPartition(posts_topic(pipeline.namespace), 0): RecordsToDelete(8)})
        finally:
            await admin.close()

    asyncio.run(drop())
    found = kafka.consumer_group(deployment(pipeline))
    assert found.level == "fail" and "3 records were dropped by Kafka before a worker scored them" in found.found


@on_apache
def test_a_topic_too_narrow_for_the_largest_post_fails(pipeline: Pipeline) -> None:
    make_topic(pipeline, posts_topic(pipeline.namespace), 4, **{"max.message.bytes": "1000000"})
    found = kafka.message_size(deployment(pipeline))
    assert found.level == "fail" and "takes 1000000 bytes, the largest post has 1048576" in found.found
    assert "kafka-configs.sh --alter" in found.remedy
