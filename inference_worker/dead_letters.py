"""What people do with dead letters: read one whole, send it again, drop it.

A letter is sent again under the place it first had (PLACE_HEADER), so to the worker it is the same record once more:
however often it is sent, and wherever a process dies in between, it is settled once, and what was deleted after it
stays deleted. It stays in Redis until it is settled; failing anew, it is a letter again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaTimeoutError, UnknownTopicOrPartitionError

from inference_worker.contract import CUT_HEADER, MAX_LETTER_BYTES, DeadLetter, Results, name_of_letter, shard_of
from inference_worker.script import FIRST_BLOB, SCRIPT, arguments, named
from ingest.contract import (
    PLACE_HEADER,
    RUN_HEADER,
    MalformedRecord,
    NewerSchema,
    Record,
    dead_letters_topic,
    decode,
    encode_place,
    posts_topic,
    record_key,
)
from ingest.kafka_access import PLAINTEXT, KafkaAccess

REQUEST_TIMEOUT_MS: Final = 10_000
QUIET_S: Final = 0.5
"""The topic is read for so long past the end the broker told: the embedded one's falls short of its last batch."""
STALLED_S: Final = 10.0


@dataclass(frozen=True)
class Letter:
    """A record in the dead-letters topic. offset: there; place: `partition:offset:timestamp` where it first stood."""

    place: str
    key: bytes | None
    value: bytes
    headers: Mapping[str, bytes]
    offset: int

    def record(self) -> Record:
        """Raises MalformedRecord or NewerSchema."""
        return decode(self.value)


async def letters(
    kafka: str, namespace: str, places: Collection[str], access: KafkaAccess = PLAINTEXT
) -> AsyncGenerator[Letter]:
    """The records of these places that Kafka still has, as they were set aside; one that failed twice comes twice.

    Raises KafkaError or OSError.
    """
    consumer = AIOKafkaConsumer(
        dead_letters_topic(namespace),
        bootstrap_servers=kafka,
        **access.options(),
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
    )
    try:
        await consumer.start()
        async for record in _records(consumer):
            if (letter := _letter(record)).place in places:
                yield letter
    except UnknownTopicOrPartitionError:  # no worker has made the topic
        return
    finally:
        await consumer.stop()


async def _records(consumer: AIOKafkaConsumer) -> AsyncGenerator[Any]:
    """All there is by now, and what comes within QUIET_S of having read it."""
    ends = await consumer.end_offsets(consumer.assignment())
    heard_at_s, read_at_s = time.monotonic(), None
    while read_at_s is None or time.monotonic() - read_at_s < QUIET_S:
        for records in (await consumer.getmany(timeout_ms=200)).values():
            heard_at_s = time.monotonic()
            for record in records:
                yield record
        if read_at_s is None and await _is_read(consumer, ends):
            read_at_s = time.monotonic()
        elif read_at_s is None and time.monotonic() - heard_at_s >= STALLED_S:
            raise KafkaTimeoutError(f"nothing more of the dead letters came for {STALLED_S:.0f} s")


