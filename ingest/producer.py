"""Records → Kafka: acknowledged by all replicas, bounded in flight, every one counted.

Records gather while a round of batches, one for each partition, is under way, and leave in the next one. A batch has
one acknowledgement, not one for each record as `AIOKafkaProducer.send` has: a third of its cost in processor time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Final, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    InvalidMessageError,
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    for_code,
)
from aiokafka.errors import TopicAlreadyExistsError as TopicExists

from ingest.contract import (
    PLACE_HEADER,
    RUN_HEADER,
    TRACEPARENT_HEADER,
    Deletion,
    Record,
    encode,
    encode_place,
    posts_topic,
    record_key,
)
from ingest.errors import BadSettings, BrokerUnreachable
from ingest.kafka_access import broker_error
from ingest.partitioning import partition_of
from ingest.settings import Settings
from ingest.telemetry.tracing import Traces, TracingMissing

LINGER_S: Final = 0.005
"""A round starts so long after its first record, so that a steady stream makes batches."""
MAX_BATCH_BYTES: Final = 256 << 10
MAX_RECORD_BYTES: Final = 1 << 20
RECORD_ROOM: Final = MAX_RECORD_BYTES - (4 << 10)
"""For key and value; the rest of MAX_RECORD_BYTES is for headers and framing."""
MAX_IN_FLIGHT_BYTES: Final = 32 << 20
BYTES_EACH: Final = 1 << 10
"""What a record in flight costs beside its own bytes, so that many small ones are bounded too."""
REQUEST_TIMEOUT_MS: Final = 20_000
REFUSED: Final = (MessageSizeTooLargeError, RecordListTooLargeError, InvalidMessageError, InvalidTimestampError)
"""What Kafka says of a record itself, which no other attempt would change."""
STOP_TIMEOUT_S: Final = 10.0
REPLICAS: Final = 3

Settled = Callable[[], None]
"""Called once the fate of a record is certain: acknowledged, or refused for good; never when Kafka is lost."""


log = logging.getLogger(__name__)


class _Queued(NamedTuple):
    key: bytes | None
    value: bytes
    timestamp_ms: int
    settled: Settled | None
    headers: list[tuple[str, bytes]]

    @property
    def cost(self) -> int:
        return len(self.value) + BYTES_EACH


class Producer:
    """Writes one run's records to the topic of its namespace; use as `async with`.

    sent: records Kafka acknowledged; failed: records it refused, by reason; copies: see Sink; waited_s: how long `send`
    was held up because Kafka took no more; silent_s: since when nothing in flight was acknowledged.
    began_ms: when the run began, of a replay that can go on after an interruption: its records say where they stand.
    Raises BrokerUnreachable on entry, or from `send` and `flush` once Kafka is lost.
    """

    def __init__(self, settings: Settings, *, run: str, began_ms: int | None = None) -> None:
        self.sent = self.copies = 0
        self.failed: Counter[str] = Counter()
        self.waited_s = 0.0
        self.partitions: list[int] = []
        self._settings = settings
        self._topic = posts_topic(settings.namespace)
        self._headers = [(RUN_HEADER, run.encode())]
        self._began_ms = began_ms
        self._traces = _traces(settings)
        self._lost: BrokerUnreachable | None = None
        self._queues: list[deque[_Queued]] = []
        self._in_flight_bytes = 0
        self._heard_at = 0.0
        self._queued, self._has_room, self._is_idle = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._has_room.set()
        self._is_idle.set()
        self._delivering: asyncio.Task[None] | None = None
        # No compression: pictures do not shrink, and aiokafka's codecs need a package both ends would have to install.
        self._kafka = AIOKafkaProducer(
            bootstrap_servers=settings.kafka,
            **settings.kafka_access.options(),
            acks="all",
            enable_idempotence=settings.idempotence,
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
            raise await broker_error(error, self._settings.kafka, self._settings.kafka_access) from error
        self._queues = [deque() for _ in self.partitions]
        self._delivering = asyncio.create_task(self._deliver())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Waits for what is in flight, but no longer than STOP_TIMEOUT_S: a lost broker never acknowledges."""
        assert self._delivering is not None
        if self._traces is not None:
            await asyncio.to_thread(self._traces.close)
        self._delivering.cancel()
        await asyncio.wait({self._delivering})
        try:
            await asyncio.wait_for(self._kafka.stop(), STOP_TIMEOUT_S if error is None else 1.0)
        except TimeoutError:
            await self._kafka.client.close()
        except (KafkaError, OSError) as problem:  # all that counts was acknowledged before
            log.warning("closing the connection to Kafka: %s", problem)

    async def send(self, record: Record, settled: Settled | None = None, *, number: int | None = None) -> None:
        """Waits only while too much is in flight; what becomes of the record is counted, and told to `settled`."""
        if not self._has_room.is_set():
            began = time.monotonic()
            await self._has_room.wait()
            self.waited_s += time.monotonic() - began
        if self._lost is not None:
            raise self._lost
        key, value, headers = record_key(record), encode(record), self._headers_of(number)
        if len(value) + len(key or b"") > RECORD_ROOM:
            self.failed[MessageSizeTooLargeError.__name__] += 1
            if settled is not None:
                settled()
        elif isinstance(record, Deletion) and record.author is not None:
            self.copies += len(self._queues) - 1
            everywhere = None if settled is None else _after(len(self._queues), settled)
            for number in range(len(self._queues)):
                self._put(number, _Queued(key, value, int(time.time() * 1000), everywhere, headers))
        else:
            assert key is not None
            if self._traces is not None and (sending := self._traces.send(self._topic, key.decode())) is not None:
                headers = [*headers, (TRACEPARENT_HEADER, sending.traceparent)]
                settled = _both(sending.end, settled)
            number = partition_of(key, len(self._queues))
            self._put(number, _Queued(key, value, int(time.time() * 1000), settled, headers))

    @property
    def silent_s(self) -> float:
        return 0.0 if self._is_idle.is_set() else time.monotonic() - self._heard_at

    async def flush(self) -> None:
        """Waits until all that was sent is acknowledged or failed."""
        await self._is_idle.wait()
        if self._lost is not None:
            raise self._lost

    def _headers_of(self, number: int | None) -> list[tuple[str, bytes]]:
        if number is None or self._began_ms is None:
            return self._headers
        return [*self._headers, (PLACE_HEADER, encode_place(number, self._began_ms))]

    def _put(self, number: int, record: _Queued) -> None:
        self._queues[number].append(record)
        self._in_flight_bytes += record.cost
        if self._in_flight_bytes >= MAX_IN_FLIGHT_BYTES:
            self._has_room.clear()
        if self._is_idle.is_set():
            self._is_idle.clear()
            self._heard_at = time.monotonic()
        self._queued.set()

    async def _deliver(self) -> None:
        """Round after round until Kafka is lost. One batch a partition is under way: so none overtakes another."""
        try:
            while self._lost is None:
                await self._queued.wait()
                await asyncio.sleep(LINGER_S)
                queues = [(number, queue) for number, queue in enumerate(self._queues) if queue]
                await asyncio.gather(*(self._deliver_batch(number, queue) for number, queue in queues))
                if not any(self._queues):
                    self._queued.clear()
                    self._is_idle.set()
        finally:  # whoever waits is told
            self._lost = self._lost or BrokerUnreachable(self._settings.kafka, "sending has ended")
            self._has_room.set()
            self._is_idle.set()

    async def _deliver_batch(self, number: int, queue: deque[_Queued]) -> None:
        """As much of the queue as one batch holds."""
        batch = self._kafka.create_batch()
        records: list[_Queued] = []
        while queue:
            record = queue[0]
            if not batch.append(
                timestamp=record.timestamp_ms, key=record.key, value=record.value, headers=record.headers
            ):
                break
            records.append(queue.popleft())
        batch.close()
        try:
            await (await self._kafka.send_batch(batch, self._topic, partition=self.partitions[number]))
        except KafkaError as error:
            await self._fail(records, error)
        else:
            self.sent += len(records)
            self._settle(records)

    async def _fail(self, records: list[_Queued], error: KafkaError) -> None:
        self.failed[type(error).__name__] += len(records)
        if isinstance(error, REFUSED):
            self._settle(records)
        else:  # a right, the leader or the producer is gone; what a retry could mend was retried for long enough
            self._lost = await broker_error(error, self._settings.kafka, self._settings.kafka_access)

    def _settle(self, records: Iterable[_Queued]) -> None:
        self._heard_at = time.monotonic()
        for record in records:
            self._in_flight_bytes -= record.cost
            if record.settled is not None:
                record.settled()
        if self._in_flight_bytes < MAX_IN_FLIGHT_BYTES:
            self._has_room.set()


