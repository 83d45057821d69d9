"""Records → Kafka: acknowledged by all replicas, bounded in flight, every one counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import TracebackType
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, for_code
from aiokafka.errors import TopicAlreadyExistsError as TopicExists

from ingest.contract import RUN_HEADER, Deletion, Record, encode, posts_topic, record_key
from ingest.errors import BrokerUnreachable
from ingest.settings import Settings

LINGER_MS: Final = 5
MAX_BATCH_BYTES: Final = 256 << 10
MAX_RECORD_BYTES: Final = 1 << 20
MAX_IN_FLIGHT: Final = 2000
REQUEST_TIMEOUT_MS: Final = 20_000
STOP_TIMEOUT_S: Final = 10.0
REPLICAS: Final = 3


class Producer:
    """Writes one run's records to the topic of its namespace; use as `async with`.

    sent: records Kafka acknowledged; failed: records it refused, by reason.
    Raises BrokerUnreachable on entry, or from `send` and `flush` once Kafka is lost.
    """

    def __init__(self, settings: Settings, *, run: str) -> None:
        self.sent = 0
        self.failed: Counter[str] = Counter()
        self._settings = settings
        self._topic = posts_topic(settings.namespace)
        self._headers = [(RUN_HEADER, run.encode())]
        self._room = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._lost: str | None = None
        self.partitions: list[int] = []
        # No compression: pictures do not shrink, and aiokafka's codecs need a package both ends would have to install.
        self._kafka = AIOKafkaProducer(
            bootstrap_servers=settings.kafka,
            acks="all",
            enable_idempotence=settings.idempotence,
            linger_ms=LINGER_MS,
            max_batch_size=MAX_BATCH_BYTES,
            max_request_size=MAX_RECORD_BYTES,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )

    async def __aenter__(self) -> Producer:
        try:
            await ensure_topic(self._settings)
            await self._kafka.start()
            self.partitions = sorted(await self._kafka.partitions_for(self._topic))
        except (KafkaError, OSError) as error:
            await self._kafka.stop()
            raise BrokerUnreachable(self._settings.kafka, str(error)) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Waits for what is in flight, but no longer than STOP_TIMEOUT_S: a lost broker never acknowledges."""
        try:
            await asyncio.wait_for(self._kafka.stop(), STOP_TIMEOUT_S if error is None else 1.0)
        except TimeoutError:
            await self._kafka.client.close()

    async def send(self, record: Record) -> None:
        """Waits only while too much is in flight; the acknowledgement is counted when it comes."""
        key, value = record_key(record), encode(record)
        partitions: list[int | None] = [None]
        if isinstance(record, Deletion) and record.author is not None:
            partitions = [*self.partitions]
        for partition in partitions:
            await self._room.acquire()
            if self._lost is not None:
                raise BrokerUnreachable(self._settings.kafka, self._lost)
            try:
                acknowledged = await self._kafka.send(
                    self._topic, value, key=key, partition=partition, headers=self._headers
                )
            except KafkaError as error:
                self._count_failure(error)
                self._room.release()
            else:
                acknowledged.add_done_callback(self._settle)

    async def flush(self) -> None:
        """Waits until all that was sent is acknowledged or failed."""
        await self._kafka.flush()
        if self._lost is not None:
            raise BrokerUnreachable(self._settings.kafka, self._lost)

    def _settle(self, acknowledged: asyncio.Future[object]) -> None:
        self._room.release()
        error = None if acknowledged.cancelled() else acknowledged.exception()
        if error is not None:
            self._count_failure(error)
        elif not acknowledged.cancelled():
            self.sent += 1

    def _count_failure(self, error: BaseException) -> None:
        self.failed[type(error).__name__] += 1
        # What a retry could mend comes back only when the time for retries is over.
        if isinstance(error, KafkaError) and error.retriable:
            self._lost = str(error)


async def ensure_topic(settings: Settings) -> None:
    """Creates the topic of the namespace if it is missing, with up to REPLICAS replicas where there are brokers."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka, request_timeout_ms=REQUEST_TIMEOUT_MS)
    try:
        await admin.start()
        topic = posts_topic(settings.namespace)
        if topic in await admin.list_topics():
            return
        brokers = len((await admin.describe_cluster())["brokers"])
        wanted = NewTopic(topic, settings.partitions, min(REPLICAS, brokers))
        response = await admin.create_topics([wanted])
        for _, code, *_ in response.topic_errors:
            if code not in (0, TopicExists.errno):
                raise for_code(code)(f"creating topic {topic}")
    finally:
        await admin.close()
