"""The worker beside the bare engine, a naive consumer, LitServe and BentoML: one artifact, one feed, one run.

    python -m tests.benchmarks.worker [--json] [--quick] [--texts FILE.parquet] [--only NAME ...] [--rounds N]

(a) `bare`: the engine on batches made beforehand, and with preparation; (b) `naive`: one post, one forward, one write;
(c) `worker`: ours, on the embedded broker and store; (d) `litserve` and (e) `bentoml`: the same predictor behind HTTP,
with their batching, in an environment of their own (.moodstream/bench-venv, made at the first run). Every system is
started anew in each round and sees the same posts at the same stage. Latencies run from when a post was due to when its
result was in Redis (by Redis' own clock) or its answer back. The servers write nothing to Redis, which favours them.
Loads are shares of the better server's saturation. Medians over the rounds; latencies of all rounds together. Ctrl-C
ends it with what was measured by then.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from deploy.local import LocalStack, open_stack
from inference_worker.settings import DEFAULT_MODEL
from tests.benchmarks.worker import feed, report
from tests.benchmarks.worker.plan import FULL, IDLE_RATE, QUICK, Plan
from tests.benchmarks.worker.systems import Naive, Server, System, Workers, python

SERVERS: Final = ("litserve", "bentoml")
SYSTEMS: Final = ("bare", "naive", "worker", *SERVERS)


class Run:
    """One run; `found` holds every measurement by system and stage."""

    def __init__(self, plan: Plan, stack: LocalStack, folder: Path, only: Sequence[str]) -> None:
        self.plan, self.stack, self.folder, self.only = plan, stack, folder, only
        self.feed, self.texts = folder / "feed.msgpack", folder / "texts.msgpack"
        self.found: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
        self.parity: dict[str, float] = {}
        self._number = 0
        self._next = 0

    async def everything(self) -> None:
        base = await self.base_rate()
        for number in range(self.plan.rounds):
            began = self._next
            for name in self.only:
                self._next = began
                tell(f"round {number + 1}: {name}")
                if name == "bare":
                    await self.bare()
                else:
                    await self.one(self.system(name), base)
            self._next = began + self._span(base)
        if "worker" in self.only:
            await self.scaling()

    async def scaling(self) -> None:
        """The worker alone: over partitions and processes, and without a model."""
        for partitions in self.plan.partitions:
            await self.scaled(f"partitions {partitions}", partitions=partitions)
        for workers in self.plan.workers:
            threads = str(max(1, len(os.sched_getaffinity(0)) // workers))
            await self.scaled(f"workers {workers}", workers=workers, settings={"MOODSTREAM_ENGINE_THREADS": threads})
        if self.plan.null:
            await self.scaled("null, texts", self.plan.null, settings={"MOODSTREAM_ENGINE": "null"}, feed=self.texts)

    def system(self, name: str) -> System:
        self._number += 1
        if name == "naive":
            return Naive(self.stack, self.feed, DEFAULT_MODEL, self._number)
        if name == "worker":
            return Workers(self.stack, self.feed, self._number)
        return Server(name, self.feed, DEFAULT_MODEL, self.folder)

    async def base_rate(self) -> float:
        """Saturation of the better server, roughly: what loads are shares of. Without servers, of the first system."""
        rates = []
        for name in [name for name in self.only if name in SERVERS] or self.only[-1:]:
            tell(f"how much {name} can take")
            system = self.system(name)
            await system.start()
            try:
                await self.step(system, self.plan.warm)
                found = await self.step(system, self.plan.saturation // 2)
            finally:
                await system.stop()
            rates.append(found["throughput_posts_per_s"])
            if isinstance(system, Server):
                self.parity[name] = await self.difference(system, self._next - self.plan.saturation // 2)
        return max(rates)

    async def one(self, system: System, base: float) -> None:
        """Warm-up, saturation, loads, and posts one by one."""
        await system.start()
        try:
            await self.step(system, self.plan.warm)
            self.keep(system.name, "saturation", await self.step(system, self.plan.saturation))
            for share in self.plan.loads:
                rate = share * base
                self.keep(system.name, f"load {share:g}", await self.step(system, round(rate * self.plan.load_s), rate))
            if isinstance(system, Workers):
                self.keep(system.name, "idle", await self.step(system, self.plan.idle, IDLE_RATE))
        finally:
            await system.stop()

    def keep(self, name: str, stage: str, measured: Any) -> None:
        """Called once it is measured: what an interruption cut off leaves no trace."""
        self.found[name][stage].append(measured)

    async def step(self, system: System, count: int, rate: float = 0.0) -> dict[str, Any]:
        first, self._next = self._next, self._next + count
        found = await system.measure(first, count, rate)
        p99_ms = np.percentile(found["latencies_ms"], 99)
        tell(f"  {count} posts, offered {rate:.0f}: {found['throughput_posts_per_s']:.1f} posts/s, p99 {p99_ms:.0f} ms")
        return found | {"offered_posts_per_s": rate}

    async def bare(self) -> None:
        """The same stretches that the systems see under saturation and one by one."""
        model = ("--model", str(DEFAULT_MODEL), "--feed", str(self.feed))
        first = self._next + self.plan.warm
        part = ("--first", str(first), "--count", str(self.plan.saturation))
        self.keep("bare", "saturation", await python("tests.benchmarks.worker.ceiling", *model, *part))
        part = ("--first", str(first), "--count", str(self.plan.idle), "--single")
        self.keep("bare", "idle", await python("tests.benchmarks.worker.ceiling", *model, *part))

    async def difference(self, server: Server, first: int) -> float:
        arguments = ("--model", str(DEFAULT_MODEL), "--feed", str(self.feed), "--first", str(first))
        difference: float = await python("tests.benchmarks.worker.parity", *arguments, "--answers", str(server.answers))
        return difference

    async def scaled(
        self,
        stage: str,
        posts: int = 0,
        *,
        workers: int = 1,
        partitions: int = 4,
        settings: dict[str, str] | None = None,
        feed: Path | None = None,
    ) -> None:
        tell(stage)
        self._number += 1
        system = Workers(
            self.stack, feed or self.feed, self._number, workers=workers, partitions=partitions, settings=settings
        )
        await system.start()
        try:
            await self.step(system, self.plan.warm)
            self.keep("scaling", stage, await self.step(system, posts or self.plan.saturation))
        finally:
            await system.stop()

    def _span(self, base: float) -> int:
        offered = sum(round(share * base * self.plan.load_s) for share in self.plan.loads)
        return self.plan.warm + self.plan.saturation + offered + self.plan.idle


def tell(what: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {what}", file=sys.stderr, flush=True)


async def measure(plan: Plan, texts: Path | None, only: Sequence[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="moodstream-benchmark-") as name:
        async with open_stack() as stack:
            run = Run(plan, stack, Path(name), only)
            tell("the feed")
            posts = feed.make(plan.feed, feed.tweets(texts) if texts is not None else None)
            feed.write(run.feed, posts)
            feed.write(run.texts, [post for post in posts if not post.images])
            try:
                await run.everything()
            except asyncio.CancelledError:  # Ctrl-C: what was measured by then is told
                tell("interrupted")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "load_average": os.getloadavg(),
        "rounds": plan.rounds,
        "server_differs_by": run.parity,
        **report.summed_up(run.found),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object last on standard output")
    parser.add_argument("--quick", action="store_true", help="one short round, without scaling")
    parser.add_argument("--texts", type=Path, help="Parquet file with a column text; made-up texts by default")
    parser.add_argument("--only", nargs="+", choices=SYSTEMS, default=SYSTEMS, help="leave the others out")
    parser.add_argument("--rounds", type=int, help="of everything")
    parser.add_argument("--without-scaling", action="store_true", help="the systems side by side alone")
    options = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    plan = QUICK if options.quick else FULL
    plan = replace(plan, rounds=options.rounds) if options.rounds is not None else plan
    plan = replace(plan, partitions=(), workers=(), null=0) if options.without_scaling else plan
    found = asyncio.run(measure(plan, options.texts, options.only))
    print(report.table(found), file=sys.stderr)
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