async def _is_read(consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> bool:
    return all([await consumer.position(partition) >= end for partition, end in ends.items()])


def _letter(record: Any) -> Letter:
    headers = dict(record.headers)
    place = b":".join(headers.get(name, b"?") for name in ("partition", "offset", "timestamp"))
    return Letter(place.decode(errors="replace"), record.key, record.value or b"", headers, record.offset)


@dataclass(frozen=True)
class Retried:
    """sent: places that are on the posts topic again; refused: those that are not, with the reason."""

    sent: tuple[str, ...]
    refused: Mapping[str, str]


async def retry(
    results: Results,
    kafka: str,
    asked: Mapping[str, DeadLetter],
    *,
    post_retention_s: int,
    rollup_retention_s: int,
    access: KafkaAccess = PLAINTEXT,
) -> Retried:
    """Sends letters to the posts topic again, each noted in Redis once Kafka acknowledged it.

    Raises KafkaError, OSError or RedisError; those sent by then may be sent again.
    """
    refused = {
        place: f"its post is past the retention of {post_retention_s} s"
        for place in asked
        if post_retention_s and time.time() - int(place.rpartition(":")[2]) / 1000 > post_retention_s
    }
    waiting = {place: letter for place, letter in asked.items() if place not in refused}
    sent: list[str] = []
    if waiting:
        async with (
            _producer(kafka, access) as producer,
            aclosing(letters(kafka, results.namespace, waiting, access)) as found,
        ):
            async for letter in found:
                if (mirrored := waiting.pop(letter.place, None)) is None:
                    continue  # a second failure of the same record
                if (reason := await _send(producer, posts_topic(results.namespace), letter)) is not None:
                    refused[letter.place] = reason
                else:
                    await asyncio.to_thread(_note_sent, results, letter, mirrored, rollup_retention_s)
                    sent.append(letter.place)
                if not waiting:
                    break
    refused |= dict.fromkeys(waiting, f"its record is no longer in {dead_letters_topic(results.namespace)}")
    return Retried(tuple(sent), refused)


def drop(results: Results, place: str, letter: DeadLetter, *, rollup_retention_s: int) -> bool:
    """Takes a letter out of Redis; its record stays in Kafka until its retention is over. False if it has changed."""
    return _handle(results, place, letter, "dropped", rollup_retention_s)


@asynccontextmanager
async def _producer(kafka: str, access: KafkaAccess) -> AsyncGenerator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka,
        **access.options(),
        acks="all",
        max_request_size=MAX_LETTER_BYTES,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
    )
    try:
        await producer.start()
        yield producer
    finally:
        await producer.stop()


async def _send(producer: AIOKafkaProducer, topic: str, letter: Letter) -> str | None:
    """Into the partition it came from, where its place belongs; or why that cannot be."""
    if CUT_HEADER in letter.headers:
        return "its record was too large for the dead-letters topic"
    partition, offset, timestamp_ms = map(int, letter.place.split(":"))
    try:
        is_there = partition in await producer.partitions_for(topic)
    except UnknownTopicOrPartitionError:
        is_there = False
    if not is_there:
        return f"{topic} has no partition {partition} any more"
    headers = [(PLACE_HEADER, encode_place(offset, timestamp_ms))]
    if RUN_HEADER in letter.headers:
        headers.append((RUN_HEADER, letter.headers[RUN_HEADER]))
    await producer.send_and_wait(topic, value=letter.value, key=letter.key, partition=partition, headers=headers)
    return None


def _note_sent(results: Results, letter: Letter, mirrored: DeadLetter, rollup_retention_s: int) -> None:
    """Nothing to note if the worker was quicker."""
    sent = msgspec.structs.replace(mirrored, retried_at=datetime.now(UTC))
    after = None if _is_settled_elsewhere(letter, mirrored) else sent
    _handle(results, letter.place, mirrored, "retried", rollup_retention_s, after=after, is_released=after is None)


def _is_settled_elsewhere(letter: Letter, mirrored: DeadLetter) -> bool:
    """The record is counted under another name than its letter: an author's deletion, which has no key."""
    try:
        key = record_key(letter.record())
    except (MalformedRecord, NewerSchema):
        return False
    return mirrored.key is None or key != mirrored.key.encode()


def _handle(
    results: Results,
    place: str,
    before: DeadLetter,
    outcome: str,
    rollup_retention_s: int,
    *,
    after: DeadLetter | None = None,
    is_released: bool = False,
) -> bool:
    """False if the letter no longer reads as `before`."""
    name = name_of_letter(before.key, before.partition, before.offset)
    shards = results.shards()
    keys = shards[shard_of(name, len(shards))]
    new = FIRST_BLOB + 1 if after is not None else None
    position = tuple(map(int, place.split(":")))
    entry = (7, name, outcome, *position, before.run, FIRST_BLOB, new, is_released)
    blobs = [msgspec.msgpack.encode(letter) for letter in (before, after) if letter is not None]
    (answer,) = results.redis.register_script(SCRIPT)(
        keys=named(keys), args=arguments(keys, [entry], blobs, rollups_live_s=rollup_retention_s)
    )
    return bool(answer == outcome.encode())
