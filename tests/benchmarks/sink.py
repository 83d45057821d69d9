"""How many results a second the Redis sink takes, and how long a call is: `Store.write` alone, on the embedded store.

Each write is a batch of BATCH results in one call of the script, as the worker makes them: receipt, post, rollups of
minute, hour and day in every topic, tail, results stream. WRITES_IN_FLIGHT calls are under way at once, as in the
worker. `per core`: of this process, which packs the results; the store has its own. `bytes_per_topic_minute`: a
sixtieth of a topic's hour in which every counter is at work.

    python -m tests.benchmarks.sink --json [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from redis.asyncio import Redis

from deploy.servers import start_store
from inference_worker.contract import Keys, Prediction
from inference_worker.pipeline import WRITES_IN_FLIGHT
from inference_worker.settings import Settings
from inference_worker.store import Position, Scored, Store
from tests.benchmarks.worker.usage import Usage

BATCH: Final = 64
ROUNDS: Final = 3
TOPICS: Final = ("tram", "coffee", "phones")
BEGAN: Final = datetime(2026, 5, 4, 12, tzinfo=UTC)
POSTS_A_MINUTE: Final = 2000
TOPIC_POSTS_A_MINUTE: Final = 20
"""Of a topic people watch; `busy` is one that takes all POSTS_A_MINUTE."""


def results(first: int, count: int) -> list[Scored]:
    """Of posts as they follow one another, a third of them in a topic."""
    found = []
    for number in range(first, first + count):
        at = BEGAN + timedelta(minutes=number // POSTS_A_MINUTE)
        fused = ((0.7, 0.2, 0.1), (0.1, 0.8, 0.1), (0.2, 0.2, 0.6))[number % 3]
        prediction = Prediction(
            id=f"bench:{number}",
            source="bench",
            created_at=at,
            ingested_at=at,
            scored_at=at,
            predicted=("positive", "neutral", "negative")[number % 3],  # type: ignore[arg-type]
            probabilities=fused,
            text_probabilities=fused,
            confidence=max(fused),
            model="bench",
            text=f"the tram is late again, number {number}, and my coffee is cold",
            lang="en",
            author=f"{number % 5000:032x}",
            topics=(TOPICS[number % 9],) if number % 9 < len(TOPICS) else (),
        )
        found.append(Scored(prediction, Position(0, number, 0), "bench"))
    return found


async def write_all(store: Store, batches: Iterator[list[Scored]]) -> list[float]:
    """Milliseconds of each call."""
    taken: list[float] = []

    async def keep_writing() -> None:
        for batch in batches:
            began_s = time.perf_counter()
            await store.write(batch)
            taken.append(1000 * (time.perf_counter() - began_s))

    async with asyncio.TaskGroup() as group:
        for _ in range(WRITES_IN_FLIGHT):
            group.create_task(keep_writing())
    return taken


async def bytes_per_topic_minute(redis: Redis, url: str, posts_a_minute: int) -> float:
    """What the store says of a full hour of a topic, a sixtieth of it; every counter is at work."""
    namespace = f"rollup-{posts_a_minute}"
    store = Store(redis, Settings(namespace=namespace, redis=url), model="bench")
    await store.open()
    made = [_counted_everywhere(one, posts_a_minute) for one in results(0, 60 * posts_a_minute)]
    for first in range(0, len(made), BATCH):
        await store.write(made[first : first + BATCH])
    hour = Keys(namespace, 0).rollup("minute", int(BEGAN.timestamp()) // 3600, TOPICS[0])
    minutes = int(await redis.hlen(hour))
    if minutes != 60:
        raise RuntimeError(f"{minutes} minutes of {TOPICS[0]} were written: 60 are meant")
    return float(await redis.memory_usage(hour, samples=0)) / minutes


def _counted_everywhere(one: Scored, posts_a_minute: int) -> Scored:
    number = one.position.offset
    changes: dict[str, Any] = {
        "created_at": BEGAN + timedelta(minutes=number // posts_a_minute),
        "topics": TOPICS[:1],
        "image_probabilities": (0.1, 0.2, 0.7),
        "sensitive": number % 2 == 0,
        "label": "positive",
        "abstained": number % 3 == 0,
        "foreign": number % 5 == 0,
        "correction": "positive" if number % 7 == 0 else None,
    }
    return msgspec.structs.replace(one, prediction=msgspec.structs.replace(one.prediction, **changes))


async def measure(posts: int) -> dict[str, Any]:
    rates, cpu, store_cpu, calls = [], [], [], []
    with tempfile.TemporaryDirectory(prefix="moodstream-benchmark-") as folder:
        child, url = await start_store(Path(folder) / "store.log", None)
        try:
            async with Redis.from_url(url) as redis:
                for number in range(ROUNDS):
                    await redis.flushall()
                    settings = Settings(namespace=f"sink-{number}", redis=url, kind="replay", results_kept=0)
                    store = Store(redis, settings, model="bench")
                    await store.open()
                    made = [results(first, BATCH) for first in range(0, posts, BATCH)]
                    began_s, began_cpu_s = time.perf_counter(), time.process_time()
                    async with Usage({"store": [child.pid]}) as usage:
                        calls += await write_all(store, iter(made))
                    rates.append(posts / (time.perf_counter() - began_s))
                    cpu.append(posts / (time.process_time() - began_cpu_s))
                    store_cpu.append(posts / max(usage.cpu_s["store"], 0.01))
                size = (await redis.info("memory"))["used_memory"] / posts
                usual = await bytes_per_topic_minute(redis, url, TOPIC_POSTS_A_MINUTE)
                busy = await bytes_per_topic_minute(redis, url, POSTS_A_MINUTE)
        finally:
            await child.stop()
    p50, p99 = np.percentile(calls, [50, 99]).tolist()
    return {
        "posts_per_s": statistics.median(rates),
        "posts_per_core_s": statistics.median(cpu),
        "posts_per_store_core_s": statistics.median(store_cpu),
        "call_p50_ms": p50,
        "call_p99_ms": p99,
        "bytes_per_post": size,
        "bytes_per_topic_minute": usual,
        "bytes_per_busy_topic_minute": busy,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object last on standard output")
    parser.add_argument("--quick", action="store_true", help="a tenth of the posts")
    options = parser.parse_args()
    found = asyncio.run(measure(16_000 if options.quick else 160_000))
    print("\n".join(f"{name:24} {value:12,.1f}" for name, value in found.items()), file=sys.stderr)
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
