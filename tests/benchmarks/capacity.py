"""The capacity model held against measurements: what `deploy/queueing.py` predicts, and what real workers then do.

Each point is a number of worker processes on one engine: `fixed` (a known time a batch) and the real one on processors.
The posts are in Kafka before the workers start, so that nobody waits for posts; throughput is counted where all workers
are busy. What goes into a prediction is measured in the same run: processor seconds of a worker beside its engine, of
the store, of the broker (with engines of a known time), and of the real engine, alone in as many processes as there are
workers, in batches as a worker cuts them; and what of the cores other programs leave, by two spinning processes. As a
shared machine's speed changes, the last two are measured before and after each point, and each run is held against its
own prediction: the median says how far off.

    python -m tests.benchmarks.capacity --json [--quick] [--rounds N] [--posts N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from redis import Redis

from deploy.local import LocalStack, Service, open_stack
from deploy.queueing import Lane, Rates, arrivals, simulate
from inference_worker.contract import Keys, Results, UnknownNamespace
from inference_worker.engines.fixed import CALL_S, ITEM_S
from ingest.contract import Post, encode, posts_topic
from tests.benchmarks.worker.ceiling import cut, prepare, score
from tests.benchmarks.worker.feed import made_up_text
from tests.benchmarks.worker.usage import cpu_seconds

PARTITIONS: Final = 16
POINTS: Final = (*(("fixed", workers) for workers in (1, 2, 4)), *(("onnx", workers) for workers in (1, 2)))
BATCH: Final = 64
FIRST, LAST = 0.2, 0.7
"""Shares of the posts between which throughput is counted: all workers are busy then."""
POSTS: Final = {"null": 8, "fixed": 1, "onnx": 4}
"""Times --posts of a worker: each point takes some seconds, and many times what a worker holds passes through it, whose
preparing would else be over when counting begins."""
TIMEOUT_S: Final = 300.0
POLL_S: Final = 0.25
"""Looking takes some of the cores too."""
SPIN: Final = "import time; e = time.time() + 2\nwhile time.time() < e: pass\nprint(time.process_time())"
BARE_POSTS: Final = 1024
"""Texts by which the real engine's time is told: as many as a worker holds."""
REPEATS: Final = 3


@dataclass(frozen=True)
class Measured:
    """One run of some workers on one engine: posts a second, and processor seconds a post.

    broker_cores: so many the broker keeps busy, by the hour rather than by the post: it is asked for more all the time;
    cores: left by other programs.
    """

    throughput: float
    worker_cpu_s: float
    store_cpu_s: float
    broker_cores: float
    cores: float


def cores_left() -> float:
    """What other programs leave of this machine's cores to two processes that want them."""
    count = os.cpu_count() or 1
    # In sessions of their own, as workers are: Linux shares processors among sessions before processes.
    spinning = [
        subprocess.Popen([sys.executable, "-c", SPIN], stdout=subprocess.PIPE, text=True, start_new_session=True)
        for _ in range(count)
    ]
    return sum(float(one.communicate()[0]) for one in spinning) / 2


@dataclass(frozen=True)
class Point:
    """predicted: posts a second by the model, from rates measured in the same minute."""

    engine: str
    workers: int
    measured: Measured
    predicted: float
    rates: Rates

    @property
    def off(self) -> float:
        return self.predicted / self.measured.throughput - 1


class Bare(NamedTuple):
    """The real engine alone, all its work there at once: core seconds a text, cores it keeps busy, texts in a batch."""

    item_s: float
    cores: float
    batch: float


def bare_engine() -> Bare:
    """In this process, which had better do nothing else."""
    from inference_worker.artifact import load
    from inference_worker.settings import DEFAULT_MODEL

    predictor, texts = load(DEFAULT_MODEL, engine="onnx"), posts_of(BARE_POSTS)
    batches = asyncio.run(cut(prepare(predictor, [encode(one) for one in texts]), predictor.max_padding))
    found = []
    for _ in range(1 + REPEATS):
        began_s, busy_s = time.monotonic(), time.process_time()
        score(predictor, batches)
        found.append((time.process_time() - busy_s, time.monotonic() - began_s))
    core_s, wall_s = (statistics.median(one) for one in zip(*found[1:], strict=True))  # the first warms up
    return Bare(core_s / BARE_POSTS, core_s / wall_s, BARE_POSTS / len(batches))


