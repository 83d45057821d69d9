"""How long after it is sent a deletion has taken its post, or its author's posts, out of everything.

`python -m tests.benchmarks.forgetting --json [--quick]`: the embedded stack with one real worker. First a burst says
what the worker can do; then posts arrive at a share of that, and some of them, or all of an author's, are deleted 0 to
3 s later. Gone means: the deletion is through (what comes later of before it is refused), and there is no post,
thumbnails, entry in a tail or rollup of a topic that only the deleted had. At the end all rollups are compared with
sums over the posts that are left.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import numpy as np
from aiokafka import AIOKafkaProducer
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from deploy.accounting import settled
from deploy.local import open_stack
from inference_worker.contract import ALL, SPAN_S, Keys, Results, UnknownNamespace
from ingest.contract import RUN_HEADER, Deletion, Post, encode, posts_topic
from tests.benchmarks.recomputed import LEVELS, rollups_are_exact

WORDS: Final = ("the tram", "is late again", "my coffee", "was lovely", "but", "this new phone", "really annoys me")
TICK_S: Final = 0.02
POSTS_OF_AN_AUTHOR: Final = 10
LATEST_DELETION_S: Final = 3.0
GONE_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """burst: posts that show the capacity; load: share of it offered for `seconds`, or longer to send `least` posts."""

    burst: int
    seconds: float
    least: int = 160
    load: float = 0.8


QUICK: Final = Plan(burst=1500, seconds=15)
FULL: Final = Plan(burst=4000, seconds=60)


@dataclass
class Target:
    """What is deleted together: one post or an author's; `topic` is theirs alone."""

    posts: list[Post]
    topic: str
    author: str | None = None
    sent_at_s: float = 0.0
    gone_after_s: float | None = None


@dataclass
class Feed:
    """Made-up posts in the order they are sent, and what is to be deleted how long after the start."""

    posts: list[Post] = field(default_factory=list)
    deletions: list[tuple[float, Target]] = field(default_factory=list)

    @classmethod
    def make(cls, count: int, rate: float, chance: random.Random) -> Feed:
        """Each fifth author is deleted with all of theirs, and one post of each other author."""
        feed = cls()
        author_gone: Target | None = None
        for number in range(count):
            author, sent_s = number // POSTS_OF_AN_AUTHOR, number / rate
            is_gone, alone = author % 5 == 0, number % POSTS_OF_AN_AUTHOR == 5
            topic = f"author-{author}" if is_gone else f"post-{number}"
            post = make_post(f"{number}", chance, author=f"{author:032x}", topics=(topic,) if is_gone or alone else ())
            feed.posts.append(post)
            delay_s = chance.uniform(0, LATEST_DELETION_S)
            if is_gone:
                if author_gone is None or author_gone.topic != topic:
                    author_gone = Target([], topic, post.author)
                    last_s = (author * POSTS_OF_AN_AUTHOR + POSTS_OF_AN_AUTHOR) / rate
                    feed.deletions.append((last_s + delay_s, author_gone))
                author_gone.posts.append(post)
            elif alone:
                feed.deletions.append((sent_s + delay_s, Target([post], topic)))
        feed.deletions.sort(key=lambda deletion: deletion[0])
        return feed


def make_post(name: str, chance: random.Random, *, author: str | None = None, topics: tuple[str, ...] = ()) -> Post:
    now = datetime.now(UTC)
    text = " ".join(chance.choices(WORDS, k=chance.choice((2, 4, 6, 10, 20))))
    return Post(
        id=f"test:{name}", source="test", created_at=now, ingested_at=now, text=text, author=author, topics=topics
    )


