"""What people change of scored posts: exact, atomic, reversible, and gone with the post."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from inference_worker import amendments
from inference_worker.amendments import Correction, NotRetained, corrections, relabel, retag
from inference_worker.contract import ALL, LABELS, Keys, Prediction, Results
from inference_worker.settings import DAY_S
from inference_worker.store import AuthorDeleted, Deleted, Scored
from tests.inference_worker.conftest import NOON
from tests.inference_worker.test_store import MINUTE, at, dump, write

Predict = Callable[..., Prediction]


def test_a_relabel_moves_every_rollup_and_is_noted(store_url: str, redis: Redis, predict: Predict) -> None:
    write(store_url, [Scored(predict(images=1), at(0), "run", (b"jpeg",)), Scored(predict("x:2"), at(1), "run")])
    results = Results(redis, "t")
    done = relabel(results, "x:1", "negative", by="ann@example.org", at=NOON)
    assert done == Correction(
        post_id="x:1", revision=0, label="negative", predicted="positive", confidence=0.7, by="ann@example.org", at=NOON
    )
    assert corrections(results) == [done]
    for topic in (ALL, "tram"):
        total = results.total(topic)
        assert (total.posts, total.positive, total.negative) == (2, 1, 1)
        assert (total.labelled, total.correct, total.corrected) == (1, 0, 1)
        assert total.score_sum == 600 - 1000
    post = results.prediction("x:1")
    assert post is not None
    assert (post.correction, post.mood, post.predicted, post.score) == ("negative", "negative", "positive", -1.0)
    assert {one.id for one in results.tail("tram")} == {"x:1", "x:2"}
    assert results.thumbnails([("x:1", 0)]) == [b"jpeg"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(LABELS)), min_size=1, max_size=8))
def test_relabels_taken_back_leave_every_rollup_bit_identical(
    store_url: str, redis: Redis, predict: Predict, said: list[tuple[int, str]]
) -> None:
    redis.flushall()
    kinds = ((0.8, 0.1, 0.1), (0.1, 0.8, 0.1), (0.33, 0.33, 0.34))
    posts = [
        predict(f"x:{n}", probabilities=kind, created_at=NOON + timedelta(hours=9 * n), label="neutral")
        for n, kind in enumerate(kinds)
    ]
    write(store_url, [Scored(post, at(n), "run") for n, post in enumerate(posts)], shards=2)
    before, results = dump(redis), Results(redis, "t")
    for post, label in said:
        relabel(results, f"x:{post}", label, by="ann", at=NOON)
    assert dump(redis) != before
    for post in {post for post, _ in said}:
        relabel(results, f"x:{post}", None, by="ann", at=NOON)
    assert dump(redis) == before
    assert [results.prediction(post.id) for post in posts] == posts
    assert len(corrections(results)) == len(said) + len({post for post, _ in said})


def test_an_amendment_prolongs_no_life(store_url: str, redis: Redis, predict: Predict) -> None:
    write(store_url, [Scored(predict(), at(0), "run")])
    for key in redis.scan_iter():
        if redis.ttl(key) > 0:
            redis.expire(key, 1000)
    results = Results(redis, "t")
    relabel(results, "x:1", "neutral", by="ann", at=NOON)
    retag(results, "x:1", ["tram", "coffee"])
    lives = {key: redis.ttl(key) for key in redis.scan_iter()}
    for_ever = {f"{{t:0}}:{name}".encode() for name in ("counters", "topics", "watermark", "corrected")} | {b"{t}:meta"}
    assert {key for key, left in lives.items() if left == -1} == for_ever
    assert max(lives.values()) <= 1000 < DAY_S


def test_what_has_expired_of_a_post_is_not_made_anew(store_url: str, redis: Redis, predict: Predict) -> None:
    write(store_url, [Scored(predict(), at(0), "run")])
    for key in redis.scan_iter(match="*:minute:*"):
        redis.delete(key)
    results = Results(redis, "t")
    relabel(results, "x:1", "neutral", by="ann", at=NOON)
    retag(results, "x:1", ["coffee"])
    assert not list(redis.scan_iter(match="*:minute:*"))
    assert (results.total().neutral, results.total("coffee").posts, results.total("tram").posts) == (1, 1, 0)


def test_a_retag_moves_a_post_between_topics_and_back(store_url: str, redis: Redis, predict: Predict) -> None:
    write(store_url, [Scored(predict(), at(0), "run")])
    before, results = dump(redis), Results(redis, "t")
    assert retag(results, "x:1", [ALL, "coffee", "late", "late"])
    assert not retag(results, "x:1", ["coffee", "late"])
    minute = results.rollups([ALL, "tram", "coffee", "late"], "minute", MINUTE, MINUTE + timedelta(minutes=1))
    assert {topic: len(buckets) for topic, buckets in minute.items()} == {ALL: 1, "tram": 0, "coffee": 1, "late": 1}
    assert [len(results.tail(topic)) for topic in (ALL, "tram", "coffee")] == [1, 0, 1]
    window = (NOON, NOON + timedelta(seconds=1))
    assert [len(results.posts(topic, *window, limit=5)) for topic in (ALL, "tram", "late")] == [1, 0, 1]
    assert {"coffee", "late"} <= set(results.topics())
    assert retag(results, "x:1", ["tram"])
    assert dump(redis) == before


def test_a_post_that_is_gone_cannot_be_changed(store_url: str, redis: Redis, predict: Predict) -> None:
    write(store_url, [Scored(predict(), at(0), "run"), Deleted("x:1", at(1), "run")])
    results = Results(redis, "t")
    for post_id in ("x:1", "x:2"):
        with pytest.raises(NotRetained, match=post_id):
            relabel(results, post_id, "neutral", by="ann", at=NOON)
        assert not retag(results, post_id, ["coffee"])
    assert dump(redis) == {}


def test_corrections_go_with_their_post_and_its_author(store_url: str, redis: Redis, predict: Predict) -> None:
    posts = [Scored(predict(f"x:{n}", author="ann" if n else None), at(n), "run") for n in range(3)]
    write(store_url, posts)
    results = Results(redis, "t")
    for n in range(3):
        relabel(results, f"x:{n}", "neutral", by="someone", at=NOON)
    write(store_url, [Deleted("x:0", at(5), "run"), AuthorDeleted("ann", at(6), "run")])
    assert corrections(results) == []
    assert dump(redis) == {}
    assert not [key for key in redis.scan_iter() if b"correct" in key]


def test_an_edit_after_a_relabel_counts_as_the_model_says(store_url: str, redis: Redis, predict: Predict) -> None:
    edited = predict(revision=2, text="edited", probabilities=(0.1, 0.8, 0.1))
    write(store_url, [Scored(edited, at(1), "run")])
    alone = dump(redis)
    redis.flushall()
    write(store_url, [Scored(predict(), at(0), "run")])
    relabel(Results(redis, "t"), "x:1", "negative", by="ann", at=NOON)
    assert write(store_url, [Scored(edited, at(1), "run")]) == [{"edits": 1}]
    assert dump(redis) == alone
    assert corrections(Results(redis, "t"))[0].revision == 0


def test_two_people_at_once_lose_nothing(store_url: str, redis: Redis, predict: Predict) -> None:
    write(store_url, [Scored(predict(), at(0), "run")])
    before = dump(redis)

    def insist(label: str) -> None:
        with Redis.from_url(store_url) as client:
            for _ in range(15):
                relabel(Results(client, "t"), "x:1", label, by=label, at=NOON)

    people = [threading.Thread(target=insist, args=(label,)) for label in LABELS]
    for person in people:
        person.start()
    for person in people:
        person.join()
    results = Results(redis, "t")
    assert len(corrections(results)) == 45
    assert results.total().posts == results.total().corrected == 1
    relabel(results, "x:1", None, by="ann", at=NOON)
    assert dump(redis) == before


def test_a_post_that_never_stands_still_is_told(
    store_url: str, redis: Redis, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(store_url, [Scored(predict(), at(0), "run")])
    monkeypatch.setattr(amendments, "_amend", lambda *_: False)
    with pytest.raises(RuntimeError, match="changed 20 times"):
        relabel(Results(redis, "t"), "x:1", "neutral", by="ann", at=NOON)
    with pytest.raises(RuntimeError, match="changed 20 times"):
        retag(Results(redis, "t"), "x:1", ["coffee"])


def test_a_redelivery_after_a_relabel_changes_nothing(store_url: str, redis: Redis, predict: Predict) -> None:
    batch = [Scored(predict(), at(5), "run")]
    write(store_url, batch)
    relabel(Results(redis, "t"), "x:1", "neutral", by="ann", at=NOON)
    before = dump(redis)
    again = Scored(predict(), at(9), "run")
    assert write(store_url, batch, [again]) == [{"redelivered": 1}, {"duplicates": 1}]
    assert dump(redis) == before
    assert redis.exists(Keys("t", 0).corrections("x:1"))