def measured_bare(engines: int) -> Bare:
    """The same in processes of their own, side by side: engines on the same cores take each other's caches."""
    command = [sys.executable, "-m", "tests.benchmarks.capacity", "--bare"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) for _ in range(engines)]
    return median_of([Bare(*json.loads(one.communicate()[0])) for one in running])


def median_of(some: Sequence[Bare]) -> Bare:
    return Bare(*map(statistics.median, zip(*some, strict=True)))


def posts_of(count: int) -> list[Post]:
    chance, now = random.Random(count), datetime.now(UTC)
    return [
        Post(
            id=f"t:{number}",
            source="t",
            created_at=now - timedelta(seconds=number),
            ingested_at=now,
            text=made_up_text(chance),
        )
        for number in range(count)
    ]


class Bench:
    """Runs points on a stack; each in a namespace of its own."""

    def __init__(self, stack: LocalStack) -> None:
        self.stack, self._number = stack, 0
        self.redis: Any = Redis.from_url(stack.redis)

    async def point(self, engine: str, workers: int, posts: int) -> Measured:
        """Sends all, starts the workers, and looks at when each post was written."""
        self._number += 1
        namespace = f"capacity-{self._number}"
        await self._send(namespace, posts)
        left = [await asyncio.to_thread(cores_left)]
        services = [self._start(namespace, engine, number) for number in range(workers)]
        pids = [service.child.pid for service in services]
        assert self.stack.store is not None and self.stack.broker is not None  # the embedded ones
        store, broker = [self.stack.store.pid], [self.stack.broker.pid]
        try:
            first = await self._written(namespace, FIRST * posts)
            began_s, before = time.monotonic(), [cpu_seconds(group) for group in (pids, store, broker)]
            last = await self._written(namespace, LAST * posts)
            after, lasted_s = [cpu_seconds(group) for group in (pids, store, broker)], time.monotonic() - began_s
            await self._written(namespace, posts)
        finally:
            for service in services:
                await service.child.stop()
                self.stack.services.remove(service)
        left.append(await asyncio.to_thread(cores_left))
        worker_s, store_s, broker_s = (late - early for early, late in zip(before, after, strict=True))
        return Measured(
            self._throughput(namespace),
            worker_cpu_s=worker_s / (last - first),
            store_cpu_s=store_s / (last - first),
            broker_cores=broker_s / lasted_s,
            cores=statistics.mean(left),
        )

    async def _send(self, namespace: str, posts: int) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.stack.kafka)
        await admin.start()
        await admin.create_topics([NewTopic(posts_topic(namespace), PARTITIONS, 1)])
        await admin.close()
        async with AIOKafkaProducer(bootstrap_servers=self.stack.kafka, acks="all", linger_ms=5) as producer:
            for number, one in enumerate(posts_of(posts)):
                await producer.send(posts_topic(namespace), value=encode(one), partition=number % PARTITIONS)

    def _start(self, namespace: str, engine: str, number: int) -> Service:
        told = {
            "MOODSTREAM_NAMESPACE": namespace,
            "MOODSTREAM_KIND": "replay",
            "MOODSTREAM_ENGINE": engine,
            "MOODSTREAM_PARTITIONS": str(PARTITIONS),
        }
        return self.stack.run(
            f"{namespace}-{number}", "inference_worker", environment=told, keep_running=False, stop_timeout_s=30
        )

    async def _written(self, namespace: str, least: float) -> int:
        results, deadline = Results(self.redis, namespace), time.monotonic() + TIMEOUT_S
        while (count := _settled(results)) < least:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{count} of {least:.0f} posts in {TIMEOUT_S:.0f} s: see {self.stack.log_dir}")
            await asyncio.sleep(POLL_S)
        return count

    def _throughput(self, namespace: str) -> float:
        """Entries of the results stream are numbered by the store's time."""
        ids = [entry_id for entry_id, _ in self.redis.xrange(Keys(namespace, 0).results)]
        times_s = sorted(int(entry_id.split(b"-")[0]) / 1000 for entry_id in ids)
        begin, end = int(FIRST * len(ids)), int(LAST * len(ids))
        return (end - begin) / (times_s[end] - times_s[begin])