class Run:
    """One measurement in a namespace whose worker is ready."""

    def __init__(self, producer: AIOKafkaProducer, redis: AsyncRedis, results: Results, plan: Plan) -> None:
        self.producer, self.results, self.plan = producer, results, plan
        self.redis: Any = redis  # redis-py types every reply as bytes or str
        self.keys = Keys(results.namespace, 0)
        self.topic = posts_topic(results.namespace)
        self.chance = random.Random(7)
        self.sent = 0

    async def measure(self) -> dict[str, Any]:
        capacity = await self.capacity()
        rate = self.plan.load * capacity
        feed = Feed.make(max(int(rate * self.plan.seconds), self.plan.least), rate, self.chance)
        watching: list[asyncio.Task[None]] = []
        began_s = time.monotonic()
        posts, deletions = iter(feed.posts), list(feed.deletions)
        late_s = 0.0
        for number, post in enumerate(posts):
            due_s = number / rate
            while (ahead_s := due_s - (time.monotonic() - began_s)) > 0:
                await asyncio.sleep(min(ahead_s, TICK_S))
            late_s = max(late_s, -ahead_s)
            await self._send(msgspec.structs.replace(post, ingested_at=datetime.now(UTC)), post.id.encode())
            while deletions and deletions[0][0] <= due_s:
                watching.append(asyncio.create_task(self._delete(deletions.pop(0)[1])))
        for _, target in deletions:
            watching.append(asyncio.create_task(self._delete(target)))
        await asyncio.gather(*watching)
        await self._until_settled()
        targets = [target for _, target in feed.deletions]
        return {
            "capacity_posts_per_s": round(capacity, 1),
            "load": self.plan.load,
            "offered_posts_per_s": round(rate, 1),
            "sender_late_ms": round(late_s * 1000),
            "posts": len(feed.posts),
            "post_deletions": _summary([target for target in targets if target.author is None]),
            "author_deletions": _summary([target for target in targets if target.author is not None]),
            "worker_latency_ms": await asyncio.to_thread(self._worker_latency),
            "rollups_exact": await asyncio.to_thread(rollups_are_exact, self.results),
        }

    async def capacity(self) -> float:
        """Posts per second of a burst, from the first one settled to the last."""
        for number in range(self.plan.burst):
            await self._send(post := make_post(f"burst-{number}", self.chance), post.id.encode())
        before, began_s = await self._settled(), time.monotonic()
        await self._until_settled()
        return (self.sent - before) / (time.monotonic() - began_s)

    async def _send(self, record: Post | Deletion, key: bytes | None, partition: int | None = None) -> None:
        self.sent += 1
        headers = [(RUN_HEADER, b"forgetting")]
        await self.producer.send(self.topic, value=encode(record), key=key, headers=headers, partition=partition)

    async def _delete(self, target: Target) -> None:
        """Sends the deletion and waits until nothing is left."""
        now = datetime.now(UTC)
        target.sent_at_s = time.monotonic()
        if target.author is not None:
            gone = Deletion(source="test", deleted_at=now, ingested_at=now, author=target.author)
            for partition in sorted(await self.producer.partitions_for(self.topic)):
                await self._send(gone, None, partition)
        else:
            (post,) = target.posts
            await self._send(
                Deletion(source="test", deleted_at=now, ingested_at=now, post_id=post.id), post.id.encode()
            )
        while not await self._is_gone(target):
            if time.monotonic() - target.sent_at_s > GONE_TIMEOUT_S:
                raise TimeoutError(f"{target.topic} is still there after {GONE_TIMEOUT_S} s")
            await asyncio.sleep(TICK_S)
        target.gone_after_s = time.monotonic() - target.sent_at_s

    async def _is_gone(self, target: Target) -> bool:
        ids, topic, keys = [post.id for post in target.posts], target.topic, self.keys
        times_s = [int(post.created_at.timestamp()) for post in target.posts]
        left_overs = {keys.rollup(level, at_s // SPAN_S[level], topic) for level in LEVELS for at_s in times_s}
        left_overs |= {key(post_id) for post_id in ids for key in (keys.post, keys.thumbnails)}
        pipeline = self.redis.pipeline(transaction=False)
        pipeline.exists(keys.tail(topic), *left_overs)
        pipeline.zmscore(keys.tail(ALL), ids)
        if target.author is None:
            pipeline.mget([keys.receipt(post_id) for post_id in ids])
        else:
            partitions = await self.producer.partitions_for(self.topic)
            pipeline.mget([keys.forgotten(partition, target.author) for partition in partitions])
        left, in_tail, records = await pipeline.execute()
        is_through = _is_tombstone if target.author is None else _is_counted
        return not left and set(in_tail) == {None} and all(map(is_through, records))

    async def _settled(self) -> int:
        return settled(await asyncio.to_thread(self.results.counters, "forgetting"))

    async def _until_settled(self) -> None:
        await self.producer.flush()
        async with asyncio.timeout(300):
            while await self._settled() < self.sent:
                await asyncio.sleep(TICK_S)

    def _worker_latency(self) -> dict[str, float]:
        state = self.results.workers()[0]
        return {"p50": round(state.latency_p50_ms), "p99": round(state.latency_p99_ms)}


def _is_tombstone(packed: bytes | None) -> bool:
    """A receipt without a share: its sixth field."""
    return packed is not None and len(msgspec.msgpack.decode(packed)) < 6


def _is_counted(packed: bytes | None) -> bool:
    """The mark of an author's deletion once all of theirs was looked through."""
    return packed is not None and msgspec.msgpack.decode(packed)[0] == 1


def _summary(targets: Sequence[Target]) -> dict[str, float]:
    times_ms = [target.gone_after_s * 1000 for target in targets if target.gone_after_s is not None]
    p50, p99 = np.percentile(times_ms, [50, 99])
    return {"count": len(times_ms), "p50_ms": round(p50), "p99_ms": round(p99), "max_ms": round(max(times_ms))}


async def measure(kafka: str, redis_url: str, namespace: str, plan: Plan) -> dict[str, Any]:
    """In a namespace that has a worker."""
    results = Results(Redis.from_url(redis_url), namespace)
    async with (
        AsyncRedis.from_url(redis_url) as redis,
        AIOKafkaProducer(bootstrap_servers=kafka, acks="all", linger_ms=5) as producer,
    ):
        return await Run(producer, redis, results, plan).measure()


async def run(plan: Plan) -> dict[str, Any]:
    """On a stack of its own."""
    async with open_stack() as stack:
        stack.run("worker", "inference_worker", environment={"MOODSTREAM_NAMESPACE": "bench"})
        results = Results(Redis.from_url(stack.redis), "bench")
        async with stack.watched(), asyncio.timeout(600):
            while not await asyncio.to_thread(_has_worker, results):
                await asyncio.sleep(0.2)
            return await measure(stack.kafka, stack.redis, "bench", plan)


def _has_worker(results: Results) -> bool:
    try:
        return bool(results.shards() and results.workers())
    except UnknownNamespace:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.benchmarks.forgetting", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object, last on stdout")
    parser.add_argument("--quick", action="store_true", help="a run under a minute")
    arguments = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    result = asyncio.run(run(QUICK if arguments.quick else FULL))
    for kind in ("post_deletions", "author_deletions"):
        figures = "  ".join(f"{name} {value}" for name, value in result[kind].items())
        sys.stderr.write(f"{kind:18}{figures}\n")
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
