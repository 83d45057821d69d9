"""What the script leaves in a real store: each post once, whatever Kafka delivers how often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from inference_worker.contract import ALL, TAIL_KEPT, Counters, Keys, Prediction, Results, UnknownNamespace
from inference_worker.errors import StoreUnavailable
from inference_worker.settings import Settings
from inference_worker.store import Deleted, Failed, Position, Scored, Store, Write

NOON = datetime(2026, 5, 4, 12, 0, 30, tzinfo=UTC)
MINUTE = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
Predict = Callable[..., Prediction]


def at(offset: int, *, partition: int = 0, timestamp_ms: int | None = None) -> Position:
    return Position(partition, offset, timestamp_ms if timestamp_ms is not None else 1000 + offset)


@asynccontextmanager
async def opened(url: str, **changes: object) -> AsyncIterator[Store]:
    async with AsyncRedis.from_url(url) as client:
        store = Store(client, Settings(namespace="t", redis=url, **changes), model="test 1")
        await store.open()
        yield store


def write(url: str, *batches: Sequence[Write], **changes: object) -> list[dict[str, int]]:
    async def run() -> list[dict[str, int]]:
        async with opened(url, **changes) as store:
            return [await store.write(batch) for batch in batches]

    return asyncio.run(run())


def dump(redis: Redis) -> dict[bytes, object]:
    """Every rollup as it stands in the store, byte for byte."""
    return {
        key: redis.hgetall(key) for level in ("minute", "hour", "day") for key in redis.scan_iter(match=f"*:{level}:*")
    }


def test_a_post_enters_its_topics_and_all_at_every_level(store_url: str, redis: Redis, predict: Predict) -> None:
    prediction = predict(topics=("tram", "coffee"), images=1, sensitive=True, label="positive")
    assert write(store_url, [Scored(prediction, at(0), "run", (b"jpeg",))]) == [{"scored": 1}]
    results = Results(redis, "t")
    assert results.topics() == [ALL, "coffee", "tram"]
    share = Counters(
        posts=1, positive=1, with_text=1, sensitive=1, labelled=1, correct=1, score_sum=600, score_square_sum=360,
        confidence_sum=700, text_score_sum=600,
    )  # fmt: skip
    for level, start in (("minute", MINUTE), ("hour", MINUTE), ("day", MINUTE.replace(hour=0))):
        found = results.rollups([ALL, "tram", "coffee"], level, start, start + timedelta(minutes=1))
        assert found == {topic: {start: share} for topic in (ALL, "tram", "coffee")}
    assert results.total() == share
    assert results.tail("tram") == [prediction]
    assert results.prediction("x:1") == prediction
    assert results.thumbnails([("x:1", 0), ("x:1", 1)]) == [b"jpeg", None]
    assert results.watermark() == NOON
    assert results.overview() == (results.meta(), NOON, [ALL, "coffee", "tram"], {"scored": 1}, [])
    assert list(results.drain_results()) == [prediction]
    assert list(results.drain_results()) == []


def test_the_same_position_again_counts_nothing(store_url: str, redis: Redis, predict: Predict) -> None:
    batch = [Scored(predict(), at(5), "run")]
    outcomes = write(store_url, batch, batch, [Scored(predict(), at(4), "run")])
    assert outcomes == [{"scored": 1}, {"redelivered": 1}, {"redelivered": 1}]
    assert Results(redis, "t").total().posts == 1


def test_another_position_is_a_duplicate_and_is_counted_once(store_url: str, redis: Redis, predict: Predict) -> None:
    first, second = Scored(predict(), at(5), "run"), Scored(predict(text="other"), at(9), "run")
    outcomes = write(store_url, [first], [second], [first, second], [second])
    assert outcomes == [{"scored": 1}, {"duplicates": 1}, {"redelivered": 2}, {"redelivered": 1}]
    results = Results(redis, "t")
    assert results.counters("run") == {"scored": 1, "duplicates": 1, "redelivered": 3}
    assert results.counters() == results.counters("run")
    assert results.prediction("x:1").text == "a tram"


def test_a_recreated_topic_starts_at_offset_0_and_is_no_redelivery(
    store_url: str, redis: Redis, predict: Predict
) -> None:
    again = Scored(predict(), at(0, timestamp_ms=9_000_000), "second run")
    assert write(store_url, [Scored(predict(), at(5), "run")], [again]) == [{"scored": 1}, {"duplicates": 1}]


def test_duplicates_inside_one_batch_are_told_apart(store_url: str, redis: Redis, predict: Predict) -> None:
    batch = [Scored(predict(), at(1), "run"), Scored(predict(), at(2), "run"), Scored(predict(), at(2), "run")]
    assert write(store_url, batch) == [{"scored": 1, "duplicates": 1, "redelivered": 1}]


def test_a_higher_revision_replaces_the_share_and_a_lower_one_is_stale(
    store_url: str, redis: Redis, predict: Predict
) -> None:
    edited = predict(
        revision=1, probabilities=(0.1, 0.1, 0.8), topics=("coffee",), created_at=NOON + timedelta(hours=2)
    )
    write(store_url, [Scored(edited, at(0), "run")])
    alone = dump(redis)
    redis.flushall()
    outcomes = write(
        store_url,
        [Scored(predict(), at(0), "run", (b"old", b"older"))],
        [Scored(edited, at(1), "run", (b"new",))],
        [Scored(predict(), at(2), "run")],
    )
    assert outcomes == [{"scored": 1}, {"edits": 1}, {"stale": 1}]
    assert dump(redis) == alone
    results = Results(redis, "t")
    assert results.tail("tram") == []
    assert results.tail("coffee") == [edited]
    assert results.thumbnails([("x:1", 0), ("x:1", 1)]) == [b"new", None]
    assert list(results.drain_results()) == [edited]


def test_a_deletion_takes_the_post_out_of_everything_and_keeps_it_out(
    store_url: str, redis: Redis, predict: Predict
) -> None:
    other = Scored(predict("x:2"), at(0), "run")
    write(store_url, [other])
    alone = dump(redis)
    deletion = Deleted("x:1", at(2), "run")
    outcomes = write(
        store_url,
        [Scored(predict(), at(1), "run", (b"jpeg",))],
        [deletion],
        [deletion],
        [Scored(predict(), at(3), "run")],
    )
    assert outcomes == [{"scored": 1}, {"deletions": 1}, {"redelivered": 1}, {"stale": 1}]
    assert dump(redis) == alone
    results = Results(redis, "t")
    assert [one.id for one in results.tail()] == ["x:2"]
    assert results.prediction("x:1") is None
    assert results.thumbnails([("x:1", 0)]) == [None]
    assert [one.id for one in results.drain_results()] == ["x:2"]


def test_a_dead_letter_is_counted_once(store_url: str, redis: Redis) -> None:
    letter = Failed("no record", "x:1", 7, at(3), "run")
    assert write(store_url, [letter], [letter]) == [{"dead_letters": 1}, {"redelivered": 1}]
    (found,) = Results(redis, "t").dead_letters()
    assert (found.partition, found.offset, found.error, found.key, found.size) == (0, 3, "no record", "x:1", 7)


def test_shards_add_up_and_keep_the_number_they_began_with(store_url: str, redis: Redis, predict: Predict) -> None:
    posts = [Scored(predict(f"x:{n}"), at(n), "run", (b"%d" % n,)) for n in range(40)]
    write(store_url, posts[:20], shards=3)
    write(store_url, posts[20:], shards=7)
    results = Results(redis, "t")
    assert len(results.shards()) == 3
    assert results.total().posts == results.rollups([ALL], "day", NOON, NOON)[ALL][MINUTE.replace(hour=0)].posts == 40
    assert results.counters("run") == {"scored": 40}
    assert len(results.tail()) == 40
    assert results.thumbnails([("x:7", 0), ("x:31", 0)]) == [b"7", b"31"]


def test_the_tail_keeps_the_newest(store_url: str, redis: Redis, predict: Predict) -> None:
    posts = [
        Scored(predict(f"x:{n}", created_at=NOON + timedelta(seconds=n)), at(n), "run") for n in range(TAIL_KEPT + 20)
    ]
    write(store_url, posts[::-1])
    assert redis.zcard(Keys("t", 0).tail(ALL)) == TAIL_KEPT
    assert [one.id for one in Results(redis, "t").tail(limit=2)] == [f"x:{TAIL_KEPT + 19}", f"x:{TAIL_KEPT + 18}"]


def test_the_tail_of_several_topics_shows_each_post_once(store_url: str, redis: Redis, predict: Predict) -> None:
    topics = [("tram",), ("coffee",), ("tram", "coffee"), ("phone",)]
    posts = [
        Scored(predict(f"x:{n}", created_at=NOON + timedelta(seconds=n), topics=named), at(n), "run")
        for n, named in enumerate(topics)
    ]
    write(store_url, posts, shards=2)
    assert [one.id for one in Results(redis, "t").tail("tram", "coffee")] == ["x:2", "x:1", "x:0"]
    assert [one.id for one in Results(redis, "t").tail("tram", "coffee", limit=1)] == ["x:2"]


def test_live_results_expire_and_replays_stay(store_url: str, redis: Redis, predict: Predict) -> None:
    write(store_url, [Scored(predict(), at(0), "run", (b"jpeg",))])
    keys = Keys("t", 0)
    for key in (keys.receipt("x:1"), keys.rollup("hour", 20577, "tram"), keys.run("run")):
        assert redis.ttl(key) == Settings.rollup_retention_s
    for key in (keys.post("x:1"), keys.thumbnails("x:1")):
        assert redis.ttl(key) == Settings.post_retention_s
    redis.flushall()
    write(store_url, [Scored(predict(), at(0), "run", (b"jpeg",))], rollup_retention_s=0, post_retention_s=0)
    assert {redis.ttl(key) for key in redis.scan_iter() if b":calls:" not in key} == {-1}  # of a worker, no result


def test_a_topic_minute_with_all_counters_stays_under_40_bytes(store_url: str, redis: Redis, predict: Predict) -> None:
    posts = [
        Scored(
            predict(
                f"x:{n}",
                created_at=MINUTE + timedelta(seconds=3 * n),
                image_probabilities=(0.1, 0.2, 0.7),
                sensitive=True,
                label="positive",
                abstained=True,
                foreign=True,
                correction="positive",
            ),
            at(n),
            "run",
        )
        for n in range(1200)  # 20 posts a minute for an hour
    ]
    write(store_url, posts)
    key = Keys("t", 0).rollup("minute", int(MINUTE.timestamp()) // 3600, "tram")
    assert redis.hlen(key) == 60
    assert redis.object("encoding", key) == b"listpack"
    per_minute = redis.memory_usage(key, samples=0) / 60
    assert per_minute <= 40, f"{per_minute:.1f} bytes per topic-minute"


def test_posts_of_a_stretch_of_time_come_newest_first(store_url: str, redis: Redis, predict: Predict) -> None:
    def post(number: int, minutes: int, *topics: str) -> Scored:
        made = predict(f"x:{number}", created_at=NOON + timedelta(minutes=minutes), topics=topics)
        return Scored(made, at(number), "run")

    posts = [post(1, 0, "tram"), post(2, 20, "tram"), post(3, 90, "tram", "coffee"), post(4, 300, "tram"), post(5, 21)]
    write(store_url, posts, shards=3)
    results = Results(redis, "t")

    def found(topic: str, start: int, end: int, limit: int = 10) -> list[str]:
        times = (NOON + timedelta(minutes=minutes) for minutes in (start, end))
        return [one.id for one in results.posts(topic, *times, limit=limit)]

    assert found("tram", 0, 301) == ["x:4", "x:3", "x:2", "x:1"]
    assert found("tram", 0, 300) == ["x:3", "x:2", "x:1"]  # the end is not in it
    assert found("tram", 1, 301, limit=2) == ["x:4", "x:3"]
    assert found("coffee", 0, 301) == ["x:3"]
    assert found(ALL, 20, 22) == ["x:5", "x:2"]
    assert found(ALL, 21, 22, limit=1) == ["x:5"]
    assert found("nobody's", 0, 301) == []
    write(store_url, [Deleted("x:3", at(9), "run")])
    assert found("tram", 0, 301) == ["x:4", "x:2", "x:1"]
    assert not [key for key in redis.scan_iter() if b"coffee" in key and b":posts:" in key]


@pytest.mark.parametrize("hours", [2, 5])
def test_the_newest_posts_are_found_when_the_last_hour_lies_outside(
    store_url: str, redis: Redis, predict: Predict, hours: int
) -> None:
    """Its posts all come after the end of the stretch, and must not stand for those of the hour before."""
    after = [predict(f"x:{n}", created_at=NOON + timedelta(minutes=50, seconds=n)) for n in range(9)]
    before = [predict(f"x:{n}", created_at=NOON - timedelta(minutes=50 - n)) for n in range(10, 14)]
    write(store_url, [Scored(post, at(n), "run") for n, post in enumerate([*after, *before])])
    found = Results(redis, "t").posts("tram", NOON - timedelta(hours=hours), NOON + timedelta(minutes=10), limit=3)
    assert [one.id for one in found] == ["x:13", "x:12", "x:11"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=12),
    st.data(),
)
def test_any_redelivery_leaves_what_one_delivery_leaves(
    store_url: str, redis: Redis, predict: Predict, log: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    """A log is delivered in order, again and again from any earlier point, as a crashing worker would."""
    classes = ((0.8, 0.1, 0.1), (0.1, 0.8, 0.1), (0.1, 0.1, 0.8))
    records = [
        Scored(predict(f"x:{post}", revision=revision, probabilities=classes[kind]), at(offset), "run")
        for offset, (post, revision, kind) in enumerate(log)
    ]
    redis.flushall()
    write(store_url, records)
    once, counted = dump(redis), Results(redis, "t").counters()
    redis.flushall()
    batches: list[Sequence[Write]] = []
    done = 0
    while done < len(records):
        start = data.draw(st.integers(0, done))
        done = data.draw(st.integers(start + 1, len(records)))
        batches.append(records[start:done])
    write(store_url, *batches, records[data.draw(st.integers(0, len(records))) :])
    assert dump(redis) == once
    again = Results(redis, "t").counters()
    assert {name: again[name] for name in counted} == counted


async def test_opening_without_redis_says_what_to_do() -> None:
    with pytest.raises(StoreUnavailable, match="localhost:1/0 does not answer"):
        async with opened("redis://:secret@localhost:1/0"):
            pass


def test_reading_an_unknown_namespace_says_so(redis: Redis) -> None:
    with pytest.raises(UnknownNamespace, match="'nowhere' has no results yet"):
        Results(redis, "nowhere").topics()
