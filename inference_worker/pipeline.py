"""Records in, results in Redis, acknowledgements out: prepare → batch → score → write → settle.

A deletion skips batching and scoring, and with it the post it names if that one still waits for them. So does a post
whose receipt says that it can change nothing: a duplicate, or a redelivery. So does a post that is shed.

Preparing (decode, tokenise, JPEG) runs in one thread and scoring in another, or in as many as the engine takes batches
at a time, so that the next batch is prepared while the engine works; writes overlap with both. Everything in flight is
bounded. A record is acknowledged only after Redis (or the dead-letters topic and Redis) took what came of it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import compress
from typing import NamedTuple, Protocol

import msgspec
from msgspec.structs import replace
from tokenizers import Encoding

from inference_worker.batcher import Batch, Batcher, Item, Lane
from inference_worker.contract import Prediction, most_likely
from inference_worker.errors import EngineBroken, EngineOutOfMemory, Unscorable
from inference_worker.ledger import Ledger, Partition, Ticket
from inference_worker.predictor import Scores
from inference_worker.preprocess import Example
from inference_worker.settings import Settings
from inference_worker.shedding import Reason, Shedding
from inference_worker.stats import Stats
from inference_worker.store import AuthorDeleted, Deleted, Failed, Position, Scored, Shed, Standing, Withdrawn, Write
from ingest.contract import Deletion, MalformedRecord, NewerSchema, Post, Record, decode
from ingest.telemetry.logs import about
from ingest.telemetry.tracing import Traces

logger = logging.getLogger(__name__)

PREPARE_CHUNK = 256
PREPARE_BYTES = 256 << 10
"""A chunk is full at so many records or bytes: pictures take long, and the engine waits for a chunk."""
WRITES_IN_FLIGHT = 4
REASON_CHARS = 1000
"""Of the reason of a dead letter: it travels in a header, beside a record that may be as large as Kafka takes."""


class Scorer(Protocol):
    """What the pipeline needs of `predictor.Predictor`."""

    name: str

    @property
    def max_padding(self) -> float: ...

    @property
    def concurrency(self) -> int: ...

    @property
    def grid(self) -> tuple[int, int]: ...

    def is_foreign(self, lang: str | None) -> bool: ...

    def encode(self, posts: Sequence[Post]) -> Sequence[Encoding | None]: ...

    def prepare(self, post: Post, encoding: Encoding | None) -> Example: ...

    def predict(self, examples: Sequence[Example]) -> list[Scores]: ...

    def works(self, lane: Lane) -> bool: ...


class Sink(Protocol):
    """What the pipeline needs of `store.Store`."""

    async def write(self, writes: Sequence[Write]) -> dict[str, int]: ...

    async def standings(self, posts: Sequence[tuple[str, int, Position]]) -> list[Standing]: ...


class Delivered(msgspec.Struct, frozen=True):
    """One Kafka record as it arrived; `offset` is Kafka's, and `position` where the record stands among its run's.

    sent_at_s: Kafka's own time of it; is_placed: a replay sent it, or somebody who retries a dead letter.
    """

    value: bytes
    key: bytes | None
    position: Position
    run: str
    offset: int
    traceparent: bytes | None = None
    sent_at_s: float | None = None
    is_placed: bool = False


class Failure(NamedTuple):
    """Why a record is a dead letter; kind: one of few words, to count by."""

    kind: str
    reason: str

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """What is foreseen tells it all in its message."""
        kind = type(error).__name__
        is_foreseen = isinstance(error, (MalformedRecord, NewerSchema, Unscorable))
        return cls(kind, (str(error) if is_foreseen else f"{kind}: {error}")[:REASON_CHARS])


class _Work(msgspec.Struct, frozen=True):
    """A record with its place in the ledger and, once prepared, what is to be scored."""

    delivered: Delivered
    ticket: Ticket
    record: Record | None = None
    example: Example | None = None
    failure: Failure | None = None
    withdrawn: tuple[_Work, ...] = ()
    """Of a deletion: what need not be scored for it."""
    shed: Reason | None = None


_Prepared = Item[_Work]
DeadLetters = Callable[[Delivered, str], Awaitable[None]]
"""Puts a record and the reason on the dead-letters topic; returns once Kafka has it."""


class _Timing(NamedTuple):
    """When the engine began and ended a batch, by the monotonic clock, and its end by the calendar's."""

    began_s: float
    ended_s: float
    scored_at: datetime