def _settled(results: Results) -> int:
    try:
        return results.counters().get("scored", 0)
    except UnknownNamespace:
        return 0


def predicted(rates: Rates, workers: int, posts: int, cores: float) -> float:
    of = arrivals(posts, 0.0, rates.lanes, workers, PARTITIONS, seed=1)
    return simulate(rates, of, cores=cores, is_store_aside=False).throughput(FIRST, LAST)


def rates_of(host_s: float, store_s: float, bare: Bare | None) -> Rates:
    """bare: of the real engine; None for the one of a known time."""
    if bare is None:
        lane, cores = Lane(share=1.0, call_s=CALL_S, item_s=ITEM_S, most=BATCH), 0.0
    else:
        lane, cores = Lane(share=1.0, call_s=0.0, item_s=bare.item_s, most=round(bare.batch)), bare.cores
    return Rates(lanes={"text": lane}, cores=cores, host_s=host_s, store_call_s=0.0, store_post_s=store_s)


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    async with open_stack() as stack:
        bench = Bench(stack)
        return judged([await measured_round(bench, number, options.posts) for number in range(1, options.rounds + 1)])


async def measured_round(bench: Bench, number: int, posts: int) -> list[Point]:
    """Each point, predicted from what was measured just before and after it."""
    null = await bench.point("null", 1, POSTS["null"] * posts)
    print(f"round {number}: null x 1: {null}", file=sys.stderr)  # noqa: T201
    found: list[Point] = []
    width, broker_cores = 0.0, dict[int, float]()
    for engine, workers in POINTS:
        count, bare = POSTS[engine] * posts * workers, []
        if engine == "onnx":
            bare.append(await asyncio.to_thread(measured_bare, workers))
        measured = await bench.point(engine, workers, count)
        if engine == "onnx":
            bare.append(await asyncio.to_thread(measured_bare, workers))
            # How wide an engine is, one alone says; side by side each gets what the others leave.
            width = median_of(bare).cores if workers == 1 else width
        else:
            broker_cores[workers] = measured.broker_cores
        alone = median_of(bare)._replace(cores=width) if bare else None
        rates = rates_of(null.worker_cpu_s, null.store_cpu_s, alone)
        model = predicted(rates, workers, count, measured.cores - broker_cores[workers])
        found.append(Point(engine, workers, measured, model, rates))
        print(f"round {number}: {found[-1]}", file=sys.stderr)  # noqa: T201
    return found


def judged(rounds: Sequence[Sequence[Point]]) -> dict[str, Any]:
    """Medians over the rounds; `off` is that of how far off each was."""
    rows = []
    for runs in zip(*rounds, strict=True):
        measured, model, off = (
            statistics.median(column)
            for column in zip(*((run.measured.throughput, run.predicted, run.off) for run in runs), strict=True)
        )
        rows.append(
            {
                "engine": runs[0].engine,
                "workers": runs[0].workers,
                "measured_posts_per_s": round(measured, 1),
                "predicted_posts_per_s": round(model, 1),
                "off": round(off, 3),
                "runs": [{**asdict(run), "off": round(run.off, 3)} for run in runs],
            }
        )
    return {"points": rows, "within_15_percent": all(abs(row["off"]) <= 0.15 for row in rows)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--posts", type=int, default=1500, help="of a worker on the engine that takes a known time")
    parser.add_argument("--quick", action="store_true", help="one round of few posts")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        print(json.dumps(bare_engine()))  # noqa: T201
        return
    if options.quick:
        options.rounds, options.posts = 1, 600
    answer = asyncio.run(measure(options))
    if options.json:
        print(json.dumps(answer))  # noqa: T201
        return
    for row in answer["points"]:
        print(f"{row['engine']} x {row['workers']}: measured {row['measured_posts_per_s']}/s, "  # noqa: T201
              f"predicted {row['predicted_posts_per_s']}/s, {row['off']:+.1%}")  # fmt: skip


if __name__ == "__main__":
    main()
