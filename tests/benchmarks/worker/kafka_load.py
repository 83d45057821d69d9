"""Generator of load for consumers of Kafka: sends a stretch of the feed, then reads from Redis when each was written.

A process of its own, on the cores of what it measures: records are made beforehand. Redis itself says when (the id of a
stream's entry is its time), so nobody has to watch.

    python -m tests.benchmarks.worker.kafka_load --kafka A --topic T --redis URL --stream KEY --feed FILE
        --first N --count N [--rate R]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaProducer
from redis.asyncio import Redis

from inference_worker.contract import decode_prediction
from ingest.contract import Post, encode
from tests.benchmarks.worker import feed
from tests.benchmarks.worker.arrivals import Outcomes, poisson

POLL_S: Final = 0.05
LINGER_MS: Final = 5
"""Where all are sent at once, so that they go in batches."""
LEAD_S: Final = 1.0
"""In which the records are made; each says when it is due."""
TIMEOUT_S: Final = 180.0


async def send(
    producer: AIOKafkaProducer, topic: str, posts: Sequence[Post], due_s: Sequence[float]
) -> tuple[float, float]:
    """Each when it is due; the start, and how late the latest was."""
    began_s, late_s = time.time() + LEAD_S, 0.0
    records = [
        (
            post.id.encode(),
            encode(msgspec.structs.replace(post, ingested_at=datetime.fromtimestamp(began_s + due, UTC))),
        )
        for post, due in zip(posts, due_s, strict=True)
    ]
    began_s = max(began_s, time.time())
    for (key, value), due in zip(records, due_s, strict=True):
        ahead_s = began_s + due - time.time()
        if ahead_s > 0:
            await asyncio.sleep(ahead_s)
        elif due:
            late_s = max(late_s, -ahead_s)
        await producer.send(topic, value=value, key=key)
    await producer.flush()
    return began_s, late_s


async def written(redis: Any, stream: str, wanted: dict[str, float]) -> dict[str, float]:
    """When each of the wanted was written; waits for all of them."""
    found: dict[str, float] = {}
    last = "-"
    async with asyncio.timeout(TIMEOUT_S):
        while len(found) < len(wanted):
            await asyncio.sleep(POLL_S)
            if await redis.xlen(stream) < len(wanted):
                continue
            for entry_id, fields in await redis.xrange(stream, min=last, count=10_000):
                last = f"({entry_id.decode()}"
                if (post_id := _post_id(fields)) in wanted:
                    found[post_id] = int(entry_id.split(b"-")[0]) / 1000
    return found


def _post_id(fields: dict[bytes, bytes]) -> str:
    """The worker writes predictions, the naive consumer the id beside its answer."""
    return fields[b"id"].decode() if b"id" in fields else decode_prediction(fields[b"p"]).id


async def measure(options: argparse.Namespace) -> Outcomes:
    posts = feed.read(options.feed, options.first, options.count)
    due_s = poisson(options.rate, len(posts), seed=options.first) if options.rate else [0.0] * len(posts)
    async with (
        AIOKafkaProducer(
            bootstrap_servers=options.kafka, acks="all", linger_ms=0 if options.rate else LINGER_MS
        ) as producer,
        Redis.from_url(options.redis) as redis,
    ):
        await producer.partitions_for(options.topic)
        began_s, late_s = await send(producer, options.topic, posts, due_s)
        done = await written(redis, options.stream, {post.id: 0.0 for post in posts})
        await redis.delete(options.stream)
    return Outcomes([began_s + due for due in due_s], [done[post.id] for post in posts], late_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--kafka", "--topic", "--redis", "--stream"):
        parser.add_argument(name, required=True)
    parser.add_argument("--feed", type=Path, required=True)
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--rate", type=float, default=0.0, help="posts a second; all at once by default")
    print(json.dumps(asyncio.run(measure(parser.parse_args())).summary()))


if __name__ == "__main__":
    main()
