"""Snapshots read from a real store that the worker's own writer filled."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import ANY

import pytest
from redis import Redis
from redis.connection import Connection

from dashboard import queries
from dashboard.errors import DashboardError, InvalidView, NoResults, StoreUnavailable, UnreadableResults
from dashboard.feeds import Feed
from dashboard.queries import Change, Snapshot
from inference_worker.contract import ALL, meta_key
from tests.dashboard.seeding import NOW, TOPICS, Seed, Server, drawing, feed, prediction, worker_state

ADDRESS = "the store"


def read(redis: Redis, namespace: str = "live", window: str = "1h", **chosen: Any) -> Snapshot:
    return queries.snapshot(Feed(redis, namespace, address=ADDRESS), window=window, now=NOW, **chosen)


def test_window_counts_the_posts_of_the_namespace_clock(redis: Redis, seed: Seed) -> None:
    clock = datetime(2015, 2, 24, 19, 21, 40, tzinfo=UTC)
    ages = (0, 59, 9 * 60, 11 * 60, 19 * 60, 25 * 60)
    seed([prediction(number, clock - timedelta(seconds=age)) for number, age in enumerate(ages)], kind="replay")
    snapshot = read(redis, window="10m")
    assert snapshot.clock == clock
    assert snapshot.total.posts == 3
    assert snapshot.moods[ALL].before == Change(posts=2, net=ANY)
    assert snapshot.is_replay


@pytest.mark.parametrize(("age_min", "covers"), [(119, True), (100, False), (None, False)])
def test_volume_is_compared_only_with_a_stretch_the_feed_was_there_for(
    redis: Redis, seed: Seed, age_min: int | None, covers: bool
) -> None:
    seed([prediction(1, NOW), *([prediction(2, NOW - timedelta(minutes=age_min))] if age_min else [])])
    assert read(redis).covers_before is covers
    assert read(redis, window="all").covers_before is False


def test_mood_is_told_per_topic_against_the_window_before(redis: Redis, seed: Seed) -> None:
    glad, sad = (0.9, 0.1, 0.0), (0.0, 0.1, 0.9)
    then = NOW - timedelta(minutes=70)
    posts = [prediction(number, then, fused=sad, topics=("tea",)) for number in range(20)]
    posts += [prediction(100 + number, NOW, fused=glad, topics=("tea",)) for number in range(20)]
    posts += [prediction(200 + number, NOW, fused=sad, topics=("rain",), abstained=True) for number in range(5)]
    seed(posts)
    snapshot = read(redis)
    assert snapshot.topics == (ALL, "rain", "tea")
    tea, rain = snapshot.moods["tea"], snapshot.moods["rain"]
    assert tea.net is not None and tea.net.mean == pytest.approx(0.9)
    assert tea.before is not None and tea.before.net is not None
    assert tea.before.net.mean == pytest.approx(1.8)
    assert tea.before.net.lean == 1
    assert rain.counters.abstained == 5
    assert rain.before == Change(posts=0, net=None)
    assert snapshot.total.posts == 25


def test_all_covers_every_post_of_a_replay(redis: Redis, seed: Seed) -> None:
    posts = feed(400, until=datetime(2015, 2, 24, 19, 21, tzinfo=UTC), span=timedelta(days=7))
    seed(posts, "airline", kind="replay", duplicates=15)
    snapshot = read(redis, "airline", "all")
    assert snapshot.total.posts == 400
    assert snapshot.counts["scored"] == 400
    assert snapshot.counts["duplicates"] == 15
    assert snapshot.frame.bin_label == "per 3 hours"
    everything = snapshot.series[snapshot.series["topic"] == ALL]
    assert everything["posts"].sum() == 400
    assert sum(mood.counters.posts for topic, mood in snapshot.moods.items() if topic != ALL) == 400


@pytest.mark.parametrize("years", [0.2, 3, 12])
def test_all_reaches_back_to_the_first_post_of_long_archives(redis: Redis, seed: Seed, years: float) -> None:
    seed([prediction(1, NOW - timedelta(days=365 * years)), prediction(2, NOW)], kind="replay")
    assert read(redis, window="all").total.posts == 2


def test_series_has_a_row_per_bin_and_marks_the_last_as_filling(redis: Redis, seed: Seed) -> None:
    seed([prediction(1, NOW - timedelta(minutes=5)), prediction(2, NOW - timedelta(minutes=5)), prediction(3, NOW)])
    series = read(redis, window="10m").series
    assert list(series["posts"]) == [0, 0, 0, 0, 2, 0, 0, 0, 0, 1]
    assert list(series["complete"]) == [True] * 9 + [False]
    assert series["net"].notna().sum() == 2
    assert str(series["at"].dt.tz) == "UTC"


def test_latest_posts_come_newest_first_with_their_pictures(redis: Redis, seed: Seed) -> None:
    seed([prediction(number, NOW - timedelta(seconds=40 - number), images=number % 2) for number in range(40)])
    snapshot = read(redis)
    assert [post.id for post in snapshot.posts] == [f"sample:{number}" for number in range(39, 33, -1)]
    assert set(snapshot.pictures) == {post.id for post in snapshot.posts if post.images}
    assert snapshot.pictures["sample:39"] == drawing("sample:39")


def test_days_are_the_readers(redis: Redis, seed: Seed) -> None:
    """Midnight in New York is 4 o'clock in UTC; two posts around it, in one day of UTC."""
    midnight = datetime(2026, 5, 3, 4, tzinfo=UTC)
    times = (midnight - timedelta(days=100), midnight - timedelta(minutes=1), midnight)
    seed([prediction(number, at) for number, at in enumerate(times)], kind="replay")
    here, utc = (read(redis, window="all", zone=zone).series for zone in ("America/New_York", "UTC"))
    assert list(here[here["topic"] == ALL]["posts"])[-2:] == [1, 1]
    assert list(utc[utc["topic"] == ALL]["posts"])[-2:] == [0, 2]
    assert here["posts"].sum() == utc["posts"].sum() == 3


