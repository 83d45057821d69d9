"""Kafka: brokers, topics, the workers' consumer group, the size of messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NodeNotReadyError,
)

from deploy.checks.finding import CannotTell, Check, Deployment, Finding, fail, of_bytes, ok, warn
from inference_worker.settings import Settings
from ingest.contract import dead_letters_topic, posts_topic
from ingest.kafka_access import why_refused
from ingest.producer import MAX_RECORD_BYTES

TIMEOUT_MS: Final = 8000
SILENCE: Final = (KafkaConnectionError, KafkaTimeoutError, NodeNotReadyError)
LAG_TOLD: Final = 10_000
SIZE: Final = "max.message.bytes"


def brokers(deployment: Deployment) -> Finding:
    async def look() -> Finding:
        async with admin_of(deployment.worker) as admin:
            count = len((await admin.describe_cluster())["brokers"])
            return ok(f"{deployment.worker.kafka} answers, {count} broker{'s' * (count != 1)}")

    try:
        return asyncio.run(look())
    except CannotTell as error:
        settings, cause = deployment.worker, error.__cause__ or error
        if (refused := asyncio.run(why_refused(cause, settings.kafka, settings.kafka_access))) is not None:
            return fail(f"{settings.kafka} refuses: {refused.problem}", refused.remedy)
        found = f"{deployment.worker.kafka} does not answer ({error.__cause__})"
        return fail(found, "start it, or let MOODSTREAM_KAFKA name it")


def topics(deployment: Deployment) -> Finding:
    settings = deployment.worker

    async def look() -> Finding:
        async with admin_of(settings) as admin:
            wanted = (posts_topic(settings.namespace), dead_letters_topic(settings.namespace))
            there = [name for name in wanted if name in await admin.list_topics()]  # some make what is described
            described = await admin.describe_topics(there) if there else []
            count = len((await admin.describe_cluster())["brokers"])
            return judged_topics(settings, {topic["topic"]: topic["partitions"] for topic in described}, count)

    return asyncio.run(look())


def judged_topics(settings: Settings, found: Mapping[str, list[dict[str, Any]]], brokers: int) -> Finding:
    """found: partitions of each topic there is, as Kafka describes them."""
    posts, letters = posts_topic(settings.namespace), dead_letters_topic(settings.namespace)
    if posts not in found:
        return fail(f"no topic {posts}", "start `moodstream ingest`, which makes it, or set MOODSTREAM_NAMESPACE")
    said = ", ".join(f"{name} x {len(partitions)}" for name, partitions in found.items())
    every = [partition for partitions in found.values() for partition in partitions]
    if headless := [partition for partition in every if partition["leader"] < 0]:
        return fail(f"{said}; {len(headless)} partitions without a leader", "bring the brokers that hold them back")
    if len(found[posts]) != settings.partitions:
        return warn(
            f"{said}; MOODSTREAM_PARTITIONS is {settings.partitions}",
            f"set it to {len(found[posts])}, or let `kafka-topics.sh --alter --topic {posts} --partitions N` add some",
        )
    if behind := [partition for partition in every if len(partition["isr"]) < len(partition["replicas"])]:
        return warn(f"{said}; {len(behind)} partitions lack a replica in sync", "look after the brokers that lag")
    if brokers > 1 and any(len(partition["replicas"]) < 2 for partition in every):
        return warn(
            f"{said}, kept once on a cluster of {brokers}",
            "raise the replicas by kafka-reassign-partitions.sh: one broker's death stops them",
        )
    if letters not in found:
        return warn(f"{said}; no topic {letters}", "start `moodstream worker`, which makes it")
    return ok(said)


class Group(NamedTuple):
    """lag: records of all partitions not yet scored; lost: those that Kafka dropped before they were."""

    state: str
    members: int
    partitions: int
    lag: int
    lost: int


def consumer_group(deployment: Deployment) -> Finding:
    settings = deployment.worker
    topic = posts_topic(settings.namespace)

    async def look() -> Finding:
        async with admin_of(settings) as admin:
            if topic not in await admin.list_topics():
                return warn(f"no topic {topic} to consume", "see the check `topics`")
            try:
                answers = await admin.describe_consumer_groups([settings.consumer_group])
                ((_, _, state, _, _, members, *_),) = answers[0].groups
            except GroupCoordinatorNotAvailableError:  # no group has ever been
                state, members = "Dead", []
            (described,) = await admin.describe_topics([topic])
            partitions = [TopicPartition(topic, partition["partition"]) for partition in described["partitions"]]
            lag, lost = (await _lag(settings, partitions)) if state != "Dead" else (0, 0)
            return judged_group(settings, Group(state, len(members), len(partitions), lag, lost))

    return asyncio.run(look())


def judged_group(settings: Settings, group: Group) -> Finding:
    name = settings.consumer_group
    if group.lost:
        return fail(
            f"{name}: {group.lost} records were dropped by Kafka before a worker scored them",
            "add workers, and raise retention.ms of the topic above the longest outage",
        )
    said = f"{name}: {group.state}, {group.members} members, {group.lag} records behind"
    if group.state in ("Dead", "Empty"):
        return warn(said, "start `moodstream worker`")
    if group.state != "Stable":
        return warn(said, "wait, and look again: partitions are being handed on")
    if group.members > group.partitions:
        return warn(f"{said}; {group.partitions} partitions", "some are idle: add partitions, or stop them")
    if group.lag > LAG_TOLD:
        return warn(said, f"if it grows, start more workers, up to {group.partitions}")
    return ok(said)


async def _lag(settings: Settings, partitions: list[TopicPartition]) -> tuple[int, int]:
    """Records behind, records lost."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka,
        **settings.kafka_access.options(),
        group_id=settings.consumer_group,  # not joined: partitions are assigned by hand
        enable_auto_commit=False,
        request_timeout_ms=TIMEOUT_MS,
    )
    try:
        await consumer.start()
        consumer.assign(partitions)
        ends, begins = await consumer.end_offsets(partitions), await consumer.beginning_offsets(partitions)
        committed = {partition: await consumer.committed(partition) for partition in partitions}
    finally:
        await consumer.stop()
    next_ = {partition: offset if offset is not None else begins[partition] for partition, offset in committed.items()}
    lag = sum(max(0, ends[partition] - offset) for partition, offset in next_.items())
    return lag, sum(max(0, begins[partition] - offset) for partition, offset in next_.items())


