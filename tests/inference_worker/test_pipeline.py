"""The pipeline with a scorer that misbehaves on command: nothing is lost, nothing acknowledged too early."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest

from inference_worker.errors import EngineBroken, EngineOutOfMemory, Unscorable
from inference_worker.pipeline import Delivered, Pipeline
from inference_worker.predictor import Scores
from inference_worker.preprocess import EncodedText, Example
from inference_worker.settings import Settings
from inference_worker.stats import Stats
from inference_worker.store import AuthorDeleted, Deleted, Failed, Position, Scored, Standing, Withdrawn, Write
from ingest.contract import Deletion, Post, encode, record_key

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
PARTITION = ("live.posts", 0)


class WordScorer:
    """Scores by the words: `poison` raises, `big` has room for two posts at most, `empty` cannot be scored."""

    name = "words 1"
    max_padding = 1.0
    grid = (7, 7)

    def __init__(self, concurrency: int) -> None:
        self.concurrency = concurrency
        self.texts: dict[int, str] = {}
        self.batches: list[int] = []
        self.is_free = threading.Event()
        self.is_free.set()
        self.slow_may_end = threading.Event()
        self.is_broken = False
        self.faults = 0

    def is_foreign(self, lang: str | None) -> bool:
        return lang == "de"

    def encode(self, posts: Sequence[Post]) -> list[None]:
        return [None] * len(posts)

    def prepare(self, post: Post, encoding: None) -> Example:
        if "empty" in post.text:
            raise Unscorable(f"post {post.id} has nothing to score")
        example = Example(EncodedText(np.zeros(len(post.text), dtype=np.int64), ()), (), language=post.lang)
        self.texts[id(example)] = post.text
        self.kept = [*getattr(self, "kept", []), example]
        return example

    def predict(self, examples: Sequence[Example]) -> list[Scores]:
        self.batches.append(len(examples))
        self.is_free.wait(10)
        texts = [self.texts[id(example)] for example in examples]
        if self.is_broken or self.faults:
            self.faults -= 1
            raise RuntimeError("the device is lost")
        if any("slow" in text for text in texts):
            self.slow_may_end.wait(10)
        if any("poison" in text for text in texts):
            raise ValueError("NaN in the logits")
        if any("big" in text for text in texts) and len(texts) > 2:
            raise EngineOutOfMemory("no room")
        return [Scores((0.6, 0.3, 0.1), (0.6, 0.3, 0.1), None, 0.6, False) for _ in texts]

    def works(self, lane: str) -> bool:
        return not self.is_broken


class Sink:
    """Keeps what is written; takes nothing while `is_open` is clear."""

    def __init__(self) -> None:
        self.writes: list[Write] = []
        self.known: dict[str, Standing] = {}
        self.asked = 0
        self.is_open = asyncio.Event()
        self.is_open.set()

    async def write(self, writes: Sequence[Write]) -> dict[str, int]:
        self.asked += 1
        await self.is_open.wait()
        self.writes += writes
        return {}

    async def standings(self, posts: Sequence[tuple[str, int, Position]]) -> list[Standing]:
        return [self.known.get(post_id, "new") for post_id, _, _ in posts]

    def scored(self) -> list[str]:
        return [write.prediction.id for write in self.writes if isinstance(write, Scored)]


class Bench:
    """A running pipeline and all that came out of it."""

    def __init__(self, concurrency: int = 1, **changes: object) -> None:
        self.scorer, self.sink = WordScorer(concurrency), Sink()
        self.dead: list[tuple[int, str]] = []
        self.acknowledged: list[int] = []
        settings = Settings(**changes)
        self.stats = Stats(name="w", model="m", engine="e")
        self.pipeline = Pipeline(self.scorer, self.sink, self._bury, settings, self.stats)

    async def _bury(self, delivered: Delivered, reason: str) -> None:
        self.dead.append((delivered.position.offset, reason))

    async def submit(self, offset: int, record: Post | Deletion | bytes, *, is_placed: bool = False) -> None:
        value = record if isinstance(record, bytes) else encode(record)
        key = None if isinstance(record, bytes) else record_key(record)
        delivered = Delivered(value, key, Position(0, offset, 0), "run", offset, is_placed=is_placed)
        await self.pipeline.submit(delivered, PARTITION, lambda: self.acknowledged.append(offset))

    async def until_scored(self, batches: int) -> None:
        async with asyncio.timeout(10):
            while len(self.scorer.batches) < batches:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running(concurrency: int = 1, **changes: object) -> AsyncIterator[Bench]:
    bench = Bench(concurrency, **changes)
    task = asyncio.create_task(bench.pipeline.run())
    yield bench
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def authored(name: int, author: str, text: str = "hello") -> Post:
    return Post(id=f"x:{name}", source="x", created_at=NOW, ingested_at=NOW, text=text, author=author)


def post(name: int, text: str = "hello") -> Post:
    return Post(id=f"x:{name}", source="x", created_at=NOW, ingested_at=NOW, text=text)


async def test_every_post_is_written_and_then_acknowledged_in_order():
    async with running() as bench:
        for offset in range(200):
            await bench.submit(offset, post(offset, "a" * (1 + offset % 37)))
        assert await bench.pipeline.drain(10)
        assert sorted(bench.sink.scored()) == sorted(f"x:{n}" for n in range(200))
        assert bench.acknowledged == list(range(200))


async def test_a_post_in_a_language_the_model_never_saw_is_abstained_on():
    async with running() as bench:
        await bench.submit(0, post(1))
        for offset, lang in ((1, "en"), (2, "de")):
            await bench.submit(offset, msgspec.structs.replace(post(offset + 1), lang=lang))
        assert await bench.pipeline.drain(5)
    found = {write.prediction.lang: write.prediction for write in bench.sink.writes if isinstance(write, Scored)}
    assert {lang: (one.foreign, one.abstained) for lang, one in found.items()} == {
        None: (False, False),
        "en": (False, False),
        "de": (True, True),
    }


async def test_a_post_tells_its_wait_and_its_batchs_time_in_the_engine():
    async with running() as bench:
        bench.scorer.is_free.clear()
        await bench.submit(0, post(0))
        await bench.until_scored(1)
        await bench.submit(1, post(1))
        await asyncio.sleep(0.2)
        bench.scorer.is_free.set()
        assert await bench.pipeline.drain(10)
    first, second = (write.prediction for write in bench.sink.writes if isinstance(write, Scored))
    assert first.computed_ms >= 190 > first.queued_ms
    assert second.queued_ms >= 190 > second.computed_ms


async def test_an_engine_is_given_as_many_batches_as_it_takes_at_a_time():
    """Whose time in the engine counts once."""
    began_s = time.monotonic()
    async with running(concurrency=2) as bench:
        bench.scorer.is_free.clear()
        for offset in range(2):
            await bench.submit(offset, post(offset))
            await bench.until_scored(offset + 1)
        await bench.submit(2, post(2))
        await asyncio.sleep(0.5)
        assert bench.scorer.batches == [1, 1]
        bench.scorer.is_free.set()
        assert await bench.pipeline.drain(10)
        assert bench.acknowledged == [0, 1, 2]
    busy_share = bench.stats.state(queue_age_s=0, lag=0).engine_busy_share
    assert 0.4 < busy_share <= time.monotonic() - began_s


async def test_the_engine_was_busy_also_before_a_batch_that_ends_sooner_began():
    began_s = time.monotonic()
    async with running(concurrency=2) as bench:
        await bench.submit(0, post(0, "slow"))
        await bench.until_scored(1)
        await asyncio.sleep(0.5)
        await bench.submit(1, post(1))
        async with asyncio.timeout(10):
            while not bench.sink.writes:
                await asyncio.sleep(0.01)
        bench.scorer.slow_may_end.set()
        assert await bench.pipeline.drain(10)
    busy_share = bench.stats.state(queue_age_s=0, lag=0).engine_busy_share
    assert busy_share * max(1.0, time.monotonic() - began_s) > 0.4


async def test_nothing_is_acknowledged_before_redis_took_it():
    async with running() as bench:
        bench.sink.is_open.clear()
        for offset in range(5):
            await bench.submit(offset, post(offset))
        assert not await bench.pipeline.settle_in_flight(0.2)
        assert bench.acknowledged == []
        bench.sink.is_open.set()
        assert await bench.pipeline.drain(10)
        assert bench.acknowledged == list(range(5))


async def test_a_poison_post_is_isolated_and_set_aside():
    async with running() as bench:
        bench.sink.is_open.clear()  # so that the next posts gather into one batch
        for offset in range(40):
            await bench.submit(offset, post(offset, "poison" if offset == 23 else "fine"))
        bench.sink.is_open.set()
        assert await bench.pipeline.drain(10)
        assert bench.dead == [(23, "ValueError: NaN in the logits")]
        assert len(bench.sink.scored()) == 39
        (failure,) = [write for write in bench.sink.writes if isinstance(write, Failed)]
        assert (failure.position.offset, failure.run) == (23, "run")
        assert bench.acknowledged == list(range(40))


async def test_an_engine_that_fails_at_everything_ends_the_worker_and_makes_no_dead_letters():
    bench = Bench()
    running = asyncio.create_task(bench.pipeline.run())
    bench.scorer.is_broken = True
    for offset in range(8):
        await bench.submit(offset, post(offset))
    with pytest.raises(ExceptionGroup) as failed:
        await asyncio.wait_for(running, 10)
    assert failed.group_contains(EngineBroken, match="scores nothing any more .RuntimeError: the device is lost")
    assert (bench.dead, bench.sink.writes, bench.acknowledged) == ([], [], [])


async def test_a_fault_that_passes_makes_no_dead_letter():
    async with running() as bench:
        bench.scorer.faults = 1
        await bench.submit(0, post(0))
        assert await bench.pipeline.drain(10)
        assert (bench.dead, bench.sink.scored()) == ([], ["x:0"])


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"\xff\x00 garbage", "not a Moodstream record"),
        (encode(post(1)).replace(b"schema\x01", b"schema\x09"), "schema 9"),
        (encode(post(1, "empty")), "nothing to score"),
    ],
)
async def test_what_cannot_be_scored_goes_to_the_dead_letters_and_the_stream_goes_on(value: bytes, reason: str):
    async with running() as bench:
        await bench.submit(0, value)
        await bench.submit(1, post(7))
        assert await bench.pipeline.drain(10)
        ((offset, error),) = bench.dead
        assert offset == 0
        assert reason in error
        assert bench.sink.scored() == ["x:7"]
        assert bench.acknowledged == [0, 1]


async def test_out_of_memory_halves_the_batches_and_loses_nothing():
    async with running(batch_items=8) as bench:
        for offset in range(30):
            await bench.submit(offset, post(offset, "big"))
        assert await bench.pipeline.drain(10)
        assert len(bench.sink.scored()) == 30
        assert bench.dead == []
        assert bench.pipeline.batcher.max_items <= 4


def deletion(post_name: int) -> Deletion:
    return Deletion(source="x", deleted_at=NOW, ingested_at=NOW, post_id=f"x:{post_name}")


async def test_a_deletion_never_overtakes_its_post():
    async with running() as bench:
        bench.sink.is_open.clear()
        await bench.submit(0, post(1, "long " * 50))
        while not bench.sink.asked:
            await asyncio.sleep(0.01)
        await bench.submit(1, deletion(1))
        assert not await bench.pipeline.settle_in_flight(0.1)
        bench.sink.is_open.set()
        assert await bench.pipeline.drain(10)
        assert [type(write) for write in bench.sink.writes] == [Scored, Deleted]


async def test_a_post_that_waits_is_withdrawn_by_its_deletion_and_not_scored():
    async with running() as bench:
        await bench.submit(0, post(1))
        await bench.submit(1, Post(id="x:1", source="x", created_at=NOW, ingested_at=NOW, text="later", revision=1))
        await bench.submit(2, deletion(1))
        assert await bench.pipeline.drain(10)
        assert bench.scorer.batches == []
        assert bench.sink.writes == [
            Withdrawn("x:1", 0, Position(0, 0, 0), "run"),
            Withdrawn("x:1", 1, Position(0, 1, 0), "run"),
            Deleted("x:1", Position(0, 2, 0), "run"),
        ]
        assert bench.acknowledged == [0, 1, 2]


async def test_a_post_in_the_engine_when_its_deletion_comes_is_withdrawn_too():
    async with running() as bench:
        bench.scorer.is_free.clear()
        for offset in range(3):
            await bench.submit(offset, post(offset))
        await bench.until_scored(1)
        await bench.submit(3, deletion(0))
        await bench.submit(4, post(0))
        while not bench.sink.writes:
            await asyncio.sleep(0.01)
        assert bench.sink.writes == [
            Withdrawn("x:0", 0, Position(0, 0, 0), "run"),
            Deleted("x:0", Position(0, 3, 0), "run"),
        ]
        bench.scorer.is_free.set()
        assert await bench.pipeline.drain(10)
        assert sorted(write.position.offset for write in bench.sink.writes if isinstance(write, Scored)) == [1, 2, 4]
        assert bench.acknowledged == list(range(5))


@pytest.mark.parametrize("standing", ["superseded", "redelivered"])
async def test_a_post_that_can_change_nothing_is_not_scored(standing: Standing):
    async with running() as bench:
        bench.sink.known["x:1"] = standing
        await bench.submit(0, post(1))
        await bench.submit(1, post(2))
        assert await bench.pipeline.drain(10)
        assert Withdrawn("x:1", 0, Position(0, 0, 0), "run") in bench.sink.writes
        assert bench.sink.scored() == ["x:2"]
        assert bench.scorer.batches == [1]
        assert bench.acknowledged == [0, 1]


@pytest.mark.parametrize(("standing", "dead"), [("superseded", [0]), ("redelivered", [])])
async def test_a_post_that_was_counted_before_is_not_even_prepared(standing: Standing, dead: list[int]):
    """One that is superseded is: what it is counted as must not depend on how far its forerunner is."""
    async with running() as bench:
        bench.sink.known["x:1"] = standing
        await bench.submit(0, post(1, "empty"))
        assert await bench.pipeline.drain(10)
        assert [offset for offset, _ in bench.dead] == dead
        assert bench.acknowledged == [0]


async def test_a_deletion_does_not_wait_for_the_engine():
    async with running() as bench:
        bench.scorer.is_free.clear()
        await bench.submit(0, post(1))
        await bench.until_scored(1)
        await bench.submit(1, post(2))
        await bench.submit(2, deletion(3))
        while not bench.sink.writes:
            await asyncio.sleep(0.01)
        bench.scorer.is_free.set()
        assert await bench.pipeline.drain(10)
        assert [type(write) for write in bench.sink.writes] == [Deleted, Scored, Scored]
        assert bench.acknowledged == [0, 1, 2]


async def test_what_an_author_posts_after_their_deletion_waits_for_it():
    async with running() as bench:
        bench.sink.is_open.clear()
        for offset in range(6):
            is_deletion = offset in (0, 3)
            gone = Deletion(source="x", deleted_at=NOW, ingested_at=NOW, author="ann")
            await bench.submit(offset, gone if is_deletion else authored(offset, "ann"))
        await bench.submit(6, authored(6, "ben"))
        await bench.until_scored(1)
        bench.sink.is_open.set()
        assert await bench.pipeline.drain(10)
        assert bench.acknowledged == list(range(7))
        order = [write.position.offset for write in bench.sink.writes]
        assert [type(write) for write in bench.sink.writes].count(AuthorDeleted) == 2
        assert order.index(0) < min(map(order.index, range(1, 6)))
        assert order.index(3) < min(map(order.index, (4, 5)))


async def test_what_waits_of_an_author_is_not_scored_once_their_deletion_came():
    async with running() as bench:
        bench.scorer.is_free.clear()
        await bench.submit(0, post(0))
        await bench.until_scored(1)
        for offset in (1, 2):
            await bench.submit(offset, authored(offset, "ann"))
        await bench.submit(3, authored(3, "ben"))
        await bench.submit(4, Deletion(source="x", deleted_at=NOW, ingested_at=NOW, author="ann"))
        await bench.submit(5, authored(5, "ann"))
        while len(bench.sink.writes) < 3:
            await asyncio.sleep(0.01)
        assert {type(write) for write in bench.sink.writes} == {Withdrawn, AuthorDeleted}
        bench.scorer.is_free.set()
        assert await bench.pipeline.drain(10)
        assert sorted(bench.sink.scored()) == ["x:0", "x:3", "x:5"]
        assert bench.acknowledged == list(range(6))


async def test_a_failed_record_is_set_aside_before_its_deletion_comes():
    async with running() as bench:
        await bench.submit(0, post(1, "empty"))
        await bench.submit(1, deletion(1))
        assert await bench.pipeline.drain(10)
        assert [type(write) for write in bench.sink.writes] == [Failed, Deleted]


async def test_the_author_of_a_failed_post_is_known_to_the_store():
    async with running() as bench:
        await bench.submit(0, authored(1, "ann", "empty"))
        await bench.submit(1, authored(2, "ann", "poison"))
        assert await bench.pipeline.drain(10)
        assert [write.author for write in bench.sink.writes if isinstance(write, Failed)] == ["ann", "ann"]


async def test_submitting_waits_while_too_much_is_in_flight():
    async with running(in_flight=3) as bench:
        bench.sink.is_open.clear()
        for offset in range(3):
            await bench.submit(offset, post(offset))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(bench.submit(3, post(3)), 0.2)
        bench.sink.is_open.set()
        await asyncio.wait_for(bench.submit(3, post(3)), 10)
        assert await bench.pipeline.drain(10)
        assert bench.acknowledged == [0, 1, 2, 3]


async def test_records_of_a_revoked_partition_are_written_but_not_acknowledged():
    async with running() as bench:
        bench.sink.is_open.clear()
        await bench.submit(0, post(0))
        bench.pipeline.revoke([PARTITION])
        await bench.submit(0, post(0))
        bench.sink.is_open.set()
        assert await bench.pipeline.drain(10)
        assert bench.sink.scored() == ["x:0", "x:0"]
        assert bench.acknowledged == [0]


async def test_after_drain_nothing_more_is_taken_in():
    async with running() as bench:
        assert await bench.pipeline.drain(1)
        await bench.submit(0, post(0))
        assert bench.sink.writes == []
        assert bench.acknowledged == []


async def test_a_record_that_waited_while_its_partition_was_revoked_is_left_to_the_next_worker():
    async with running(in_flight=1) as bench:
        bench.sink.is_open.clear()
        await bench.submit(0, post(0))
        waiting = asyncio.create_task(bench.submit(1, post(1)))
        await asyncio.sleep(0)
        bench.pipeline.revoke([PARTITION])
        bench.sink.is_open.set()
        await asyncio.wait_for(waiting, 10)
        assert await bench.pipeline.drain(10)
        assert bench.sink.scored() == ["x:0"]
        assert bench.acknowledged == []
