"""Redis sink: one `store.lua` call per shard and micro-batch, retried until Redis took it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError

from inference_worker.contract import (
    ALL,
    RECEIPT_FIELDS,
    Counters,
    DeadLetter,
    Keys,
    Meta,
    Prediction,
    WorkerState,
    encode_prediction,
    meta_key,
    name_of_letter,
    shard_of,
    without_zeros,
    worker_key,
    workers_key,
)
from inference_worker.errors import StoreUnavailable
from inference_worker.marks import Marks
from inference_worker.marks import Standing as ShardStanding
from inference_worker.redis_access import reconnect, redis_trouble
from inference_worker.script import FIRST_BLOB, SCRIPT, arguments, named
from inference_worker.settings import Settings

logger = logging.getLogger(__name__)

RETRY_FIRST_S, RETRY_LAST_S = 0.1, 5.0
STATE_TTL_S = 15
FORGET_STEP = 200
"""About as many of an author's posts are taken out in one call, which then holds Redis for some milliseconds."""
TELL_UNSEEN_S = 60.0
_REFUSALS = ("NOREPLICAS", "MISCONF", "MASTERDOWN", "CLUSTERDOWN")

_encoder = msgspec.msgpack.Encoder()


class Position(msgspec.Struct, frozen=True):
    """Where a record stands in Kafka; the time stamp tells a recreated topic from the one before it.

    Of a replay: the number of its item in the archive, and when the run began.
    """

    partition: int
    offset: int
    timestamp_ms: int


class Scored(msgspec.Struct, frozen=True):
    """A prediction on its way to Redis, with the thumbnails to keep and the run it belongs to."""

    prediction: Prediction
    position: Position
    run: str
    thumbnails: tuple[bytes, ...] = ()


class Shed(msgspec.Struct, frozen=True):
    """A post that is counted without having been scored."""

    post_id: str
    revision: int
    created_at: datetime
    topics: tuple[str, ...]
    position: Position
    run: str
    author: str | None = None


class Deleted(msgspec.Struct, frozen=True):
    """A post to take out of everything."""

    post_id: str
    position: Position
    run: str


class Withdrawn(msgspec.Struct, frozen=True):
    """A post that was not scored: it is superseded, or its deletion came meanwhile (then the write after this one)."""

    post_id: str
    revision: int
    position: Position
    run: str


class AuthorDeleted(msgspec.Struct, frozen=True):
    """An author whose posts before `position`, in its partition, are to be taken out of everything."""

    author: str
    position: Position
    run: str


class Failed(msgspec.Struct, frozen=True):
    """A record that went to the dead letters; its key and author, where known, let a deletion find it.

    worker, engine: who gave it up.
    """

    error: str
    key: str | None
    size: int
    position: Position
    run: str
    author: str | None = None
    worker: str = ""
    engine: str = ""


Standing = Literal["new", "superseded", "redelivered"]
"""`superseded` by what is known of the post, so that it can change nothing; `redelivered`: counted before."""
PostWrite = Scored | Shed | Deleted | Withdrawn | Failed
Write = PostWrite | AuthorDeleted