class Pipeline:
    """Scores what is submitted, in bounded space.

    Use as a task: `run()` until cancelled; `submit` from the stream; `drain` before stopping.
    """

    def __init__(
        self,
        scorer: Scorer,
        sink: Sink,
        dead_letters: DeadLetters,
        settings: Settings,
        stats: Stats,
        traces: Traces | None = None,
    ) -> None:
        self.ledger = Ledger()
        self.stats = stats
        self.shedding = Shedding(settings)
        self.batcher: Batcher[_Work] = Batcher(
            max_items=settings.batch_items,
            max_tokens=settings.batch_tokens,
            max_images=settings.batch_images,
            max_padding=scorer.max_padding,
        )
        self._scorer = scorer
        self._sink = sink
        self._dead_letters = dead_letters
        self._traces = traces
        self._intake: asyncio.Queue[_Work] = asyncio.Queue()
        self._slots = asyncio.Semaphore(settings.in_flight)
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_out_of_memory = False
        self._scoring = 0
        self._busy_from_s = 0.0
        self._write_slots = asyncio.Semaphore(WRITES_IN_FLIGHT)
        self._is_closed = False

    async def submit(self, delivered: Delivered, partition: Partition, acknowledge: Callable[[], object]) -> bool:
        """Takes a record in, waiting while too many are in flight; whether it did.

        Records are left alone (never acknowledged, so read again) after `drain`, and when partitions were revoked
        during the wait: the record, and what was fetched with it, may belong to another worker by now.
        """
        revocations = self.ledger.revocations
        await self._slots.acquire()
        if self._is_closed or self.ledger.revocations != revocations:
            self._slots.release()
            return False
        self._in_flight += 1
        self._idle.clear()
        ticket = self.ledger.enter(partition, delivered.offset, acknowledge, delivered.sent_at_s)
        self._intake.put_nowait(_Work(delivered, ticket))
        return True

    def revoke(self, partitions: Iterable[Partition]) -> None:
        """Partitions went to another worker: what is in flight of them is still written, but not acknowledged."""
        dropped = self.ledger.revoke(partitions)
        logger.info("partitions revoked; %d records in flight will be read again by their next worker", dropped)

    async def settle_in_flight(self, timeout_s: float) -> bool:
        """Waits until nothing is in flight; False if the deadline came first."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def drain(self, timeout_s: float) -> bool:
        """Takes nothing more in and waits for what is in flight; False if the deadline came first."""
        self._is_closed = True
        return await self.settle_in_flight(timeout_s)

    async def run(self) -> None:
        """Works until cancelled; any unforeseen error ends it."""
        with ExitStack() as threads:
            prepare = threads.enter_context(ThreadPoolExecutor(1, thread_name_prefix="prepare"))
            engine = threads.enter_context(ThreadPoolExecutor(self._scorer.concurrency, thread_name_prefix="engine"))
            async with asyncio.TaskGroup() as group:
                group.create_task(self._prepare_all(prepare, group))
                group.create_task(self._score_all(engine, group))
                group.create_task(self._settle_unscored(group))

    async def _prepare_all(self, thread: ThreadPoolExecutor, group: asyncio.TaskGroup) -> None:
        """Receipts are asked for the next chunk while one is prepared."""
        loop = asyncio.get_running_loop()
        preparing = group.create_task(asyncio.sleep(0))
        while True:
            works = [await self._intake.get()]
            size = len(works[0].delivered.value)
            while len(works) < PREPARE_CHUNK and size < PREPARE_BYTES and not self._intake.empty():
                works.append(self._intake.get_nowait())
                size += len(works[-1].delivered.value)
            works = [_decoded(work) for work in works]
            standings = await self._standings(works)
            await preparing
            if self.shedding.is_on:
                works = self._shed(works, standings)
            preparing = group.create_task(
                self._prepare_chunk(loop.run_in_executor(thread, self._prepare, works, standings))
            )

    def _shed(self, works: list[_Work], standings: list[Standing]) -> list[_Work]:
        """The same, with the reason where a post is not to be scored."""
        now = datetime.now(UTC)
        return [
            replace(work, shed=reason)
            if isinstance(work.record, Post)
            and standing == "new"
            and not work.delivered.is_placed
            and (reason := self.shedding.reason(work.record, now)) is not None
            else work
            for work, standing in zip(works, standings, strict=True)
        ]

    async def _prepare_chunk(self, items: Awaitable[list[_Prepared]]) -> None:
        for item in await items:
            self._enqueue(item)

    async def _standings(self, works: list[_Work]) -> list[Standing]:
        posts = [
            (record.id, record.revision, work.delivered.position)
            for work in works
            if isinstance(record := work.record, Post)
        ]
        answers = iter(await self._sink.standings(posts) if posts else ())
        return [next(answers) if isinstance(work.record, Post) else "new" for work in works]

    def _enqueue(self, item: _Prepared) -> None:
        if isinstance(item.payload.record, Deletion):
            withdrawn = self.batcher.withdraw(item.key)
            item = replace(item, payload=replace(item.payload, withdrawn=tuple(one.payload for one in withdrawn)))
        self.batcher.put(item)
        if item.holds_author and item.author is not None:
            self.batcher.divert(item.author, _unscored)

    def _prepare(self, works: list[_Work], standings: list[Standing]) -> list[_Prepared]:
        """Redeliveries and what is shed take their turn, but nobody's time; other superseded posts are no burden to the
        engine."""
        encodings = iter(
            self._encode(
                [
                    work.record
                    for work, standing in zip(works, standings, strict=True)
                    if isinstance(work.record, Post) and standing != "redelivered" and work.shed is None
                ]
            )
        )
        items = []
        for work, standing in zip(works, standings, strict=True):
            if not isinstance(work.record, Post):
                items.append(_unprepared(work))
            elif standing == "redelivered" or work.shed is not None:
                items.append(_item(work, work.record, None))
            else:
                item = self._prepare_post(work, work.record, next(encodings))
                items.append(_unscored(item) if standing == "superseded" else item)
        return items

    def _encode(self, posts: list[Post]) -> Sequence[Encoding | None]:
        """Texts at once; one that cannot be encoded is found when each is prepared by itself."""
        try:
            return self._scorer.encode(posts)
        except Exception:  # whatever a hostile text provokes
            logger.exception("%d texts could not be encoded together", len(posts))
            return [None] * len(posts)

    def _prepare_post(self, work: _Work, post: Post, encoding: Encoding | None) -> _Prepared:
        try:
            return _item(work, post, self._scorer.prepare(post, encoding))
        except Unscorable as error:
            return _failure(replace(work, failure=Failure.of(error)), time.monotonic())
        except Exception as error:  # whatever a hostile record provokes: it is set aside, the stream goes on
            logger.exception("record at %s could not be prepared", work.delivered.position, extra=about(post.id))
            return _failure(replace(work, failure=Failure.of(error)), time.monotonic())

    async def _score_all(self, threads: ThreadPoolExecutor, group: asyncio.TaskGroup) -> None:
        """The engine has its next batch before anything is made of the last one's scores."""
        loop, slots = asyncio.get_running_loop(), asyncio.Semaphore(self._scorer.concurrency)
        while True:
            await slots.acquire()
            batch = await self.batcher.take()
            began = time.monotonic()
            if self._scoring == 0:
                self._busy_from_s = began
            self._scoring += 1
            scoring = loop.run_in_executor(threads, self._score, list(batch.items))
            group.create_task(self._score_batch(batch, scoring, began, slots, group))

    async def _score_batch(
        self,
        batch: Batch[_Work],
        scoring: Awaitable[list[Scores | Failure | None]],
        began: float,
        slots: asyncio.Semaphore,
        group: asyncio.TaskGroup,
    ) -> None:
        scored = await scoring
        timing = _Timing(began, time.monotonic(), datetime.now(UTC))
        self._scoring -= 1
        # Seconds that two batches spend side by side count once, with the one that ends first.
        self.stats.batch_done(batch, timing.ended_s - self._busy_from_s)
        self._busy_from_s = timing.ended_s
        if self._is_out_of_memory:
            self._is_out_of_memory = False
            self.batcher.halve()
            logger.warning(
                "the engine ran out of memory: batches of at most %d posts from now on", self.batcher.max_items
            )
        wanted = self.batcher.scored(batch)
        batch = replace(batch, items=tuple(compress(batch.items, wanted)))
        await self._write_slots.acquire()
        slots.release()
        group.create_task(self._finish(batch, list(compress(scored, wanted)), timing))

    async def _settle_unscored(self, group: asyncio.TaskGroup) -> None:
        while True:
            batch = await self.batcher.take_unscored()
            await self._write_slots.acquire()
            group.create_task(self._finish(batch, [item.payload.failure for item in batch.items]))

    def _score(self, items: list[_Prepared]) -> list[Scores | Failure | None]:
        """Scores per item; the reason where one cannot be scored."""
        try:
            return list(self._predict(items))
        except Exception as error:  # isolate the poison post: bisect until it stands alone
            if isinstance(error, EngineOutOfMemory):
                self._is_out_of_memory = True
            if len(items) == 1:
                return [self._score_again(items[0], error)]
            middle = len(items) // 2
            return self._score(items[:middle]) + self._score(items[middle:])

    def _score_again(self, item: _Prepared, error: Exception) -> Scores | Failure:
        """A post that failed alone. Raises EngineBroken where that is not the post's fault."""
        assert item.payload.example is not None  # it was scored
        if not self._scorer.works(item.payload.example.lane):
            raise EngineBroken(f"the engine scores nothing any more ({Failure.of(error).reason})") from error
        try:
            return self._predict([item])[0]
        except Exception as again:  # the engine works, so it is the post
            post_id = item.key.decode()
            logger.exception("post %s cannot be scored", post_id, extra=about(post_id))
            return Failure.of(again)

    def _predict(self, items: list[_Prepared]) -> list[Scores]:
        examples = [example for item in items if (example := item.payload.example) is not None]
        scores = self._scorer.predict(examples)
        if len(scores) != len(items):
            raise RuntimeError(f"the model gave {len(scores)} results for {len(items)} posts")
        return scores

    async def _finish(
        self, batch: Batch[_Work], scored: Sequence[Scores | Failure | None], timing: _Timing | None = None
    ) -> None:
        writes: list[tuple[_Work, Write]] = []
        failed: list[tuple[_Work, Failure]] = []
        for item, scores in zip(batch.items, scored, strict=True):
            work = item.payload
            if isinstance(scores, Failure):
                failed.append((work, scores))
            else:
                writes += ((post, _withdrawal(post)) for post in work.withdrawn)
                writes.append((work, self._result(item, scores, timing)))
        try:
            await self._write(writes, failed)
        finally:
            self._write_slots.release()
        self.batcher.finish(batch.items)
        if self._traces is not None and timing is not None:
            self._trace(self._traces, batch, timing)

    def _trace(self, traces: Traces, batch: Batch[_Work], timing: _Timing) -> None:
        """From the engine's begin until it is all in Redis, which is now."""
        headers = [header for item in batch.items if (header := item.payload.delivered.traceparent) is not None]
        began_ns = time.time_ns() - round(1e9 * (time.monotonic() - timing.began_s))
        engine_ms = round(1000 * (timing.ended_s - timing.began_s))
        told: dict[str, str | int] = {"messaging.batch.message_count": len(batch.items), "moodstream.lane": batch.lane}
        traces.batch(
            headers, began_ns, {**told, "moodstream.engine_ms": engine_ms, "moodstream.model": self.stats.model}
        )

    async def _write(self, writes: list[tuple[_Work, Write]], failed: list[tuple[_Work, Failure]]) -> None:
        """To the dead letters, to Redis, and only then acknowledged."""
        for work, failure in failed:
            told = about(work.record.id if isinstance(work.record, Post) else None)
            logger.warning("dead letter %s: %s", work.delivered.position, failure.reason, extra=told)
            await self._dead_letters(work.delivered, failure.reason)
        every = [*writes, *((work, _dead_letter(work, failure.reason, self.stats)) for work, failure in failed)]
        await self._sink.write([write for _, write in every])
        self._count([write.prediction for _, write in writes if isinstance(write, Scored)], failed)
        self.stats.shed.update(work.shed for work, write in writes if isinstance(write, Shed) and work.shed is not None)
        self.ledger.settle(work.ticket for work, _ in every)
        for _ in every:
            self._slots.release()
        self._in_flight -= len(every)
        if self._in_flight == 0:
            self._idle.set()

    def _count(self, predictions: list[Prediction], failed: list[tuple[_Work, Failure]]) -> None:
        self.stats.dead_letters.update(failure.kind for _, failure in failed)
        now = datetime.now(UTC)
        self.stats.posts_written(
            [(now - prediction.ingested_at).total_seconds() * 1000 for prediction in predictions],
            [(now - prediction.created_at).total_seconds() for prediction in predictions],
            sum(prediction.abstained for prediction in predictions),
        )

    def _result(self, item: _Prepared, scores: Scores | None, timing: _Timing | None) -> Write:
        work = item.payload
        delivered, record = work.delivered, work.record
        if isinstance(record, Deletion):
            if record.post_id is not None:
                return Deleted(record.post_id, delivered.position, delivered.run)
            assert record.author is not None  # the contract sees to it that a deletion names one of the two
            return AuthorDeleted(record.author, delivered.position, delivered.run)
        assert isinstance(record, Post)
        if work.shed is not None:
            when, topics, author = record.created_at, record.topics, record.author
            return Shed(record.id, record.revision, when, topics, delivered.position, delivered.run, author)
        if scores is None or work.example is None or timing is None:
            return _withdrawal(work)
        return Scored(
            prediction_of(
                record,
                work.example,
                scores,
                timing.scored_at,
                self._scorer,
                queued_ms=round(1000 * (timing.began_s - item.arrived_at_s)),
                computed_ms=round(1000 * (timing.ended_s - timing.began_s)),
            ),
            delivered.position,
            delivered.run,
            tuple(image.jpeg for image in record.images),
        )