def test_latest_posts_keep_to_the_topics_selected(redis: Redis, seed: Seed) -> None:
    seed(feed(200))
    one, two = TOPICS[:2]
    assert {topic for post in read(redis, selected=(one,)).posts for topic in post.topics} == {one}
    assert {topic for post in read(redis, selected=(one, two)).posts for topic in post.topics} <= {one, two}
    assert len(read(redis, selected=(one,)).posts) == queries.POSTS_SHOWN


def test_topic_asked_for_is_read_though_unknown(redis: Redis, seed: Seed) -> None:
    seed([prediction(1, NOW)])
    assert read(redis, selected=("nobody's",)).moods["nobody's"].net is None


def test_workers_and_dead_letters_are_told(redis: Redis, seed: Seed) -> None:
    seed([prediction(1, NOW)], dead_letters=3, worker=worker_state())
    snapshot = read(redis)
    assert [worker.name for worker in snapshot.workers] == ["worker-1"]
    assert snapshot.counts["dead_letters"] == 3


def test_a_refresh_takes_at_most_9_round_trips(redis: Redis, seed: Seed, monkeypatch: pytest.MonkeyPatch) -> None:
    seed(feed(300), worker=worker_state())
    redis.ping()
    trips = 0
    send = Connection.send_packed_command

    def counted(self: Connection, *arguments: Any, **chosen: Any) -> None:
        nonlocal trips
        trips += 1
        send(self, *arguments, **chosen)

    monkeypatch.setattr(Connection, "send_packed_command", counted)
    read(redis, window="6h")
    assert 0 < trips <= 9


def test_unknown_namespace_has_no_results(redis: Redis) -> None:
    with pytest.raises(NoResults, match="namespace 'live' has no scored post yet"):
        read(redis)


def test_namespace_without_a_post_has_no_results(redis: Redis, seed: Seed) -> None:
    seed([])
    with pytest.raises(NoResults):
        read(redis)
    assert queries.outline(Feed(redis, "live", address=ADDRESS)) == queries.Outline(kind="live")


def test_impossible_namespace_is_refused(redis: Redis) -> None:
    with pytest.raises(InvalidView, match="use 1 to 63 lower-case letters"):
        read(redis, "<b>no</b>")


def test_store_that_is_gone_is_named_without_credentials(server: Server, seed: Seed) -> None:
    seed([prediction(1, NOW)])
    server.stop()
    with (
        Redis.from_url(server.url.replace("://", "://user:secret@")) as redis,
        pytest.raises(StoreUnavailable, match="Redis at the store does not answer") as caught,
    ):
        read(redis)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("meta", [b"\xc1garbage", b"\x82\xa6shards\x01\xa6schema\xcd\x03\xe7"])
def test_results_of_another_kind_are_unreadable(redis: Redis, meta: bytes) -> None:
    redis.set(meta_key("live"), meta)
    with pytest.raises(UnreadableResults):
        read(redis)


def test_key_of_another_type_is_unreadable(redis: Redis) -> None:
    redis.lpush(meta_key("live"), "not a string")
    with pytest.raises(DashboardError, match="refuses a read"):
        read(redis)
