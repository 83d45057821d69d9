"""Redis sink: one `store.lua` call per shard and micro-batch, retried until Redis took it."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from inference_worker.contract import (
    ALL,
    TAIL_KEPT,
    Counters,
    DeadLetter,
    Keys,
    Meta,
    Prediction,
    WorkerState,
    encode_prediction,
    meta_key,
    shard_of,
    worker_key,
    workers_key,
)
from inference_worker.errors import StoreUnavailable
from inference_worker.settings import Settings

logger = logging.getLogger(__name__)

SCRIPT = (Path(__file__).parent / "store.lua").read_text()
RETRY_FIRST_S, RETRY_LAST_S = 0.1, 5.0
STATE_TTL_S = 15
FIRST_BLOB = 7
"""Index of the first blob among the script's arguments."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a record stands in Kafka; the time stamp tells a recreated topic from the one before it."""

    partition: int
    offset: int
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Scored:
    """A prediction on its way to Redis, with the thumbnails to keep and the run it belongs to."""

    prediction: Prediction
    position: Position
    run: str
    thumbnails: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Deleted:
    """A post to take out of everything."""

    post_id: str
    position: Position
    run: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A record that went to the dead letters."""

    error: str
    key: str | None
    size: int
    position: Position
    run: str


Write = Scored | Deleted | Failed


class Store:
    """Writes results of one namespace. `redis` must not decode responses."""

    def __init__(self, redis: Redis, settings: Settings, *, model: str) -> None:
        self.redis: Any = redis  # redis-py types every reply as bytes or str
        self.settings = settings
        self.model = model
        self.retries = 0
        self._script = redis.register_script(SCRIPT)
        self._shards: list[Keys] = []

    async def open(self) -> None:
        """Enters the namespace, creating it if it is new; the number of shards is the one it was created with.

        Raises StoreUnavailable if Redis does not answer.
        """
        settings = self.settings
        new = Meta(
            shards=settings.shards,
            kind=settings.kind,
            source=settings.source,
            model=self.model,
            created_at=datetime.now(UTC),
        )
        key = meta_key(settings.namespace)
        try:
            if not await self.redis.set(key, msgspec.msgpack.encode(new), nx=True):
                old = msgspec.msgpack.decode(await self.redis.get(key), type=Meta)
                new = msgspec.structs.replace(new, shards=old.shards, created_at=old.created_at)
                await self.redis.set(key, msgspec.msgpack.encode(new))
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"Redis at {_masked(settings)} does not answer ({error}): start it") from error
        self._shards = [Keys(settings.namespace, shard) for shard in range(new.shards)]

    async def write(self, writes: Sequence[Write]) -> dict[str, int]:
        """Writes a micro-batch, waiting and retrying while Redis is away; returns counts per outcome.

        Safe to repeat: the receipts fold what was already written.
        """
        by_shard: dict[int, list[Write]] = defaultdict(list)
        for write in writes:
            by_shard[self._shard(write)].append(write)
        counts: dict[str, int] = defaultdict(int)
        for outcomes in await asyncio.gather(*(self._write_shard(*item) for item in by_shard.items())):
            for outcome in outcomes:
                counts[outcome.decode()] += 1
        return dict(counts)

    async def publish(self, state: WorkerState) -> None:
        """Renews the worker's own account of itself; it expires STATE_TTL_S after the last renewal."""
        pipeline = self.redis.pipeline(transaction=False)
        pipeline.sadd(workers_key(self.settings.namespace), state.name)
        pipeline.set(worker_key(self.settings.namespace, state.name), msgspec.msgpack.encode(state), ex=STATE_TTL_S)
        await pipeline.execute()

    async def retire(self, name: str) -> None:
        """The worker says goodbye."""
        await self.redis.delete(worker_key(self.settings.namespace, name))
        await self.redis.srem(workers_key(self.settings.namespace), name)

    def _shard(self, write: Write) -> int:
        if isinstance(write, Failed):
            return crc32(_place(write.position).encode()) % len(self._shards)
        post_id = write.prediction.id if isinstance(write, Scored) else write.post_id
        return shard_of(post_id, len(self._shards))

    async def _write_shard(self, shard: int, writes: list[Write]) -> list[bytes]:
        settings, keys = self.settings, self._shards[shard]
        blobs: list[bytes] = []
        entries = [_entry(write, blobs) for write in writes]
        args: list[Any] = [
            keys.prefix,
            msgspec.msgpack.encode(entries),
            settings.rollup_retention_s,
            settings.post_retention_s,
            settings.results_kept,
            TAIL_KEPT,
            *blobs,
        ]
        wait_s = RETRY_FIRST_S
        while True:
            try:
                outcomes: list[bytes] = await self._script(keys=[keys.counters], args=args)
                return outcomes
            except (RedisError, OSError) as error:
                if "user_script" in str(error):  # a fault of ours, which waiting cannot mend
                    raise
                self.retries += 1
                logger.warning("Redis did not take %d writes (%s); retrying in %.1f s", len(writes), error, wait_s)
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, RETRY_LAST_S)


def _entry(write: Write, blobs: list[bytes]) -> tuple[Any, ...]:
    """The positional entry `store.lua` reads; its byte strings are appended to `blobs`."""
    index = FIRST_BLOB + len(blobs)
    position = write.position
    place = (position.partition, position.offset, position.timestamp_ms)
    match write:
        case Scored(prediction=prediction):
            created_ms = round(prediction.created_at.timestamp() * 1000)
            blobs += (encode_prediction(prediction), *write.thumbnails)
            topics = (ALL, *(topic for topic in prediction.topics if topic != ALL))
            return (
                1,
                prediction.id,
                prediction.revision,
                *place,
                write.run,
                created_ms,
                topics,
                Counters.of(prediction),
                index,
                len(write.thumbnails),
            )
        case Deleted():
            return (2, write.post_id, 0, *place, write.run)
        case Failed():
            letter = DeadLetter(
                partition=position.partition,
                offset=position.offset,
                error=write.error,
                key=write.key,
                size=write.size,
                failed_at=datetime.now(UTC),
            )
            blobs.append(msgspec.msgpack.encode(letter))
            return (3, _place(position), index, write.run)


def _place(position: Position) -> str:
    return f"{position.partition}:{position.offset}:{position.timestamp_ms}"


def _masked(settings: Settings) -> str:
    return settings.redis.rsplit("@", 1)[-1]