def prediction_of(
    post: Post,
    example: Example,
    scores: Scores,
    scored_at: datetime,
    scorer: Scorer,
    *,
    queued_ms: int | None = None,
    computed_ms: int | None = None,
) -> Prediction:
    """What the dashboard shows of a post."""
    is_foreign = scorer.is_foreign(example.language)
    return Prediction(
        id=post.id,
        source=post.source,
        revision=post.revision,
        created_at=post.created_at,
        ingested_at=post.ingested_at,
        scored_at=scored_at,
        predicted=most_likely(scores.fused),
        probabilities=scores.fused,
        text_probabilities=scores.text,
        image_probabilities=scores.image,
        confidence=scores.confidence,
        abstained=scores.abstained or is_foreign,
        model=scorer.name,
        text=post.text,
        lang=example.language,
        author=post.author,
        reach=post.reach,
        url=post.url,
        sensitive=post.sensitive,
        images=len(post.images),
        strongest_image=scores.strongest_image,
        image_hashes=tuple(image.phash for image in post.images),
        alt=tuple(image.alt for image in post.images),
        topics=post.topics,
        label=post.label,
        token_map=scores.token_map,
        image_map=scores.image_map,
        image_map_shape=scorer.grid if scores.image_map else (0, 0),
        warnings=example.warnings,
        foreign=is_foreign,
        embedding=scores.embedding,
        queued_ms=queued_ms,
        computed_ms=computed_ms,
    )


