"""The faust application: Kafka records → pipeline, acknowledged by the ledger, drained before it stops.

One agent reads chunks of raw records with `noack()`; everything else is the pipeline's. faust's own waiting for open
events is off (`stream_wait_empty`): it would wait without limit at each rebalance; here the wait has a deadline, and
what is not done by then is read again by the partition's next worker, whose writes the receipts fold.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import tempfile
import time
from collections.abc import Awaitable, Iterable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, cast

import faust
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from faust.types import TP, Message
from redis.asyncio import Redis
from redis.exceptions import RedisError

from inference_worker.consumer import CHUNK, Chunk, ChunkConsumer
from inference_worker.contract import CUT_HEADER, MAX_LETTER_BYTES
from inference_worker.pipeline import Delivered, Pipeline
from inference_worker.predictor import Predictor
from inference_worker.redis_access import connect_async
from inference_worker.resumption import Resuming
from inference_worker.settings import Settings
from inference_worker.shedding import Backlog
from inference_worker.stats import Stats
from inference_worker.store import Position, Store
from ingest.contract import (
    PLACE_HEADER,
    RUN_HEADER,
    TRACEPARENT_HEADER,
    dead_letters_topic,
    decode_place,
)
from ingest.kafka_access import KafkaAccess
from ingest.telemetry.tracing import Traces

logger = logging.getLogger(__name__)

STATE_EVERY_S = 2.0
COMMIT_EVERY_S = 1.0
DEAD_LETTER_RETRY_S = 1.0
LEAVE_TIMEOUT_S = 8.0
"""For committing and leaving the group, after the drain: a broker that is away never answers."""
NO_RUN = "none"
EXIT_STALLED = 3
EXIT_FAILED = 4


class WorkerApp(faust.App):
    """faust.App that opens the store and the pipeline before the first record and drains before it lets go."""

    settings: Settings
    predictor: Predictor
    redis: Redis
    store: Store
    stats: Stats
    pipeline: Pipeline
    dead_letters: faust.TopicT
    observed: AsyncExitStack
    traces: Traces | None

    async def on_start(self) -> None:
        await super().on_start()
        self.redis = connect_async(self.settings.redis, socket_timeout=10, socket_connect_timeout=5)
        self.store = Store(self.redis, self.settings, model=self.predictor.name)
        await self.store.open()
        name = f"{socket.gethostname()}-{os.getpid()}"
        self.stats = Stats(name=name, model=self.predictor.name, engine=self.predictor.engine.name)
        self.pipeline = Pipeline(
            self.predictor, self.store, self.send_dead_letter, self.settings, self.stats, self.traces
        )
        consumer = cast(ChunkConsumer, self.consumer)
        consumer.topic, consumer.resuming = self.settings.posts_topic, Resuming(self.store, self.stats)
        self.observed = AsyncExitStack()
        if self.settings.health is not None:
            from inference_worker.metrics import WorkerMetrics  # 0.2 s of imports, for those who ask for it
            from ingest.telemetry.endpoint import serve

            serving = serve(WorkerMetrics(self), self.settings.health, variable="MOODSTREAM_WORKER_HEALTH")
            await self.observed.enter_async_context(serving)

    async def stop(self) -> None:
        """In bounded time: nothing is lost by ending unheard, as what is not committed is read again."""
        deadline_s = self.settings.drain_timeout_s + LEAVE_TIMEOUT_S
        giving_up = asyncio.get_running_loop().call_later(deadline_s, end_unheard, deadline_s)
        try:
            await super().stop()
        finally:
            giving_up.cancel()

    async def on_stop(self) -> None:
        """Takes nothing more in, finishes what is in flight, commits, and only then lets faust stop."""
        if hasattr(self, "pipeline"):
            self.pause()
            if not await self.pipeline.drain(self.settings.drain_timeout_s):
                left = len(self.pipeline.ledger)
                logger.warning("stopped with %d records in flight; they will be read again", left)
            await self.consumer.commit()
            consumer = cast(ChunkConsumer, self.consumer)
            if self.settings.leave_group == "alone" and not consumer.is_alone:
                consumer.leave_unheard()
        await super().on_stop()
        if hasattr(self, "stats"):  # else the store could not be opened, which is the error to be seen
            try:
                await self.store.retire(self.stats.name)
            except RedisError:
                logger.info("Redis is away; the worker's state there expires by itself")
        if hasattr(self, "observed"):
            await self.observed.aclose()
        if self.traces is not None:
            await asyncio.to_thread(self.traces.close)
        if hasattr(self, "redis"):
            await self.redis.aclose()

    def pause(self) -> None:
        """Stops the flow of new records."""
        self.consumer.stop_flow()
        self.flow_control.suspend()
        self.flow_control.clear()

    async def send_dead_letter(self, delivered: Delivered, reason: str) -> None:
        """The record as it came, with the error and its place in the headers; waits until Kafka has it.

        One too large for the topic goes without its bytes: its partition must not wait for ever.
        """
        position, value = delivered.position, delivered.value
        headers = {
            "error": reason.encode(),
            "partition": b"%d" % position.partition,
            "offset": b"%d" % position.offset,
            "timestamp": b"%d" % position.timestamp_ms,
            "worker": self.stats.name.encode(),
            "engine": self.stats.engine.encode(),
            RUN_HEADER: delivered.run.encode(),
        }
        while True:
            try:
                sent = await self.dead_letters.send(key=delivered.key, value=value, headers=headers)
                await sent
                return
            except Exception as error:  # aiokafka raises a zoo; the record stays un-acknowledged until it is through
                if isinstance(error.__cause__ or error, MessageSizeTooLargeError) and value:
                    value, headers[CUT_HEADER] = b"", b"%d" % len(value)
                    continue
                logger.warning("the dead letter of %s did not reach Kafka (%s); retrying", position, error)
                await asyncio.sleep(DEAD_LETTER_RETRY_S)

    def lag(self) -> int | None:
        """Records behind the end of this worker's partitions, as far as the broker said; None while unknown."""
        behind = 0
        for lag in self.lags().values():
            if lag is None:
                return None
            behind += lag
        return behind

    def lags(self) -> dict[int, int | None]:
        """The same by partition: what is not read, and what is read and not done."""
        consumer: Any = self.consumer
        found = {}
        for tp in self.partitions():
            end = consumer.highwater(tp)
            is_known = end is not None and tp in consumer._read_offset  # it comes with the first seek
            last_read = consumer._read_offset.get(tp)
            unread = max(0, end - 1 - (last_read if last_read is not None else -1)) if is_known else None
            waiting = self.pipeline.ledger.waiting_in((tp.topic, tp.partition))
            found[tp.partition] = None if unread is None else unread + waiting
        return found

    def behind(self) -> dict[int, float]:
        """Seconds since the oldest record that is read and not done was sent to Kafka, by partition."""
        now_s, ledger = time.time(), self.pipeline.ledger
        oldest = {tp.partition: ledger.oldest_s((tp.topic, tp.partition)) for tp in self.partitions()}
        return {partition: max(0.0, now_s - at_s) if at_s is not None else 0.0 for partition, at_s in oldest.items()}

    def partitions(self) -> list[TP]:
        """This worker's partitions of the posts, in order."""
        topic = self.settings.posts_topic
        return sorted(tp for tp in self.consumer.assignment() if tp.topic == topic)