class Store:
    """Writes results of one namespace. `redis` must not decode responses."""

    def __init__(self, redis: Redis, settings: Settings, *, model: str) -> None:
        self.redis: Any = redis  # redis-py types every reply as bytes or str
        self.settings = settings
        self.model = model
        self.retries = 0
        self.marks = Marks(redis)
        self._unseen = _Unseen()
        self._script = redis.register_script(SCRIPT)
        self._shards: list[Keys] = []

    async def open(self) -> None:
        """Enters the namespace, creating it if it is new; the number of shards is the one it was created with.

        Raises StoreUnavailable if Redis does not answer.
        """
        settings = self.settings
        new = Meta(
            shards=len(self._shards) or settings.shards,  # of a Redis that forgot it, too
            kind=settings.kind,
            source=settings.source,
            model=self.model,
            shadowed=settings.shadowed,
            created_at=datetime.now(UTC),
        )
        key = meta_key(settings.namespace)
        try:
            if not await self.redis.set(key, msgspec.msgpack.encode(new), nx=True):
                old = msgspec.msgpack.decode(await self.redis.get(key), type=Meta)
                new = msgspec.structs.replace(new, shards=old.shards, created_at=old.created_at)
                await self.redis.set(key, msgspec.msgpack.encode(new))
        except (RedisError, OSError) as error:
            raise StoreUnavailable(redis_trouble(error, settings.redis)) from error
        self._shards = [Keys(settings.namespace, shard) for shard in range(new.shards)]

    async def write(self, writes: Sequence[Write]) -> dict[str, int]:
        """Writes a micro-batch, waiting and retrying while Redis is away; returns counts per outcome.

        Safe to repeat: the receipts fold what was already written. Deletions of authors go first, which is right for
        posts before and after them alike.
        """
        by_shard: dict[int, list[PostWrite]] = defaultdict(list)
        counts: Counter[str] = Counter()
        for write in writes:
            if isinstance(write, AuthorDeleted):
                counts[await self._forget(write)] += 1
            else:
                by_shard[self._shard(write)].append(write)
        for outcomes in await asyncio.gather(*(self._write_shard(*item) for item in by_shard.items())):
            counts.update(outcome.decode() for outcome in outcomes)
        self._unseen.add(counts["unseen"])
        return dict(counts)

    async def standings(self, posts: Sequence[tuple[str, int, Position]]) -> list[Standing]:
        """How posts (id, revision, position) stand against their receipts, which only advance.

        All `new` while Redis is away: scoring in vain does no harm.
        """
        by_shard: dict[int, list[int]] = defaultdict(list)
        for index, (post_id, _, _) in enumerate(posts):
            by_shard[shard_of(post_id, len(self._shards))].append(index)
        asked = [
            self.redis.mget([self._shards[shard].receipt(posts[index][0]) for index in indices])
            for shard, indices in by_shard.items()
        ]
        answers: list[Standing] = ["new"] * len(posts)
        try:
            found = await asyncio.gather(*asked)
        except (RedisError, OSError):
            return answers
        for indices, receipts in zip(by_shard.values(), found, strict=True):
            for index, receipt in zip(indices, receipts, strict=True):
                if receipt is not None:
                    answers[index] = _standing(receipt, *posts[index][1:])
        return answers

    async def mark(self, applied: Mapping[int, int]) -> bool:
        """See Marks.write."""
        return await self.marks.write(self._shards, applied)

    async def standing(self, partitions: Sequence[int]) -> list[ShardStanding]:
        """See Marks.read; enters the namespace again if Redis forgot it."""
        await self.open()
        return await self.marks.read(self._shards, partitions)

    async def settle_gaps(self, applied: Mapping[int, int], gap: int) -> None:
        """Counts records that nobody can apply any more; they are behind the marks from now on."""
        if await self.mark(applied) and gap:
            await self.redis.hincrby(self._shards[0].counters, "gap", gap)

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

    def _shard(self, write: PostWrite) -> int:
        match write:
            case Scored(prediction=prediction):
                name = prediction.id
            case Failed():
                name = _name(write)
            case _:
                name = write.post_id
        return shard_of(name, len(self._shards))

    async def _write_shard(self, shard: int, writes: list[PostWrite]) -> list[bytes]:
        call = _Call()
        for write in writes:
            call.add(write)
        return await self._call(shard, call)

    async def _forget(self, write: AuthorDeleted) -> str:
        """Through all shards, step by step; counted in the last one, when nothing of the author is left."""
        home = shard_of(write.author, len(self._shards))
        position = write.position
        place = (position.partition, position.offset, position.timestamp_ms)
        outcome = b""
        for shard in (*(shard for shard in range(len(self._shards)) if shard != home), home):
            outcome = b"0"
            while outcome.isdigit():
                entry = (4, write.author, outcome.decode(), *place, write.run, shard == home, FORGET_STEP)
                (outcome,) = await self._call(shard, _Call(entries=[entry]))
        return outcome.decode()

    async def _call(self, shard: int, call: _Call) -> list[bytes]:
        """One call of the script, repeated until Redis took it; one outcome per entry."""
        settings, keys = self.settings, self._shards[shard]
        args = arguments(
            keys,
            call.entries,
            call.blobs,
            announced=call.announced(),
            worker=self.marks.worker,
            rollups_live_s=settings.rollup_retention_s,
            posts_live_s=settings.post_retention_s,
            results_kept=settings.results_kept,
        )
        wait_s = RETRY_FIRST_S
        while True:
            before = self.marks.number(keys)
            try:
                outcomes: list[Any] = await self._script(keys=named(keys), args=args)
            except (RedisError, OSError) as error:
                if not _may_pass(error):
                    raise
                self.retries += 1
                writes = len(call.entries)
                logger.warning("Redis did not take %d writes (%s); retrying in %.1f s", writes, error, wait_s)
                await asyncio.sleep(wait_s)
                if isinstance(error, ReadOnlyError):
                    await reconnect(self.redis)
                wait_s = min(2 * wait_s, RETRY_LAST_S)
            else:
                self.marks.answered(keys, outcomes.pop(), before)
                return outcomes


