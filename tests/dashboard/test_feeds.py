"""What a process holds of a namespace: read once for all, and anew where it may have changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis

from dashboard.errors import NoResults, StoreUnavailable
from dashboard.feeds import COLD_S, TOPICS_READ, Feed
from inference_worker.contract import ALL
from tests.dashboard.seeding import NOW, Seed, Server, prediction

HOUR = timedelta(hours=1)
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def feed(redis: Redis, clock: Clock) -> Feed:
    return Feed(redis, "live", address="the store", monotonic=clock)


def posts_of(feed: Feed, start: datetime, hours: int = 1) -> int:
    return int(feed.sums([ALL], "minute", [start], hours * HOUR)[0][ALL][:, 0].sum())


def test_buckets_are_cut_where_asked(feed: Feed, seed: Seed) -> None:
    seed([prediction(number, NOON - HOUR + timedelta(minutes=number)) for number in range(120)])
    before, now = feed.sums([ALL], "minute", [NOON - HOUR / 2, NOON + HOUR / 2], HOUR)
    assert list(before[ALL][:, 0]) == [1] * 60
    assert list(now[ALL][:, 0]) == [1] * 30 + [0] * 30


def test_what_is_young_is_not_read_again(feed: Feed, seed: Seed, clock: Clock) -> None:
    seed([prediction(1, NOW)])
    assert posts_of(feed, NOON) == 1
    seed([prediction(2, NOW)], first_offset=5)
    assert posts_of(feed, NOON) == 1
    clock.now += 1
    assert posts_of(feed, NOON) == 2


def test_old_hours_take_their_turn(feed: Feed, seed: Seed, clock: Clock) -> None:
    seed([prediction(1, NOW - 5 * HOUR), prediction(2, NOW)])
    assert posts_of(feed, NOON - 5 * HOUR, 6) == 2
    seed([prediction(3, NOW - 5 * HOUR)], first_offset=5)
    clock.now += 2
    assert posts_of(feed, NOON - 5 * HOUR, 6) == 2
    for _ in range(6):
        clock.now += COLD_S + 10
        posts_of(feed, NOON - 5 * HOUR, 6)
    assert posts_of(feed, NOON - 5 * HOUR, 6) == 3


def test_a_change_made_on_purpose_is_seen_at_once(feed: Feed, seed: Seed) -> None:
    seed([prediction(1, NOW - 5 * HOUR), prediction(2, NOW)])
    assert posts_of(feed, NOON - 5 * HOUR, 6) == 2
    seed([prediction(3, NOW - 5 * HOUR)], first_offset=5)
    feed.forget()
    assert posts_of(feed, NOON - 5 * HOUR, 6) == 3


def test_of_too_many_topics_the_busiest_are_read(feed: Feed, seed: Seed, clock: Clock) -> None:
    names = [f"topic {number:02d}" for number in range(TOPICS_READ + 5)]
    seed([prediction(number, NOW, topics=(name,)) for number, name in enumerate((*names, names[-1], names[-2]))])
    assert feed.busiest()[:4] == (ALL, names[-2], names[-1], names[0])
    assert len(feed.busiest()) == TOPICS_READ
    seed([prediction(100 + number, NOW, topics=(names[-3],)) for number in range(5)], first_offset=100)
    clock.now += 30
    assert feed.busiest()[1] == names[-2]
    clock.now += 31
    assert feed.busiest()[1] == names[-3]


def test_few_topics_need_no_ranking(feed: Feed, seed: Seed) -> None:
    seed([prediction(1, NOW, topics=("b",)), prediction(2, NOW, topics=("a",))])
    assert feed.busiest() == (ALL, "a", "b")


def test_new_topics_are_read_as_they_come(feed: Feed, seed: Seed, clock: Clock) -> None:
    seed([prediction(1, NOW)])
    assert posts_of(feed, NOON) == 1
    seed([prediction(2, NOW, topics=("tea",))], first_offset=5)
    clock.now += 1
    assert feed.head().topics == (ALL, "tea")
    assert int(feed.sums(["tea"], "minute", [NOON], HOUR)[0]["tea"][:, 0].sum()) == 1


def test_a_namespace_filled_anew_is_read_anew(feed: Feed, seed: Seed, clock: Clock, redis: Redis) -> None:
    seed([prediction(number, NOW) for number in range(3)])
    assert posts_of(feed, NOON) == 3
    redis.flushall()
    clock.now += 1
    with pytest.raises(NoResults):
        feed.head()
    seed([prediction(1, NOW)], shards=4)
    clock.now += 1
    assert posts_of(feed, NOON) == 1


def test_a_store_that_is_away_is_asked_once_a_second(feed: Feed, seed: Seed, clock: Clock, server: Server) -> None:
    seed([prediction(1, NOW)])
    server.stop()
    with pytest.raises(StoreUnavailable):
        feed.head()
    server.start()
    seed([prediction(1, NOW)])
    with pytest.raises(StoreUnavailable):
        feed.head()
    clock.now += 1
    assert feed.head().topics == (ALL,)