def _decoded(work: _Work) -> _Work:
    """With its record; or why it cannot be read."""
    try:
        return _Work(work.delivered, work.ticket, decode(work.delivered.value))
    except (MalformedRecord, NewerSchema) as error:
        return replace(work, failure=Failure.of(error))
    except Exception as error:  # as in _prepare_post
        logger.exception("record at %s could not be decoded", work.delivered.position)
        return replace(work, failure=Failure.of(error))


def _unprepared(work: _Work) -> _Prepared:
    """What needs no example: a deletion, or a record that could not be read."""
    if isinstance(work.record, Deletion):
        return _deletion(work, work.record, time.monotonic())
    return _failure(work, time.monotonic())


def _item(work: _Work, post: Post, example: Example | None) -> _Prepared:
    """Without an example it is not to be scored."""
    return Item(
        _Work(work.delivered, work.ticket, post, example, shed=work.shed),
        post.id.encode(),
        example.lane if example is not None else "none",
        example.tokens if example is not None else 0,
        len(example.images) if example is not None else 0,
        time.monotonic(),
        (work.delivered.position.partition, post.author) if post.author is not None else None,
    )


def _deletion(work: _Work, record: Deletion, now_s: float) -> _Prepared:
    """A post's shares the post's key; an author's has one of its own and holds back what follows of the author."""
    if record.post_id is not None:
        return Item(work, record.post_id.encode(), "none", 0, 0, now_s)
    assert record.author is not None
    return Item(work, _own_key(work), "none", 0, 0, now_s, (work.delivered.position.partition, record.author), True)


def _failure(work: _Work, now_s: float) -> _Prepared:
    """Set aside in its turn, so that the deletion of its post comes after it."""
    key = work.delivered.key
    return Item(work, key if key is not None else _own_key(work), "none", 0, 0, now_s)


def _own_key(work: _Work) -> bytes:
    position = work.delivered.position
    return b"record at %d:%d" % (position.partition, position.offset)


def _unscored(item: _Prepared) -> _Prepared:
    if item.payload.example is None:  # a failure, which is to be told
        return item
    return replace(item, lane="none", payload=replace(item.payload, example=None))


def _withdrawal(work: _Work) -> Withdrawn:
    assert isinstance(work.record, Post)
    return Withdrawn(work.record.id, work.record.revision, work.delivered.position, work.delivered.run)


def _dead_letter(work: _Work, reason: str, by: Stats) -> Failed:
    delivered, record = work.delivered, work.record
    key = delivered.key.decode(errors="replace") if delivered.key is not None else None
    author = record.author if isinstance(record, Post) else None
    size = len(delivered.value)
    return Failed(reason, key, size, delivered.position, delivered.run, author, by.name, by.engine)
