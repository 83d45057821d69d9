"""Which posts are left unscored when the worker is behind, what is told of it, and what the store makes of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from inference_worker.contract import ALL, Counters, Keys, Prediction, Results
from inference_worker.settings import Settings
from inference_worker.shedding import GROW_S, SHRINK_S, TELL_S, Backlog, Shedding, place_of
from inference_worker.store import AuthorDeleted, Deleted, Scored, Shed, Write
from ingest.contract import EDIT_STEP, Deletion, Post
from tests.inference_worker.test_pipeline import running
from tests.inference_worker.test_store import MINUTE, NOON, at, dump, opened, write

Predict = Callable[..., Prediction]


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def post(name: object = 1, *, age_s: float = 0.0, revision: int = 0, **changes: Any) -> Post:
    made = {"created_at": NOON, "ingested_at": NOON - timedelta(seconds=age_s), "text": "a tram"} | changes
    return Post(id=f"x:{name}", source="x", revision=revision, **made)


def shed(name: object = 1, offset: int = 0, *, revision: int = 0, author: str | None = None) -> Shed:
    return Shed(f"x:{name}", revision, NOON, ("tram",), at(offset), "run", author)


def sampling(clock: Clock, **changes: Any) -> Shedding:
    return Shedding(Settings(**({"sample_least": 0.2, "sample_after_s": 10.0} | changes)), clock_s=clock)


def test_nothing_is_shed_unless_it_is_set() -> None:
    shedding = Shedding(Settings())
    for _ in range(3):
        shedding.adjust(1e6)
    assert not shedding.is_on
    assert shedding.share == 1
    assert shedding.reason(post(age_s=1e6), NOON) is None


def test_posts_past_the_age_are_shed_but_no_edit_is() -> None:
    shedding = Shedding(Settings(shed_after_s=30))
    assert shedding.reason(post(age_s=30), NOON) is None
    assert shedding.reason(post(age_s=31), NOON) == "age"
    assert shedding.reason(post(age_s=31, revision=1), NOON) == "age"  # the same writing, with its pictures
    assert shedding.reason(post(age_s=31, revision=EDIT_STEP), NOON) is None


def test_the_hash_chooses_a_fair_share_and_of_it_the_smaller_ones() -> None:
    clock = Clock()
    shedding, kept = sampling(clock), []
    for _ in range(2):
        clock.now_s += SHRINK_S
        shedding.adjust(60)
        kept.append({n for n in range(4000) if shedding.reason(post(n), NOON) is None})
    half, quarter = kept
    assert 0.47 < len(half) / 4000 < 0.53
    assert 0.22 < len(quarter) / 4000 < 0.28
    assert quarter < half
    assert place_of("x:1") == pytest.approx(0.0951, abs=1e-4)  # for ever: workers of two versions choose alike


def test_the_share_shrinks_step_by_step_only_while_the_worker_falls_behind() -> None:
    clock, shares = Clock(), []
    shedding = sampling(clock)
    for behind_s in (9, 11, 12, 13, 14, 15, 16, 12, 13):
        shedding.adjust(behind_s)
        shares.append(shedding.share)
        clock.now_s += SHRINK_S / 2
    assert shares == [1, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2, 0.2]
    catching_up = sampling(clock)
    for behind_s in (90, 80, 70, 60):
        catching_up.adjust(behind_s)
        clock.now_s += SHRINK_S
    assert catching_up.share == 0.5


def test_the_share_grows_again_once_the_worker_has_been_ahead_for_a_while() -> None:
    clock, shares = Clock(), []
    shedding = sampling(clock)
    shedding.adjust(20)
    for behind_s in (9, 4, 6, 4, 4, 4, 4):  # 6 is more than half of what is too far
        clock.now_s += GROW_S / 2
        shedding.adjust(behind_s)
        shares.append(shedding.share)
    assert shares == [0.5, 0.5, 0.5, 0.5, 1, 1, 1]


def test_a_replay_loses_nothing_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    shedding = Shedding(Settings(kind="replay", shed_after_s=1, sample_least=0.1))
    shedding.adjust(1e6)
    assert shedding.reason(post(age_s=1e6), NOON) is None
    assert not shedding.is_on
    assert [record.message for record in caplog.records] == [
        "a replay loses nothing: MOODSTREAM_SHED_AFTER_S and MOODSTREAM_SAMPLE_LEAST are ignored"
    ]


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("SAMPLE_LEAST", "0", "MOODSTREAM_SAMPLE_LEAST='0': use a share, more than 0 and at most 1"),
        ("SAMPLE_LEAST", "1.5", "MOODSTREAM_SAMPLE_LEAST='1.5': use a share, more than 0 and at most 1"),
        ("SAMPLE_LEAST", "half", "MOODSTREAM_SAMPLE_LEAST='half': use a share, more than 0 and at most 1"),
        ("SAMPLE_AFTER_S", "0", "MOODSTREAM_SAMPLE_AFTER_S='0': use seconds, more than 0"),
        ("SHED_AFTER_S", "-1", "MOODSTREAM_SHED_AFTER_S='-1': use seconds, more than 0"),
        ("SHED_AFTER_S", "nan", "MOODSTREAM_SHED_AFTER_S='nan': use seconds, more than 0"),
    ],
)
def test_a_bad_setting_is_named_with_the_remedy(variable: str, value: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings.from_env({f"MOODSTREAM_{variable}": value})


def test_how_far_behind_is_told_once_a_minute_and_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    backlog = Backlog(clock_s=clock)
    for seconds in (9, 41, 50, 60, 8, 4, 3):
        backlog.tell({0: 1200, 1: None}, {0: seconds, 1: 2.0}, 0.25)
        clock.now_s += TELL_S / 2
    told = "behind by partition: 0: 1200 records, %d s, 1: ? records, 2 s; 25 %% of the posts are scored"
    assert [record.message for record in caplog.records] == [told % 41, told % 60, "caught up: 4.0 s behind"]


async def test_the_pipeline_sheds_first_writings_alone_and_acknowledges_all() -> None:
    """Not edits, deletions, nor what a replay sends; and a known receipt is nobody's to shed."""
    async with running(shed_after_s=5) as bench:
        now = datetime.now(UTC)
        bench.sink.known = {"x:4": "superseded", "x:5": "redelivered"}
        old, fresh = now - timedelta(seconds=60), now
        await bench.submit(0, post(0, ingested_at=old, author="ann", topics=("tram",)))
        await bench.submit(1, post(1, ingested_at=fresh))
        await bench.submit(2, post(2, ingested_at=old, revision=EDIT_STEP))
        await bench.submit(3, Deletion(source="x", deleted_at=old, ingested_at=old, post_id="x:0"))
        await bench.submit(4, post(4, ingested_at=old))
        await bench.submit(5, post(5, ingested_at=old))
        await bench.submit(6, post(6, ingested_at=old), is_placed=True)
        assert await bench.pipeline.drain(10)
    first, deletion = (write for write in bench.sink.writes if getattr(write, "post_id", "") == "x:0")
    assert first == Shed("x:0", 0, NOON, ("tram",), first.position, "run", "ann")
    assert isinstance(deletion, Deleted)  # after its post
    assert sorted(bench.sink.scored()) == ["x:1", "x:2", "x:6"]
    assert [write.post_id for write in bench.sink.writes if isinstance(write, Shed)] == ["x:0"]
    assert bench.stats.shed == {"age": 1}
    assert bench.acknowledged == list(range(7))


