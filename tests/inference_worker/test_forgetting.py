"""Posts and authors that ask to be forgotten: whatever arrives how often, only the survivors are left, to the byte."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from deploy.accounting import SETTLED
from inference_worker import store as store_module
from inference_worker.contract import ALL, Keys, Prediction, Results
from inference_worker.settings import DAY_S
from inference_worker.store import AuthorDeleted, Deleted, Failed, Position, Scored, Standing, Withdrawn, Write
from tests.inference_worker.conftest import NOON
from tests.inference_worker.test_store import at, dump, opened, write

Predict = Callable[..., Prediction]
CLASSES = ((0.8, 0.1, 0.1), (0.1, 0.8, 0.1), (0.1, 0.1, 0.8))
TOPICS = ((), ("tram",), ("coffee", "tram"))
PARTITIONS = 2


def counted(counts: dict[str, int]) -> int:
    return sum(counts.get(name, 0) for name in SETTLED)


def test_an_authors_deletion_takes_what_came_before_it_in_its_partition(
    store_url: str, redis: Redis, predict: Predict
) -> None:
    def post(name: str, position: Position, author: str = "ann") -> Scored:
        return Scored(predict(name, author=author, images=1), position, "run", (b"jpeg",))

    kept = [post("x:3", at(7)), post("x:4", at(1, partition=1)), post("x:5", at(3), "ben")]
    write(store_url, kept, shards=3)
    alone = dump(redis)
    redis.flushall()
    gone = AuthorDeleted("ann", at(5), "run")
    outcomes = write(store_url, [post("x:1", at(0)), post("x:2", at(4)), *kept[1:]], [gone], kept[:1], [gone], shards=3)
    assert outcomes == [{"scored": 4}, {"deletions": 1}, {"scored": 1}, {"redelivered": 1}]
    assert dump(redis) == alone
    results = Results(redis, "t")
    assert {one.id for one in results.tail()} == {one.id for one in results.drain_results()} == {"x:3", "x:4", "x:5"}
    assert [results.prediction(name) for name in ("x:1", "x:2")] == [None, None]
    assert results.thumbnails([("x:1", 0), ("x:3", 0)]) == [None, b"jpeg"]
    assert results.counters("run") == {"scored": 5, "deletions": 1, "forgotten": 2, "redelivered": 1}
    assert write(store_url, [post("x:1", at(9))]) == [{"stale": 1}]  # another host brings it again


def test_a_post_still_being_scored_when_its_author_was_forgotten_is_refused(
    store_url: str, redis: Redis, predict: Predict
) -> None:
    late, later = (Scored(predict(f"x:{n}", author="ann"), at(n), "run") for n in (3, 6))
    outcomes = write(store_url, [AuthorDeleted("ann", at(5), "run")], [late], [late], [later])
    assert outcomes == [{"deletions": 1}, {"stale": 1}, {"redelivered": 1}, {"scored": 1}]
    assert [one.id for one in Results(redis, "t").tail()] == ["x:6"]


def test_an_authors_deletion_reaches_back_into_the_topic_before_this_one(
    store_url: str, redis: Redis, predict: Predict
) -> None:
    """The topic was recreated: offsets began again, time stamps did not."""
    old = Scored(predict("x:1", author="ann"), at(900, timestamp_ms=1_000), "run")
    new = Scored(predict("x:2", author="ann"), at(9, timestamp_ms=9_000), "run")
    write(store_url, [old], [AuthorDeleted("ann", at(3, timestamp_ms=5_000), "run")], [new])
    assert [one.id for one in Results(redis, "t").tail()] == ["x:2"]


def test_a_large_author_is_forgotten_in_bounded_steps_also_when_redis_is_lost_on_the_way(
    store_url: str, redis: Redis, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    posts = [
        Scored(predict(f"x:{n}", author="ann", created_at=NOON + timedelta(minutes=n)), at(n), "run")
        for n in range(1000)
    ]
    gone = AuthorDeleted("ann", at(1000), "run")
    monkeypatch.setattr(store_module, "FORGET_STEP", 50)
    taken: list[int] = []

    async def run() -> None:
        async with opened(store_url, shards=2) as store:
            for start in range(0, 1000, 100):
                await store.write(posts[start : start + 100])
            call = store._call

            async def cut(*arguments: object) -> list[bytes]:
                before = Results(redis, "t").total().posts
                outcome = await call(*arguments)  # type: ignore[arg-type]
                taken.append(before - Results(redis, "t").total().posts)
                if len(taken) == 3:
                    raise RedisConnectionError("the worker dies here")
                return outcome

            monkeypatch.setattr(store, "_call", cut)
            with pytest.raises(RedisConnectionError):
                await store.write([gone])
            assert Results(redis, "t").counters().get("deletions", 0) == 0
            assert await store.write([gone]) == {"deletions": 1}

    asyncio.run(run())
    assert len(taken) > 10
    assert 0 < max(taken) < 200
    assert dump(redis) == {}
    assert Results(redis, "t").counters()["forgotten"] == sum(taken) == 1000


def test_a_post_withdrawn_for_its_deletion_is_accounted_for(store_url: str, redis: Redis) -> None:
    batch = [Withdrawn("x:1", 0, at(0), "run"), Deleted("x:1", at(1), "run")]
    assert write(store_url, batch, batch) == [{"stale": 1, "deletions": 1}, {"redelivered": 2}]


def test_a_post_withdrawn_for_its_author_is_counted_once(store_url: str, redis: Redis, predict: Predict) -> None:
    batch = [Withdrawn("x:1", 0, at(0), "run"), AuthorDeleted("ann", at(1), "run")]
    again = Scored(predict(author="ann"), at(0), "run")
    assert write(store_url, batch, batch, [again]) == [
        {"stale": 1, "deletions": 1}, {"redelivered": 2}, {"redelivered": 1}
    ]  # fmt: skip


def test_receipts_say_which_posts_need_no_scoring(store_url: str, redis: Redis, predict: Predict) -> None:
    asked = {
        ("x:1", 0, at(9)): "superseded",  # a duplicate
        ("x:1", 1, at(9)): "new",  # an edit
        ("x:1", 1, at(0)): "redelivered",
        ("x:1", 1, at(0, partition=1)): "new",
        ("x:1", 1, at(0, timestamp_ms=9_000)): "new",  # of a recreated topic
        ("x:2", 5, at(9)): "superseded",  # deleted
        ("x:3", 0, at(9)): "new",
    }

    async def ask() -> list[Standing]:
        async with opened(store_url, shards=3) as store:
            await store.write([Scored(predict(), at(0), "run"), Deleted("x:2", at(1), "run")])
            return await store.standings(list(asked))

    assert asyncio.run(ask()) == list(asked.values())


def test_a_deletion_before_its_post_keeps_the_post_out(store_url: str, redis: Redis, predict: Predict) -> None:
    late = [Scored(predict(revision=revision), at(3 + revision), "run") for revision in (0, 1)]
    assert write(store_url, [Deleted("x:1", at(2), "run")], late) == [{"unseen": 1}, {"stale": 2}]
    assert dump(redis) == {}
    assert Results(redis, "t").counters("run") == {"deletions": 1, "unseen": 1, "stale": 2}


def test_what_is_past_its_receipt_is_counted_and_told(
    store_url: str, redis: Redis, predict: Predict, caplog: pytest.LogCaptureFixture
) -> None:
    write(store_url, [Scored(predict(), at(0), "run")])
    redis.delete(Keys("t", 0).receipt("x:1"))
    before = dump(redis)
    with caplog.at_level("INFO"):
        assert write(store_url, [Deleted("x:1", at(1), "run")]) == [{"unseen": 1}]
    assert dump(redis) == before
    assert "1 deletions of posts without a receipt" in caplog.text
    assert Results(redis, "t").prediction("x:1") is None


def test_nothing_is_subtracted_from_a_rollup_that_has_expired(store_url: str, redis: Redis, predict: Predict) -> None:
    write(store_url, [Scored(predict(), at(0), "run")])
    for key in redis.scan_iter(match="*:minute:*"):
        redis.delete(key)
    write(store_url, [Deleted("x:1", at(1), "run")])
    assert dump(redis) == {}


def test_a_rollup_that_has_expired_is_begun_anew_by_what_comes_now_alone(
    store_url: str, redis: Redis, predict: Predict
) -> None:
    new = Scored(predict("x:2"), at(1), "run")
    write(store_url, [new])
    alone = dump(redis)
    redis.flushall()
    write(store_url, [Scored(predict(), at(0), "run")])
    for key in dump(redis):
        redis.delete(key)
    write(store_url, [new, Deleted("x:1", at(2), "run")])
    assert dump(redis) == alone


def test_a_post_that_comes_and_goes_in_one_batch_leaves_nothing(store_url: str, redis: Redis, predict: Predict) -> None:
    post = Scored(predict(author="ann"), at(0), "run", (b"jpeg",))
    edit = Scored(predict(author="ann", revision=1, topics=("coffee",)), at(1), "run")
    assert write(store_url, [post, post, edit, Deleted("x:1", at(2), "run")]) == [
        {"scored": 1, "redelivered": 1, "edits": 1, "deletions": 1}
    ]
    assert dump(redis) == {}
    assert Results(redis, "t").tail() == list(Results(redis, "t").drain_results()) == []
    assert not redis.exists(Keys("t", 0).author("ann"))


def test_a_late_picture_after_an_edit_or_a_deletion_changes_nothing(
    store_url: str, redis: Redis, predict: Predict
) -> None:
    def late(offset: int) -> Scored:
        return Scored(predict(revision=1, images=1), at(offset), "run", (b"jpeg",))

    edit = Scored(predict(revision=2, text="edited"), at(1), "run")
    outcomes = write(
        store_url, [Scored(predict(), at(0), "run"), edit, late(2)], [Deleted("x:1", at(3), "run"), late(4)]
    )
    assert outcomes == [{"scored": 1, "edits": 1, "stale": 1}, {"deletions": 1, "stale": 1}]
    assert dump(redis) == {}
    assert Results(redis, "t").thumbnails([("x:1", 0)]) == [None]


def test_deletions_take_the_dead_letters_of_a_post_and_of_an_author(store_url: str, redis: Redis) -> None:
    letters = [Failed("no text", f"x:{n}", 7, at(n), "run", "ann" if n else None) for n in range(3)]
    letters.append(Failed("garbage", None, 7, at(3), "run"))
    gone = [Deleted("x:0", at(4), "run"), AuthorDeleted("ann", at(5), "run")]
    again = Failed("no text", "x:1", 7, at(6), "run", "ann")
    assert write(store_url, letters, gone, letters, [again], shards=3) == [
        {"dead_letters": 4}, {"deletions": 2}, {"redelivered": 4}, {"dead_letters": 1}
    ]  # fmt: skip
    assert {letter.offset for letter in Results(redis, "t").dead_letters()} == {3, 6}


def test_text_is_kept_no_longer_than_posts_are(store_url: str, redis: Redis, predict: Predict) -> None:
    write(store_url, [Scored(predict(author="ann"), at(0), "run")], post_retention_s=100)
    keys = Keys("t", 0)
    for key in (keys.post("x:1"), keys.tail(ALL), keys.results):
        assert redis.ttl(key) == 100
    redis.delete(keys.results)
    redis.xadd(keys.results, {"p": b"old"}, id="1000-0")
    write(store_url, [Scored(predict("x:2"), at(1), "run")], post_retention_s=100)
    assert [one.id for one in Results(redis, "t").drain_results()] == ["x:2"]


def test_receipts_outlive_the_rollups_their_posts_entered(store_url: str, redis: Redis, predict: Predict) -> None:
    """A day's rollup is written to, and so renewed, until its 32 days are over."""
    now_s = redis.time()[0]
    span = 32 * DAY_S
    first = datetime.fromtimestamp(now_s // span * span, NOON.tzinfo)
    write(store_url, [Scored(predict(created_at=first), at(0), "run")], rollup_retention_s=1000)
    keys = Keys("t", 0)
    assert redis.ttl(keys.rollup("day", now_s // span, ALL)) == 1000
    assert redis.ttl(keys.receipt("x:1")) == pytest.approx(1000 + span - now_s % span, abs=2)
    redis.expire(keys.rollup("day", now_s // span, ALL), 500)
    write(store_url, [Scored(predict("x:2", created_at=first), at(1), "run")], rollup_retention_s=100)
    write(store_url, [Deleted("x:1", at(2), "run")], rollup_retention_s=1000)
    assert redis.ttl(keys.rollup("day", now_s // span, ALL)) == 100  # forgetting prolongs nothing
    assert write(store_url, [Deleted("x:9", at(3), "run")], rollup_retention_s=90 * DAY_S) == [{"unseen": 1}]
    assert redis.ttl(keys.receipt("x:9")) == 2 * DAY_S


def test_the_index_of_an_author_drops_what_has_expired(store_url: str, redis: Redis, predict: Predict) -> None:
    index = Keys("t", 0).author("ann")
    redis.zadd(index, {"x:old": redis.time()[0] - 33 * DAY_S - 10})
    write(store_url, [Scored(predict(author="ann"), at(0), "run")], rollup_retention_s=DAY_S)
    assert redis.zrange(index, 0, -1) == [b"x:1"]
    write(store_url, [Scored(predict(author="ben", revision=2), at(1), "run")])
    assert not redis.exists(index)
    write(store_url, [Deleted("x:1", at(2), "run")])
    assert not redis.exists(Keys("t", 0).author("ben"))


def test_the_index_of_authors_costs_little(store_url: str, redis: Redis, predict: Predict) -> None:
    """32 hex digits of author, ids as long as X's: about 230 bytes for an author's first post, 30 for each further."""
    posts = [
        Scored(predict(f"x:{1_700_000_000_000_000_000 + n}", author=f"{n % 20:032x}"), at(n), "run") for n in range(600)
    ]
    write(store_url, posts, rollup_retention_s=1000)
    sizes = [redis.memory_usage(Keys("t", 0).author(f"{n:032x}"), samples=0) for n in range(20)]
    assert sum(sizes) / 600 < 50
    redis.flushall()
    write(store_url, posts[:20], rollup_retention_s=1000)
    assert redis.memory_usage(Keys("t", 0).author(f"{0:032x}"), samples=0) < 250


@dataclass(frozen=True)
class Entry:
    """One record of a partition's log: kind is post, delete, forget or letter; names are small numbers."""

    kind: str
    name: int
    revision: int
    look: int
    author: int

    @property
    def partition(self) -> int:
        return self.author % PARTITIONS if self.kind == "forget" else self.name % PARTITIONS

    def as_write(self, offset: int, predict: Predict) -> Write:
        position, post_id = at(offset, partition=self.partition), f"x:{self.name}"
        if self.kind == "delete":
            return Deleted(post_id, position, "run")
        if self.kind == "forget":
            return AuthorDeleted(f"a{self.author // PARTITIONS}", position, "run")
        if self.kind == "letter":
            return Failed("poison", post_id, 7, position, "run", self.by)
        prediction = predict(
            post_id,
            revision=self.revision,
            author=self.by,
            probabilities=CLASSES[self.look % 3],
            topics=TOPICS[self.look % len(TOPICS)],
            created_at=NOON + timedelta(hours=self.look),
        )
        return Scored(prediction, position, "run", (b"jpeg",))

    @property
    def by(self) -> str | None:
        """Its author: of a post, always the same."""
        if self.kind == "forget":
            return f"a{self.author // PARTITIONS}"
        return (None, "a0", "a0", "a1", "a0", "a1")[self.name]


async def work_off(url: str, batches: Sequence[Sequence[Write]], shards: int, chance: random.Random) -> None:
    """Now and then the worker asks first which posts need no scoring."""
    async with opened(url, shards=shards) as store:
        for batch in batches:
            posts = {write.position: write for write in batch if isinstance(write, Scored) and chance.random() < 0.5}
            asked = [(one.prediction.id, one.prediction.revision, position) for position, one in posts.items()]
            known = {
                post[2]: Withdrawn(*post, "run")
                for post, standing in zip(asked, await store.standings(asked), strict=True)
                if standing != "new"
            }
            await store.write([known.get(write.position, write) for write in batch])


def survivors(log: Sequence[Entry]) -> tuple[dict[int, Entry], set[int]]:
    """The naive account of one partition: the posts left, and the offsets of the dead letters left."""
    posts: dict[int, Entry | None] = {}
    letters: dict[int, Entry] = {}
    for offset, entry in enumerate(log):
        old = posts.get(entry.name)
        if entry.kind == "letter":
            letters[offset] = entry
        elif entry.kind == "post":
            if entry.name not in posts or (old is not None and entry.revision > old.revision):
                posts[entry.name] = entry
        elif entry.kind == "delete":
            posts[entry.name] = None
            letters = {at: one for at, one in letters.items() if one.name != entry.name}
        else:
            posts = {name: None if one is not None and one.by == entry.by else one for name, one in posts.items()}
            letters = {at: one for at, one in letters.items() if one.by != entry.by}
    return {name: entry for name, entry in posts.items() if entry is not None}, set(letters)


def may_swap(first: Entry, second: Entry) -> bool:
    """Whether a worker may write the second before the first: keys keep their order, an author's deletion may come
    before what it takes, and nothing of the author before the deletion it follows."""
    if "forget" not in (first.kind, second.kind):
        return first.name != second.name
    return first.kind != "forget" or second.by != first.by or second.kind in ("letter", "delete")


def deliveries(log: list[Entry], chance: random.Random) -> Iterator[list[int]]:
    """Batches of offsets as a worker that crashes now and then would write them, until all are acknowledged."""
    done = 0
    while done < len(log):
        window = list(range(chance.randint(0, done), len(log)))[: chance.randint(1, 12)]
        for _ in range(3 * len(window)):
            i = chance.randrange(len(window))
            if i and may_swap(log[window[i - 1]], log[window[i]]):
                window[i - 1], window[i] = window[i], window[i - 1]
        written = window[: chance.randint(1, len(window))] if chance.random() < 0.3 else window
        cut = chance.randint(0, len(written))
        yield written[:cut]
        yield written[cut:]
        done = max(done, next((n for n in range(min(window), len(log)) if n not in written), len(log)))
    yield list(range(chance.randint(0, len(log)), len(log)))


entries = st.builds(
    Entry,
    st.sampled_from(("post", "post", "post", "delete", "forget", "letter")),
    st.integers(0, 5),
    st.integers(0, 3),
    st.integers(0, 4),
    st.integers(0, 2 * PARTITIONS - 1),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(entries, min_size=1, max_size=24), st.integers(0), st.sampled_from((1, 3)))
def test_whatever_arrives_in_whatever_way_only_the_survivors_are_left(
    store_url: str, redis: Redis, predict: Predict, mixed: list[Entry], seed: int, shards: int
) -> None:
    chance = random.Random(seed)
    logs = [[entry for entry in mixed if entry.partition == partition] for partition in range(PARTITIONS)]
    left, letters = {}, set()
    for partition, log in enumerate(logs):
        posts, offsets = survivors(log)
        left |= posts
        letters |= {(partition, offset) for offset in offsets}
    redis.flushall()
    write(store_url, [entry.as_write(n, predict) for n, entry in enumerate(left.values())], shards=shards)
    alone = dump(redis)
    redis.flushall()
    queues = [list(deliveries(log, chance)) for log in logs]
    batches: list[list[Write]] = []
    while any(queues):
        partition = chance.choice([n for n, queue in enumerate(queues) if queue])
        batches.append([logs[partition][n].as_write(n, predict) for n in queues[partition].pop(0)])
    asyncio.run(work_off(store_url, batches, shards, chance))

    assert dump(redis) == alone
    results = Results(redis, "t")
    ids = {f"x:{name}" for name in left}
    assert {one.id for one in results.tail()} == ids
    drained = list(results.drain_results())
    assert {one.id: (one.revision, one.probabilities) for one in drained} == {
        f"x:{name}": (entry.revision, CLASSES[entry.look % 3]) for name, entry in left.items()
    }
    assert len(drained) == len(ids)
    for kind in ("post", "thumbs"):
        assert {key.split(b":", 3)[-1].decode() for key in redis.scan_iter(match=f"*:{kind}:*")} == ids
    assert {(one.partition, one.offset) for one in results.dead_letters()} == letters
    assert counted(results.counters("run")) == len(mixed)