def _may_pass(error: Exception) -> bool:
    """Redis is away, full, read-only or short of replicas; a fault of the script's is not mended by waiting."""
    text = str(error)
    is_refused = isinstance(error, (OutOfMemoryError, ReadOnlyError)) or text.startswith(_REFUSALS)
    return is_refused or "user_script" not in text


def _standing(packed: bytes, revision: int, position: Position) -> Standing:
    """Of a post against a receipt, as `store.lua` lays it out."""
    receipt: list[Any] = msgspec.msgpack.decode(packed)
    if position.partition == receipt[1] and position.offset <= receipt[2] and position.timestamp_ms <= receipt[3]:
        return "redelivered"
    is_tombstone = len(receipt) < RECEIPT_FIELDS
    return "superseded" if is_tombstone or revision <= receipt[0] else "new"


class _Unseen:
    """Deletions that found no receipt, told once a minute: most are of posts that were never kept."""

    def __init__(self) -> None:
        self._found = 0
        self._told_at_s = -TELL_UNSEEN_S

    def add(self, found: int) -> None:
        self._found += found
        if self._found and time.monotonic() - self._told_at_s >= TELL_UNSEEN_S:
            logger.info(
                "%d deletions of posts without a receipt (never kept, or past retention): nothing to subtract",
                self._found,
            )
            self._found, self._told_at_s = 0, time.monotonic()


@dataclass(slots=True)
class _Call:
    """Writes of one shard, as `store.lua` reads them; `shares` of the posts, by minute and topic."""

    entries: list[tuple[Any, ...]] = field(default_factory=list)
    blobs: list[bytes] = field(default_factory=list)
    shares: dict[int, dict[str, list[Counters]]] = field(default_factory=dict)

    def announced(self) -> dict[int, dict[str, tuple[int, ...]]]:
        """What the posts add up to if all are new."""
        return {
            minute: {
                topic: without_zeros(tuple(map(sum, zip(*shares, strict=True)))) for topic, shares in topics.items()
            }
            for minute, topics in self.shares.items()
        }

    def add(self, write: PostWrite) -> None:
        index = FIRST_BLOB + len(self.blobs)
        position = write.position
        place = (position.partition, position.offset, position.timestamp_ms)
        match write:
            case Scored(prediction=post):
                entry = (1, post.id, post.revision, *place, write.run)
                self._add_post(entry, post, Counters.of(post), encode_prediction(post), write.thumbnails)
            case Shed():
                self._add_post((8, write.post_id, write.revision, *place, write.run), write, Counters(shed=1))
            case Deleted():
                self.entries.append((2, write.post_id, 0, *place, write.run))
            case Withdrawn():
                self.entries.append((5, write.post_id, write.revision, *place, write.run))
            case Failed():
                letter = DeadLetter(
                    partition=position.partition,
                    offset=position.offset,
                    error=write.error,
                    key=write.key,
                    size=write.size,
                    failed_at=datetime.now(UTC),
                    worker=write.worker,
                    engine=write.engine,
                    run=write.run,
                )
                self.blobs.append(_encoder.encode(letter))
                self.entries.append((3, _name(write), 0, *place, write.run, index, write.author))

    def _add_post(
        self,
        entry: tuple[Any, ...],
        post: Prediction | Shed,
        share: Counters,
        prediction: bytes = b"",
        thumbnails: tuple[bytes, ...] = (),
    ) -> None:
        """entry: up to what it says of the post."""
        created_ms = round(post.created_at.timestamp() * 1000)
        topics = (ALL, *(topic for topic in post.topics if topic != ALL))
        of_minute = self.shares.setdefault(created_ms // 60_000, {})
        for topic in topics:
            of_minute.setdefault(topic, []).append(share)
        index = FIRST_BLOB + len(self.blobs)
        _, _, revision, *place, _ = entry
        # The script puts the result's id and the author in place of the two nils.
        receipt = _encoder.encode((revision, *place, created_ms, without_zeros(share), topics, None, None))[:-2]
        self.blobs += (prediction, receipt, *thumbnails)
        self.entries.append((*entry, str(created_ms), topics, index, len(thumbnails), post.author))


def _name(write: Failed) -> str:
    return name_of_letter(write.key, write.position.partition, write.position.offset)
