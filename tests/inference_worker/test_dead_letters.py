"""Letters in a real store: set aside, sent again, failed anew, dropped and deleted, and counted once throughout."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from redis import Redis
from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from redis.cluster import RedisCluster

from deploy.accounting import settled
from deploy.children import Child
from deploy.servers import free_port, redis_answers, until_ready
from inference_worker import dead_letters
from inference_worker.contract import Prediction, Results
from inference_worker.settings import Settings
from inference_worker.store import AuthorDeleted, Deleted, Failed, Scored, Store, Withdrawn, Write
from tests.inference_worker.test_store import at, opened, write

Predict = Callable[..., Prediction]


def letter(offset: int, post_id: str | None = "x:1", author: str | None = None) -> Failed:
    return Failed("no text", post_id, 7, at(offset), "run", author, "worker-1", "onnx")


def mark_sent(redis: Redis, place: str) -> bool:
    """What `retry` notes when Kafka has acknowledged."""
    results = Results(redis, "t")
    before = results.dead_letters_by_place()[place]
    after = replace(before, retried_at=datetime.now(UTC))
    return dead_letters._handle(results, place, before, "retried", 0, after=after)


def test_a_letter_says_who_gave_it_up_and_keeps_it_under_its_place(store_url: str, redis: Redis) -> None:
    write(store_url, [letter(3), letter(5, None)], shards=4)
    found = Results(redis, "t").dead_letters_by_place()
    assert set(found) == {"0:3:1003", "0:5:1005"}
    one = found["0:3:1003"]
    assert (one.key, one.worker, one.engine, one.run, one.retried_at) == ("x:1", "worker-1", "onnx", "run", None)


@pytest.mark.parametrize("noted", [True, False])
def test_a_letter_that_is_scored_after_all_counts_as_scored_only(
    store_url: str, redis: Redis, predict: Predict, noted: bool
) -> None:
    """Not noted: it was redelivered, or the one who sent it again died before the note."""
    write(store_url, [letter(3), letter(4, "x:2")])
    results = Results(redis, "t")
    if noted:
        assert mark_sent(redis, "0:3:1003")
        assert results.dead_letters_by_place()["0:3:1003"].retried_at is not None
    again = [Scored(predict(), at(3), "run")]
    assert write(store_url, again, again) == [{"scored": 1}, {"redelivered": 1}]
    assert set(results.dead_letters_by_place()) == {"0:4:1004"}
    counts = results.counters("run")
    assert (counts["scored"], counts["dead_letters"], counts.get("retried", 0)) == (1, 1, noted)
    assert results.counters() == counts


def test_a_letter_that_fails_anew_is_counted_once_and_tells_the_newest_failure(store_url: str, redis: Redis) -> None:
    write(store_url, [letter(3)])
    mark_sent(redis, "0:3:1003")
    newest = Failed("no memory", "x:1", 7, at(3), "run", None, "worker-2", "onnx")
    assert write(store_url, [newest]) == [{"redelivered": 1}]
    (found,) = Results(redis, "t").dead_letters()
    assert (found.error, found.worker, found.retried_at) == ("no memory", "worker-2", None)
    assert Results(redis, "t").counters()["dead_letters"] == 1


def test_the_note_of_a_retry_never_covers_a_newer_failure(store_url: str, redis: Redis) -> None:
    write(store_url, [letter(3)])
    results = Results(redis, "t")
    before = results.dead_letters_by_place()["0:3:1003"]
    write(store_url, [replace_error(letter(3), "no memory")])
    after = replace(before, retried_at=datetime.now(UTC))
    assert not dead_letters._handle(results, "0:3:1003", before, "retried", 0, after=after)
    assert not dead_letters.drop(results, "0:3:1003", before, rollup_retention_s=0)
    (found,) = results.dead_letters()
    assert (found.error, found.retried_at) == ("no memory", None)
    assert results.counters() == {"dead_letters": 1, "redelivered": 1, "retried": 1}


def replace_error(failed: Failed, error: str) -> Failed:
    return Failed(error, failed.key, failed.size, failed.position, failed.run)


def test_a_dropped_letter_stays_counted_and_does_not_come_back(store_url: str, redis: Redis) -> None:
    write(store_url, [letter(3)])
    results = Results(redis, "t")
    found = results.dead_letters_by_place()
    assert dead_letters.drop(results, "0:3:1003", found["0:3:1003"], rollup_retention_s=0)
    assert not dead_letters.drop(results, "0:3:1003", found["0:3:1003"], rollup_retention_s=0)
    assert write(store_url, [letter(3)]) == [{"redelivered": 1}]
    assert results.dead_letters() == []
    assert results.counters("run") == {"dead_letters": 1, "dropped": 1, "redelivered": 1}


def test_a_letter_superseded_meanwhile_changes_nothing_and_leaves_the_list(
    store_url: str, redis: Redis, predict: Predict
) -> None:
    write(store_url, [letter(3)], [Scored(predict(revision=1, text="newer"), at(4), "run")])
    assert write(store_url, [Withdrawn("x:1", 0, at(3), "run")]) == [{"redelivered": 1}]
    results = Results(redis, "t")
    assert results.dead_letters() == []
    assert (results.counters()["dead_letters"], results.counters()["scored"]) == (1, 1)
    assert results.prediction("x:1").text == "newer"


def test_an_edit_that_was_set_aside_replaces_its_post(store_url: str, redis: Redis, predict: Predict) -> None:
    write(store_url, [Scored(predict(), at(2), "run")], [letter(3)])
    assert write(store_url, [Scored(predict(revision=1, text="edited"), at(3), "run")]) == [{"edits": 1}]
    results = Results(redis, "t")
    assert results.counters("run") == {"scored": 1, "edits": 1, "dead_letters": 0}
    assert results.prediction("x:1").text == "edited"
    assert results.total().posts == 1


GONE = {
    "the post": Deleted("x:1", at(5), "gone"),
    "its author": AuthorDeleted("ann", at(5), "gone"),
}


@pytest.mark.parametrize("deletion", GONE.values(), ids=GONE.keys())
@pytest.mark.parametrize("is_author_known", [True, False])
def test_what_was_deleted_after_it_was_set_aside_does_not_come_back(
    store_url: str, redis: Redis, predict: Predict, deletion: Write, is_author_known: bool
) -> None:
    """An author is unknown of a record that could not be read, but can be by the worker it is sent to again."""
    write(store_url, [letter(3, author="ann" if is_author_known else None)], [deletion], shards=3)
    again = Scored(predict(author="ann"), at(3), "run")
    write(store_url, [again], [again], [letter(3, author="ann")], shards=3)
    results = Results(redis, "t")
    counts = results.counters("run")
    assert sum(counts.get(name, 0) for name in ("scored", "stale", "dead_letters")) == 1
    assert counts.get("scored", 0) == 0
    assert results.prediction("x:1") is None
    assert results.total().posts == 0
    assert results.dead_letters() == []


def test_a_record_settled_under_another_name_is_released_from_its_letter(store_url: str, redis: Redis) -> None:
    """The deletion of an author, once unreadable: it is counted where the author is, not where its letter was."""
    write(store_url, [letter(3, None)], shards=5)
    results = Results(redis, "t")
    before = results.dead_letters_by_place()["0:3:1003"]
    assert dead_letters._handle(results, "0:3:1003", before, "retried", 0, is_released=True)
    assert write(store_url, [AuthorDeleted("ann", at(3), "run")], shards=5) == [{"deletions": 1}]
    assert results.dead_letters() == []
    assert results.counters("run") == {"dead_letters": 0, "retried": 1, "deletions": 1}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    """A Redis Cluster of one node: it refuses a call that touches two hash slots, as one of many does."""
    from deploy.servers import _valkey_binary

    port, bus = free_port(), free_port()
    command = [_valkey_binary(), "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(tmp_path)]
    command += ["--cluster-enabled", "yes", "--cluster-port", str(bus)]
    with asyncio.Runner() as runner:
        child = Child("cluster", command, log_path=tmp_path / "cluster.log")
        try:
            runner.run(until_ready(child, lambda: redis_answers(f"redis://127.0.0.1:{port}/0")))
            with Redis(port=port) as node:
                node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
                runner.run(until_ready(child, lambda: is_whole(port)))
            with RedisCluster(host="127.0.0.1", port=port) as client:
                yield client
        finally:
            runner.run(child.stop())


async def is_whole(port: int) -> bool:
    with Redis(port=port) as node:
        return "cluster_state:ok" in str(node.execute_command("CLUSTER", "INFO"))


def test_letters_are_handled_on_a_cluster(cluster: RedisCluster, predict: Predict) -> None:
    (node,) = cluster.get_nodes()

    async def fill(writes: list[Write]) -> None:
        async with AsyncRedisCluster(host=node.host, port=node.port) as client:
            store = Store(client, Settings(namespace="t", shards=8), model="test 1")
            await store.open()
            await store.write(writes)

    asyncio.run(fill([letter(number, f"x:{number}") for number in range(20)]))
    results = Results(cluster, "t")
    found = results.dead_letters_by_place()
    assert len(found) == 20
    dropped, sent = list(found)[0], list(found)[1]
    assert dead_letters.drop(results, dropped, found[dropped], rollup_retention_s=0)
    after = replace(found[sent], retried_at=datetime.now(UTC))
    assert dead_letters._handle(results, sent, found[sent], "retried", 0, after=after)
    asyncio.run(fill([Scored(predict(found[sent].key), at(found[sent].offset), "run")]))
    assert len(results.dead_letters()) == 18
    assert results.counters("run") == {"dead_letters": 19, "dropped": 1, "retried": 1, "scored": 1}


def test_what_was_scored_before_becomes_no_letter(store_url: str, redis: Redis, predict: Predict) -> None:
    """An older worker that reads the topic again cannot read the record."""
    assert write(store_url, [Scored(predict(), at(3), "run")], [letter(3)]) == [{"scored": 1}, {"redelivered": 1}]
    assert Results(redis, "t").dead_letters() == []
    assert Results(redis, "t").counters("run") == {"scored": 1, "redelivered": 1}


@dataclass(frozen=True)
class Step:
    """What happens to record `which` of a partition, counted modulo; `next` is the first delivery of one more."""

    do: str
    which: int
    is_ok: bool


posts = st.tuples(st.just("post"), st.integers(0, 1), st.integers(0, 2), st.integers(0, 1))
deletions = st.tuples(st.sampled_from(("delete", "forget")), st.integers(0, 1))
steps = st.builds(
    Step, st.sampled_from(("next", "next", "again", "again", "note", "drop")), st.integers(0, 30), st.booleans()
)


class Partition:
    """Delivers records as a worker would write them, one that fails at some."""

    def __init__(self, store: Store, redis: Redis, records: list[tuple[Any, ...]], predict: Predict) -> None:
        self.store, self.redis, self.records, self.predict = store, redis, records, predict
        self.results = Results(redis, "t")
        self.delivered = 0

    async def take(self, step: Step) -> None:
        following = self.records[self.delivered : self.delivered + 2]
        if step.do == "next" and following:
            is_swapped = step.which % 2 and [kind for kind, *_ in following] == ["post", "forget"]
            indices = [self.delivered + n for n in range(2 if is_swapped else 1)]
            self.delivered += len(indices)
            for index in reversed(indices):
                await self.deliver(index, step.is_ok)
        elif step.do == "again" and self.delivered:
            await self.deliver(step.which % self.delivered, step.is_ok)
        elif step.do in ("note", "drop") and (waiting := self.results.dead_letters_by_place()):
            place = sorted(waiting)[step.which % len(waiting)]
            if step.do == "note":
                mark_sent(self.redis, place)
            else:
                assert dead_letters.drop(self.results, place, waiting[place], rollup_retention_s=0)

    async def deliver(self, index: int, is_ok: bool) -> None:
        kind, name, *rest = self.records[index]
        position, post_id, author = at(index), f"x:{name}", f"author-{rest[-1] if rest else name}"
        write: Write
        if kind == "delete":
            write = Deleted(post_id, position, "run")
        elif kind == "forget":
            write = AuthorDeleted(author, position, "run")
        else:
            (standing,) = await self.store.standings([(post_id, rest[0], position)])
            if not is_ok:  # of a record that cannot be read nobody knows the author
                write = Failed("no", post_id, 7, position, "run", author if index % 2 else None)
            elif standing == "new":
                prediction = self.predict(post_id, revision=rest[0], author=author, text=str(index))
                write = Scored(prediction, position, "run")
            else:
                write = Withdrawn(post_id, rest[0], position, "run")
        await self.store.write([write])

    def is_gone(self, index: int) -> bool:
        """A deletion came after the post."""
        _, name, _, author = self.records[index]
        later = self.records[index + 1 : self.delivered]
        return ("delete", name) in later or ("forget", author) in later


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(posts, posts, posts, deletions), min_size=1, max_size=7), st.lists(steps, max_size=25))
def test_whatever_is_done_to_letters_each_record_counts_once_and_what_was_deleted_is_gone(
    store_url: str, redis: Redis, predict: Predict, records: list[tuple[Any, ...]], script: list[Step]
) -> None:
    redis.flushall()

    async def play() -> Partition:
        async with opened(store_url) as store:
            partition = Partition(store, redis, records, predict)
            for step in script:
                await partition.take(step)
            assert settled(partition.results.counters("run")) == partition.delivered
            for place in partition.results.dead_letters_by_place():
                await partition.deliver(int(place.split(":")[1]), True)
            return partition

    partition = asyncio.run(play())
    results = partition.results
    assert results.dead_letters() == []
    counts = results.counters("run")
    assert settled(counts) == partition.delivered
    assert min(counts.values(), default=0) >= 0
    left = results.predictions(["x:0", "x:1"])
    assert not [one for one in left if partition.is_gone(int(one.text))]
    assert results.total().posts == len(left)