def test_a_shed_post_counts_in_its_topics_and_is_nowhere_else(store_url: str, redis: Redis) -> None:
    assert write(store_url, [shed()]) == [{"shed": 1}]
    results = Results(redis, "t")
    assert results.topics() == [ALL, "tram"]
    assert results.watermark() == NOON
    for level, start in (("minute", MINUTE), ("hour", MINUTE), ("day", MINUTE.replace(hour=0))):
        found = results.rollups([ALL, "tram"], level, start, start + timedelta(minutes=1))
        assert found == {topic: {start: Counters(shed=1)} for topic in (ALL, "tram")}
    assert results.total().volume == 1
    assert results.prediction("x:1") is None
    assert results.tail() == list(results.drain_results()) == []
    keys = Keys("t", 0)
    for key in (keys.receipt("x:1"), keys.rollup("hour", 20577, "tram")):
        assert 0 <= Settings.rollup_retention_s - redis.ttl(key) < 60


def test_however_often_it_comes_it_is_shed_once(store_url: str, redis: Redis, predict: Predict) -> None:
    outcomes = write(
        store_url,
        [shed(offset=5)],
        [shed(offset=5)],
        [Scored(predict(), at(5), "run")],  # its next worker is not behind
        [Scored(predict(), at(9), "run"), shed(offset=10)],
        [Scored(predict("x:2"), at(11), "run")],
        [shed(2, 11), shed(2, 12)],
    )
    assert outcomes == [
        *({"shed": 1}, {"redelivered": 1}, {"redelivered": 1}, {"duplicates": 2}),
        *({"scored": 1}, {"redelivered": 1, "duplicates": 1}),
    ]
    results = Results(redis, "t")
    assert (results.total().posts, results.total().shed) == (1, 1)
    assert results.prediction("x:1") is None


def test_an_edit_of_a_shed_post_is_scored_as_new(store_url: str, redis: Redis, predict: Predict) -> None:
    edited = Scored(predict(revision=EDIT_STEP), at(1), "run")
    write(store_url, [edited])
    alone = dump(redis)
    redis.flushall()
    assert write(store_url, [shed(offset=0)], [edited], [edited]) == [{"shed": 1}, {"scored": 1}, {"redelivered": 1}]
    assert dump(redis) == alone
    assert [one.revision for one in Results(redis, "t").tail()] == [EDIT_STEP]
    redis.flushall()
    assert write(store_url, [shed(offset=0), edited]) == [{"shed": 1, "scored": 1}]  # also within one call
    assert dump(redis) == alone