def credentials(access: KafkaAccess) -> faust.SASLCredentials | faust.SSLCredentials | None:
    """As faust takes them, for its consumer, producer and topics alike."""
    if access.is_sasl:
        return faust.SASLCredentials(
            mechanism=access.mechanism,
            username=access.username,
            password=access.password,
            ssl_context=access.files.context(),
        )
    return faust.SSLCredentials(access.files.context()) if access.protocol == "SSL" else None


def create_app(settings: Settings, predictor: Predictor, traces: Traces | None = None) -> WorkerApp:
    """The worker of `settings.namespace`, ready to be run by `faust.Worker`."""
    app = WorkerApp(
        settings.consumer_group,
        broker=";".join(f"kafka://{server}" for server in settings.kafka.split(",")),
        broker_credentials=credentials(settings.kafka_access),
        store="memory://",
        datadir=tempfile.gettempdir(),
        web_enabled=False,
        autodiscover=False,
        topic_disable_leader=True,
        topic_partitions=settings.partitions,
        topic_replication_factor=settings.replicas,
        key_serializer="raw",
        value_serializer="raw",
        stream_wait_empty=False,
        stream_buffer_maxsize=max(1, settings.in_flight // CHUNK),
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.heartbeat_s,
        broker_commit_interval=COMMIT_EVERY_S,
        # A shadow begins with what comes now: it is compared on the same posts, and need not catch up with days.
        consumer_auto_offset_reset="latest" if settings.shadowed else "earliest",
        producer_acks=-1,
        producer_max_request_size=MAX_LETTER_BYTES,
    )
    app.settings, app.predictor, app.traces = settings, predictor, traces
    app.transport.Consumer = ChunkConsumer  # type: ignore[misc]  # declared of the class, read from the instance
    # Both topics hold posts as they came. faust makes milliseconds of it, and Kafka takes -1 for no end.
    retention = settings.post_retention_s or -0.001
    posts = app.topic(settings.posts_topic, internal=True, partitions=settings.partitions, retention=retention)
    app.dead_letters = app.topic(
        dead_letters_topic(settings.namespace),
        internal=True,
        partitions=1,
        retention=retention,
        config={"max.message.bytes": MAX_LETTER_BYTES},
    )

    async def score(stream: Any) -> None:
        async for event in stream.noack().events():
            await submit(app, event.message)

    async def work() -> None:
        await declare(app.dead_letters)
        await or_exit(app.pipeline.run())

    async def report() -> None:
        await or_exit(report_forever(app))

    async def follow() -> None:
        await or_exit(follow_topic(cast(ChunkConsumer, app.consumer)))

    async def release(sender: Any, revoked: Iterable[TP], **_: Any) -> None:
        if not hasattr(app, "pipeline"):
            return
        await app.pipeline.settle_in_flight(settings.session_timeout_s / 2)
        await app.consumer.commit()
        app.pipeline.revoke((tp.topic, tp.partition) for tp in revoked)
        cast(ChunkConsumer, app.consumer).forget(revoked)
        app.store.marks.start_anew()

    app.agent(posts, name="score", concurrency=1)(score)
    app.task(work)
    app.task(report)
    app.task(follow)
    app.on_partitions_revoked.connect(release)  # type: ignore[arg-type]  # typed as if nobody named the arguments
    return app


async def declare(topic: faust.TopicT) -> None:
    """Makes the topic, however long a broker takes that is only just back; what a retry cannot mend is raised."""
    while True:
        try:
            await topic.declare()
        except KafkaError as error:
            if not error.retriable:
                raise
            logger.warning("%s is not made yet (%s); retrying", topic.get_topic_name(), error)
            await asyncio.sleep(DEAD_LETTER_RETRY_S)
        else:
            return


def end_unheard(deadline_s: float) -> None:
    """Ends the process, which a broker or a store that is away kept from stopping."""
    logger.critical(
        "not stopped within %.0f s, Kafka or Redis is away: what is not committed is read again", deadline_s
    )
    logging.shutdown()
    os._exit(EXIT_FAILED)


async def or_exit(work: Awaitable[None]) -> None:
    """Ends the process if the work fails: a crashed faust service would stay, alive and idle, and keep its partitions.

    Nothing is lost: what was not acknowledged is read again by the next worker.
    """
    try:
        await work
    except Exception:
        logger.critical("the worker failed and exits", exc_info=True)
        logging.shutdown()
        os._exit(EXIT_FAILED)


async def submit(app: WorkerApp, chunk: Chunk) -> None:
    """Hands records to the pipeline, up to the first it does not take; acknowledging them is the ledger's to do."""
    consumer = cast(ChunkConsumer, app.consumer)
    for message in chunk.messages:
        acknowledge = partial(consumer.acknowledge, message.tp, message.offset)
        if not await app.pipeline.submit(_delivered(message), (message.topic, message.partition), acknowledge):
            return


def _delivered(message: Message) -> Delivered:
    headers = dict(message.headers or ())
    return Delivered(
        value=message.value or b"",
        key=message.key,
        position=_position(message.partition, message.offset, message.timestamp, headers.get(PLACE_HEADER)),
        run=(headers.get(RUN_HEADER) or NO_RUN.encode()).decode(errors="replace"),
        offset=message.offset,
        traceparent=headers.get(TRACEPARENT_HEADER),
        sent_at_s=message.timestamp,
        is_placed=PLACE_HEADER in headers,
    )


def _position(partition: int, offset: int, timestamp_s: float | None, place: bytes | None) -> Position:
    """Where the record stands: in its replay where it says so, else in Kafka."""
    if place is not None and (found := decode_place(place)) is not None:
        return Position(partition, *found)
    return Position(partition, offset, round((timestamp_s or 0) * 1000))


async def follow_topic(consumer: ChunkConsumer) -> None:
    """Has a topic that was made anew read from its beginning."""
    while True:
        await asyncio.sleep(STATE_EVERY_S)
        if await consumer.is_topic_anew():
            await consumer.rejoin()


async def report_forever(app: WorkerApp) -> None:
    """Renews the worker's state in Redis, gives Redis again what it forgot, and ends the process when records wait and
    nothing moves.

    The watchdog answers faust's known silent stalls; while Redis is away waiting is right, and the clock stops.
    """
    loop = asyncio.get_running_loop()
    progress: tuple[int, int] = (-1, -1)
    moved_at_s = loop.time()
    backlog = Backlog()
    while True:
        await asyncio.sleep(STATE_EVERY_S)
        lag = app.lag()
        if app.consumer.assignment():
            shedding, behind = app.pipeline.shedding, app.behind()
            behind_s = max(behind.values(), default=0.0)
            shedding.adjust(behind_s)
            backlog.tell(app.lags(), behind, shedding.share)
            state = app.stats.state(
                queue_age_s=app.pipeline.batcher.queue_age_s,
                lag=lag,
                known_pictures=app.predictor.images.hits,
                new_pictures=app.predictor.images.misses,
                behind_s=behind_s,
                sample=shedding.share,
            )
            try:
                await app.store.publish(state)
                if not await app.store.mark({}):
                    await cast(ChunkConsumer, app.consumer).rejoin()
            except RedisError as error:
                logger.warning("the worker's state did not reach Redis: %s", error)
        now = (app.pipeline.ledger.acknowledged, app.store.retries)
        if now != progress or not lag:
            progress, moved_at_s = now, loop.time()
        elif loop.time() - moved_at_s > app.settings.watchdog_s:
            logger.critical("%d records wait and none was acknowledged in %.0f s", lag, app.settings.watchdog_s)
            logging.shutdown()
            os._exit(EXIT_STALLED)
