"""The worker on a GPU: the bare engine, then groups of workers that share it, saturated and at 80 % of that.

    python -m tests.benchmarks.gpu [--json] [--quick] [--engine NAME] [--workers N ...] [--rounds N]

From an environment with torch (.venv-train). Feed, ceiling and load are those of `tests.benchmarks.worker`, on the
embedded broker and store; latencies run from when a post was due to when its result was in Redis. Busy share and memory
of the GPU are nvidia-smi's, and left out where there is none: `--engine torch-cpu --quick` tries the command on a CPU.
Medians over the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from deploy.local import open_stack
from inference_worker.settings import DEFAULT_MODEL, ENGINES
from tests.benchmarks.worker import feed, report
from tests.benchmarks.worker.gpu_usage import GpuUsage
from tests.benchmarks.worker.systems import Workers, python

LOAD: Final = 0.8
PARTITIONS: Final = 4
"""For each worker."""
BATCHES: Final = {
    "MOODSTREAM_BATCH_ITEMS": "128",
    "MOODSTREAM_BATCH_TOKENS": "8192",
    "MOODSTREAM_BATCH_IMAGES": "128",
    "MOODSTREAM_IN_FLIGHT": "4096",
}
"""As large as the torch engine runs at once."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """saturation: posts sent as fast as can be; load_s: how long LOAD of that rate is offered; feed: distinct posts."""

    workers: tuple[int, ...]
    rounds: int
    warm: int
    saturation: int
    load_s: float
    feed: int


FULL: Final = Plan(workers=(1, 4, 8), rounds=3, warm=2000, saturation=30_000, load_s=10.0, feed=3000)
QUICK: Final = Plan(workers=(1,), rounds=1, warm=32, saturation=200, load_s=3.0, feed=300)


async def bare(posts: Path, plan: Plan, engine: str) -> dict[str, Any]:
    """See `ceiling.py`; medians."""
    part = ("--feed", str(posts), "--first", str(plan.warm), "--count", str(plan.saturation))
    rounds = [
        await python(
            "tests.benchmarks.worker.ceiling",
            *("--model", str(DEFAULT_MODEL), "--engine", engine, *part),
            environment=BATCHES,
        )
        for _ in range(plan.rounds)
    ]
    return {
        stage: {name: statistics.median(one[stage][name] for one in rounds) for name in rounds[0][stage]}
        for stage in ("engine", "whole")
    }


async def group(posts: Path, plan: Plan, engine: str, workers: int) -> dict[str, Any]:
    """So many workers, started anew with their broker and store: saturation, then LOAD of it."""
    async with open_stack() as stack:
        settings = BATCHES | {"MOODSTREAM_ENGINE": engine}
        system = Workers(stack, posts, 1, workers=workers, partitions=PARTITIONS * workers, settings=settings)
        await system.start()
        await system.measure(0, plan.warm, 0.0)
        saturation = await step(system, plan.warm, plan.saturation, 0.0)
        rate = LOAD * saturation["throughput_posts_per_s"]
        load = await step(system, plan.warm + plan.saturation, round(rate * plan.load_s), rate)
        await system.stop()
    return {"saturation": saturation, f"load {LOAD:g}": load}


async def step(system: Workers, first: int, count: int, rate: float) -> dict[str, Any]:
    with GpuUsage() as gpu:
        found = await system.measure(first, count, rate)
    tell(f"  {count} posts, offered {rate:.0f}: {found['throughput_posts_per_s']:.1f} posts/s")
    return found | {"offered_posts_per_s": rate} | ({"gpu": gpu.found} if gpu.found else {})


def tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


async def measure(plan: Plan, engine: str) -> dict[str, Any]:
    found: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory(prefix="moodstream-benchmark-") as name:
        posts = Path(name) / "feed.msgpack"
        feed.write(posts, feed.make(plan.feed, None))
        tell("bare")
        ceiling = await bare(posts, plan, engine)
        for number in range(plan.rounds):
            for workers in plan.workers:
                tell(f"round {number + 1}: {workers} workers")
                for stage, measured in (await group(posts, plan, engine, workers)).items():
                    found[str(workers)][stage].append(measured)
    return {
        "engine": engine,
        "cores": len(os.sched_getaffinity(0)),
        "rounds": plan.rounds,
        "bare": ceiling,
        "workers": report.summed_up(found)["systems"],
    }


def table(result: Mapping[str, Any]) -> str:
    lines = [f"{result['engine']:24} {'posts/s':>8} {'p50 ms':>8} {'p99 ms':>8} {'gpu':>5} {'GPU MB':>7} {'cpu ms':>7}"]
    for name, stage in result["bare"].items():
        lines.append(line(f"bare {name}", stage, stage, stage["cpu_ms_per_post"]))
    for workers, stages in result["workers"].items():
        for name, stage in stages.items():
            title = f"{workers} workers, {name}"
            lines.append(line(title, stage, stage.get("gpu", {}), stage["cpu_ms_per_post"]["system"]))
    return "\n".join(lines)


def line(title: str, stage: Mapping[str, Any], gpu: Mapping[str, float], cpu_ms: float) -> str:
    latencies = " ".join(f"{stage[name]:8.1f}" if name in stage else " " * 8 for name in ("p50_ms", "p99_ms"))
    usage = f"{gpu['busy_share']:5.0%} {gpu['memory_mb']:7.0f}" if "busy_share" in gpu else " " * 13
    return f"{title:24} {stage['throughput_posts_per_s']:8.1f} {latencies} {usage} {cpu_ms:7.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object last on standard output")
    parser.add_argument("--quick", action="store_true", help="one short round of one worker")
    parser.add_argument("--engine", choices=ENGINES, default="torch")
    parser.add_argument("--workers", type=int, nargs="+", help="how many share the GPU; 1, 4 and 8 by default")
    parser.add_argument("--rounds", type=int, help="of everything")
    options = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    plan = QUICK if options.quick else FULL
    given = {"workers": tuple(options.workers or ()), "rounds": options.rounds}
    found = asyncio.run(
        measure(replace(plan, **{name: value for name, value in given.items() if value}), options.engine)
    )
    print(table(found), file=sys.stderr)
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