def _traces(settings: Settings) -> Traces | None:
    if settings.traces is None:
        return None
    try:
        return Traces("ingest", settings.traces, share=settings.traces_share)
    except TracingMissing as error:
        raise BadSettings(str(error)) from error


def _both(first: Settled, second: Settled | None) -> Settled:
    def settle() -> None:
        first()
        if second is not None:
            second()

    return settle


def _after(calls: int, settled: Settled) -> Settled:
    """Calls `settled` when it was itself called so many times."""
    left = calls

    def settle() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            settled()

    return settle


async def ensure_topic(settings: Settings) -> None:
    """Creates the topic of the namespace if it is missing, with up to REPLICAS replicas where there are brokers."""
    admin = AIOKafkaAdminClient(
        bootstrap_servers=settings.kafka, request_timeout_ms=REQUEST_TIMEOUT_MS, **settings.kafka_access.options()
    )
    try:
        await admin.start()
        topic = posts_topic(settings.namespace)
        if topic in await admin.list_topics():
            return
        brokers = len((await admin.describe_cluster())["brokers"])
        # The records hold posts as they came, deleted ones included: they go when the worker's texts go.
        retention_ms = settings.post_retention_s * 1000 or -1
        wanted = NewTopic(
            topic, settings.partitions, min(REPLICAS, brokers), topic_configs={"retention.ms": str(retention_ms)}
        )
        response = await admin.create_topics([wanted])
        for _, code, *_ in response.topic_errors:
            if code not in (0, TopicExists.errno):
                raise for_code(code)(f"creating topic {topic}")
    finally:
        await admin.close()