def test_late_pictures_of_a_shed_post_leave_it_shed_and_of_a_scored_one_scored(
    store_url: str, redis: Redis, predict: Predict
) -> None:
    outcomes = write(store_url, [shed(offset=0)], [shed(offset=1, revision=1)], [shed(offset=1, revision=1)])
    assert outcomes == [{"shed": 1}, {"edits": 1}, {"redelivered": 1}]
    assert Results(redis, "t").total() == Counters(shed=1)
    redis.flushall()
    assert write(store_url, [Scored(predict(), at(0), "run")], [shed(offset=1, revision=1)]) == [
        {"scored": 1},
        {"stale": 1},
    ]
    assert Results(redis, "t").total().shed == 0
    assert Results(redis, "t").prediction("x:1") is not None


def test_deletions_take_shed_posts_out_and_keep_them_out(store_url: str, redis: Redis, predict: Predict) -> None:
    write(store_url, [Scored(predict("x:9"), at(0), "run")])
    alone = dump(redis)
    mine = [shed(name, name, author="ann") for name in (1, 2, 3)]
    outcomes = write(
        store_url,
        mine,
        [Deleted("x:1", at(4), "run")],
        [shed(1, 5, author="ann")],
        [AuthorDeleted("ann", at(6), "run")],
        [shed(3, 3, author="ann"), shed(4, 5, author="ann")],  # one of them from before the deletion
        shards=1,
    )
    assert outcomes == [{"shed": 3}, {"deletions": 1}, {"stale": 1}, {"deletions": 1}, {"redelivered": 1, "stale": 1}]
    assert dump(redis) == alone
    assert Results(redis, "t").counters()["forgotten"] == 2


def test_a_topic_minute_with_shed_posts_stays_under_40_bytes(store_url: str, redis: Redis, predict: Predict) -> None:
    """Twenty scored a minute, with all counters, and forty that were not."""
    full = {"image_probabilities": (0.1, 0.2, 0.7), "sensitive": True, "label": "positive", "abstained": True}
    times = [MINUTE + timedelta(seconds=3 * n) for n in range(1200)]
    writes: list[Write] = [
        Scored(predict(f"x:{n}", created_at=when, foreign=True, correction="positive", **full), at(n), "run")
        for n, when in enumerate(times)
    ]
    writes += [Shed(f"x:{n + 2000}", 0, times[n // 2], ("tram",), at(n + 2000), "run") for n in range(2400)]
    write(store_url, writes)
    key = Keys("t", 0).rollup("minute", int(MINUTE.timestamp()) // 3600, "tram")
    assert redis.hlen(key) == 60
    assert redis.object("encoding", key) == b"listpack"
    per_minute = redis.memory_usage(key, samples=0) / 60
    assert per_minute <= 40, f"{per_minute:.1f} bytes per topic-minute"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from((0, 0, 1, 2))), min_size=1, max_size=12),
    st.data(),
)
def test_whoever_sheds_what_however_often_each_post_counts_once(
    store_url: str, redis: Redis, predict: Predict, log: list[tuple[int, int]], data: st.DataObject
) -> None:
    """A log is delivered in order, again and again from any earlier point, to workers who decide differently."""

    def decided(offset: int) -> Write:
        name, revision = log[offset]
        if revision < EDIT_STEP and data.draw(st.booleans()):
            return shed(name, offset, revision=revision)
        return Scored(predict(f"x:{name}", revision=revision), at(offset), "run")

    redis.flushall()
    batches: list[Sequence[Write]] = []
    done = 0
    while done < len(log):
        start = data.draw(st.integers(0, done))
        done = data.draw(st.integers(start + 1, len(log)))
        batches.append([decided(offset) for offset in range(start, done)])
    write(store_url, *batches)
    results = Results(redis, "t")
    total, counts = results.total(), results.counters()
    assert total.volume == len({name for name, _ in log})
    assert total.posts == total.positive + total.neutral + total.negative == len(results.tail())
    assert sum(counts.get(name, 0) for name in ("scored", "shed", "edits", "duplicates", "stale")) == len(log)


def test_opening_an_older_namespaces_counters_reads_no_shed_posts(store_url: str, redis: Redis) -> None:
    async def enter() -> None:
        async with opened(store_url):
            pass

    asyncio.run(enter())
    redis.hset(Keys("t", 0).rollup("day", 643, ALL), "0", b"\x92\x05\x03")  # written before there was such a counter
    assert Results(redis, "t").total() == Counters(posts=5, positive=3)
