"""The embedded broker kept within a cap. It keeps all it was ever sent: it knows no retention, nor how to drop records.

Only a topic that is deleted frees its memory. So once it has grown past the cap, or its oldest record may be older than
records are to be kept, ingest is stopped, the workers finish what is there, and the topic is made anew. Nothing unread
is dropped: the source waits, and ingest goes on at its cursor. That is back-pressure, and leaves no gap.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from deploy.children import Child
from deploy.local import LocalStack, Service
from ingest.contract import posts_topic
from ingest.settings import Settings as IngestSettings

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, TopicPartition

LOOK_EVERY_S: Final = 5.0
TOLD_EVERY_S: Final = 60.0
ANSWER_S: Final = 10.0

log = logging.getLogger(__name__)


class Feed:
    """What flows through an embedded broker: who writes, who reads, and the topic between them.

    settings: ingest's, of this broker and namespace.
    """

    def __init__(
        self, stack: LocalStack, ingest: Service, workers: Sequence[Service], settings: IngestSettings
    ) -> None:
        self._stack, self._ingest, self._workers, self._settings = stack, ingest, workers, settings
        self._topic = posts_topic(settings.namespace)
        self._made_at_s = time.monotonic()

    @property
    def is_old(self) -> bool:
        """Its first record may be older than records are to be kept."""
        most_s = self._settings.post_retention_s
        return bool(most_s) and time.monotonic() - self._made_at_s > most_s

    async def turn_over(self) -> None:
        """Returns once the topic is empty and all go on. Raises KafkaError or OSError, and then the topic is as it was.

        The watch of the stack starts what was paused.
        """
        async with self._stack.paused(self._ingest):
            await self._until_read()
            async with self._stack.paused(*self._workers):
                await self._make_anew()
        self._made_at_s = time.monotonic()

    async def _until_read(self) -> None:
        """By workers that may be slow, or started again meanwhile: there is no time after which records are dropped."""
        began_s = told_s = time.monotonic()
        while not await all_is_read(self._settings):
            await asyncio.sleep(0.5)
            if time.monotonic() - told_s > TOLD_EVERY_S:
                told_s = time.monotonic()
                log.warning("ingest waits for the workers, for %.0f s by now: see their logs", told_s - began_s)

    async def _make_anew(self) -> None:
        """What the group has committed of the topic goes with it."""
        from aiokafka.admin import AIOKafkaAdminClient  # slow to load: not at the command's start

        from ingest.producer import ensure_topic

        admin = AIOKafkaAdminClient(bootstrap_servers=self._settings.kafka)
        try:
            await admin.start()
            await admin.delete_topics([self._topic])
        finally:
            await admin.close()
        await ensure_topic(self._settings)


async def all_is_read(settings: IngestSettings) -> bool:
    """Nothing lies behind what the workers have committed.

    That is read, not asked for: this broker's latest offset can fall short of the end by part of a batch.
    """
    from aiokafka import AIOKafkaConsumer, TopicPartition

    topic, group = posts_topic(settings.namespace), f"{settings.namespace}.inference-worker"
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka, group_id=group, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    try:
        async with asyncio.timeout(ANSWER_S):
            await consumer.start()
            await consumer.topics()
            partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
            consumer.assign(partitions)  # not as a member: it only begins where the group is
            return await _nothing_follows(consumer, partitions)
    finally:
        await consumer.stop()


async def _nothing_follows(consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> bool:
    """Once every partition was answered for: a high water mark comes with the answer, be it empty."""
    while True:
        if await consumer.getmany(timeout_ms=100):
            return False
        if all(consumer.highwater(partition) is not None for partition in partitions):
            return not await consumer.getmany(timeout_ms=100)


@asynccontextmanager
async def bounded_memory(broker: Child | None, max_mb: int, feed: Feed | None) -> AsyncIterator[None]:
    """While the body runs, the broker is kept within `max_mb`. Without a feed that can wait, growth is only told."""
    if broker is None:
        yield
        return
    try:
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(_watch(broker, max_mb, feed))
            yield
            watching.cancel()
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _watch(broker: Child, max_mb: int, feed: Feed | None) -> None:
    due_mb = max_mb
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        size_mb = await asyncio.to_thread(resident_mb, broker.pid)
        if size_mb < due_mb and not (feed is not None and feed.is_old):
            continue
        if feed is None:
            _tell(size_mb)
            due_mb = 2 * size_mb
        else:
            await _make_room(feed, size_mb)
            # What is left is not this feed's: making room because of it, again and again, would help nobody.
            due_mb = max(max_mb, await asyncio.to_thread(resident_mb, broker.pid) + max_mb // 4)


def _tell(size_mb: int) -> None:
    log.warning(
        "the embedded broker keeps all posts in memory, %d MB by now: let MOODSTREAM_KAFKA name an Apache Kafka for "
        "archives of this size",
        size_mb,
    )


async def _make_room(feed: Feed, size_mb: int) -> None:
    from aiokafka.errors import KafkaError

    began_s = time.monotonic()
    log.info("the embedded broker holds %d MB: ingest waits until all is scored and forgotten", size_mb)
    try:
        await feed.turn_over()
    except (KafkaError, OSError) as error:  # a timeout is one
        log.warning("the embedded broker could not be emptied (%s): trying again", error)
    else:
        log.info("the embedded broker is empty again, after %.1f s", time.monotonic() - began_s)


def resident_mb(pid: int) -> int:
    """Memory of a process; 0 if it is gone, or this machine has no ps."""
    try:
        shown = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    except OSError:
        return 0
    return int(shown) >> 10 if shown.strip() else 0