def message_size(deployment: Deployment) -> Finding:
    """A post may have MAX_RECORD_BYTES with all its pictures."""
    settings = deployment.worker
    topic = posts_topic(settings.namespace)

    async def look() -> Finding:
        async with admin_of(settings) as admin:
            if topic not in await admin.list_topics():
                return warn(f"no topic {topic} to ask", "see the check `topics`")
            answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
            ((*_, entries),) = answers[0].resources
            return judged_size(topic, next((value for name, value, *_ in entries if name == SIZE), None))

    return asyncio.run(look())


def judged_size(topic: str, told: str | None) -> Finding:
    if told is None:
        return ok(f"this broker does not tell the limit of {topic}; the largest post has {of_bytes(MAX_RECORD_BYTES)}")
    found = f"{topic} takes {told} bytes, the largest post has {MAX_RECORD_BYTES}"
    if int(told) < MAX_RECORD_BYTES:
        remedy = f"kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config {SIZE}=1048588"
        return fail(found, remedy)
    return ok(found)


@asynccontextmanager
async def admin_of(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """Raises CannotTell if it does not answer, or refuses."""
    admin = AIOKafkaAdminClient(
        bootstrap_servers=settings.kafka, request_timeout_ms=TIMEOUT_MS, **settings.kafka_access.options()
    )
    try:
        await admin.start()
        yield admin
    except (*SILENCE, OSError) as error:
        raise CannotTell(fail("unknown, as Kafka does not answer", "see the check `kafka`")) from error
    except KafkaError as error:
        refused = f"Kafka refuses: {error or type(error).__name__}"
        raise CannotTell(fail(refused, "see that this user's rights (ACLs) reach so far")) from error
    finally:
        await admin.close()


CHECKS: Final = (
    Check("kafka", brokers),
    Check("topics", topics),
    Check("consumer-group", consumer_group),
    Check("message-size", message_size),
)
