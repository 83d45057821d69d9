"""An hour at a share of what the worker can do, a fault every minute: memory, files and latency as time goes by.

    python -m tests.benchmarks.soak --minutes 60 --load 0.8 --fault-every 60 [--stack apache] [--json] [--quick]

First a burst says what can be done; then posts come at `--load` of it, and faults of `tests.benchmarks.storm` strike in
turn; ingest's in the first half only: it remembers the last 100,000 posts, and no short life shows that it grows no
further. Of every process the memory, resident and its own (anonymous: what is shared is divided among fewer when
another dies), and the open files are sampled; flat is one whose last tenth is at most FLAT above the tenth after its
warming up, in memory of its own and in files. Short lives are left out.
Posts are kept for ten minutes; the store then grows by receipts alone, the embedded broker by all it is told. Latency
is from the post's own time to its score. In the end every post told must be in Redis once.

Exit code 1 where a post is lost or counted twice, or ingest or a worker is not flat.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import secrets
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from redis.exceptions import RedisError

from deploy.children import Child
from tests.benchmarks.storm.network import Network
from tests.benchmarks.storm.servers import opened
from tests.benchmarks.storm.storm import PARTITIONS, REBALANCES, Plan, Storm

SAMPLE_EVERY_S: Final = 2.0
LATENCIES_EVERY_S: Final = 5.0
WARM_SHARE: Final = 0.3
BURST: Final = 20_000
"""Posts: half a minute and more, as a few seconds show more than can be held for an hour."""
SHORT_S: Final = 20.0
FLAT: Final = 0.10
MOST: Final = 10_000_000
"""Posts; the acts are drawn as they are told."""
KEPT: Final = {"MOODSTREAM_POST_RETENTION_S": "600"}
OURS: Final = ("ingest", "worker")


class Sample(NamedTuple):
    at_s: float
    rss_mb: float
    own_mb: float
    files: int


@dataclass
class Life:
    """Of one process."""

    role: str
    samples: list[Sample] = field(default_factory=list)

    @property
    def lasted_s(self) -> float:
        return self.samples[-1].at_s - self.samples[0].at_s

    def growth(self, what: str) -> float:
        """The last tenth over the tenth after warming up, less one."""
        values = [getattr(sample, what) for sample in self.samples]
        warm = values[int(len(values) * WARM_SHARE) :]
        tenth = max(1, len(warm) // 10)
        return statistics.mean(warm[-tenth:]) / statistics.mean(warm[:tenth]) - 1

    @property
    def is_flat(self) -> bool:
        return self.growth("own_mb") <= FLAT and self.growth("files") <= FLAT


class Census:
    """Samples the processes of a storm until cancelled."""

    def __init__(self, storm: Storm) -> None:
        self.lives: dict[int, Life] = {}
        self._storm = storm

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_EVERY_S)
            for role, pid in self._present():
                if (sample := sample_of(pid)) is not None:
                    self.lives.setdefault(pid, Life(role)).samples.append(sample)

    def summary(self) -> dict[str, dict[str, Any]]:
        """By role, of the longest life; `lives`: of all that were no short ones."""
        by_role: dict[str, list[Life]] = defaultdict(list)
        for life in self.lives.values():
            if life.lasted_s >= SHORT_S:
                by_role[life.role].append(life)
        return {role: _told(max(lives, key=lambda life: life.lasted_s), len(lives)) for role, lives in by_role.items()}

    def _present(self) -> list[tuple[str, int]]:
        stack, mortal = self._storm.servers.stack, self._storm.servers.mortal
        found = [(member.role, member.service.child.pid) for member in self._storm.crew.members]
        servers: dict[str, Child | None] = {"broker": stack.broker, "store": stack.store}
        servers |= {name: server.child for name, server in mortal.items()}
        return [*found, *((name, child.pid) for name, child in servers.items() if child is not None)]


def _told(life: Life, lives: int) -> dict[str, Any]:
    files = [sample.files for sample in life.samples]
    return {
        "lives": lives,
        "lasted_s": round(life.lasted_s),
        "rss_mb": round(life.samples[-1].rss_mb),
        "own_mb": round(life.samples[-1].own_mb),
        "rss_growth": round(life.growth("rss_mb"), 3),
        "own_growth": round(life.growth("own_mb"), 3),
        "files": files[-1],
        "files_growth": round(life.growth("files"), 3),
        "is_flat": life.is_flat,
    }


def sample_of(pid: int) -> Sample | None:
    """None where there is no such process any more."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return None
    sizes = {line.split()[0]: int(line.split()[1]) / 1024 for line in rollup[1:]}
    return Sample(time.monotonic(), sizes["Rss:"], sizes["Anonymous:"], files) if sizes else None


class Latencies:
    """From the own time of the posts last scored to their score, until cancelled."""

    def __init__(self, storm: Storm) -> None:
        self._seen: dict[str, float] = {}
        self._storm = storm

    async def watch(self) -> None:
        """The live tail holds the newest posts, which is a sample of all."""
        while True:
            await asyncio.sleep(LATENCIES_EVERY_S)
            try:
                tail = await asyncio.to_thread(self._storm.results.tail)
            except RedisError:  # the store is being restarted
                continue
            self._seen |= {
                post.id: (post.scored_at - post.created_at).total_seconds() for post in tail if not post.revision
            }

    def summary(self) -> dict[str, float]:
        if not self._seen:
            return {}
        p50, p99 = np.percentile(list(self._seen.values()), (50, 99))
        return {"posts": len(self._seen), "p50_s": round(p50, 3), "p99_s": round(p99, 3)}


@dataclass(frozen=True, kw_only=True)
class Soak:
    minutes: float
    load: float
    fault_every_s: float
    burst: int


QUICK: Final = Soak(minutes=0.5, load=0.5, fault_every_s=10.0, burst=1000)


async def soak(plan: Plan, how: Soak, folder: Path) -> dict[str, Any]:
    """On servers of its own, in an empty folder."""
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(opened(plan.stack, folder))
        network = await stack.enter_async_context(Network(plan.posts, PARTITIONS, plan.seed).opened())
        storm = Storm(plan, servers, network, folder, KEPT)
        async with storm.crewed():
            capacity = await burst(storm, how.burst)
            return await hold(storm, how, capacity)


async def burst(storm: Storm, posts: int) -> float:
    """What ingest and workers take a second, told all at once."""
    began = time.monotonic()
    await storm.network.tell(1e9, posts)
    await storm.until_stand(storm.plan.settle_timeout_s)
    return storm.network.acted / (time.monotonic() - began)


async def hold(storm: Storm, how: Soak, capacity: float) -> dict[str, Any]:
    census, latencies = Census(storm), Latencies(storm)
    watching = [asyncio.create_task(one.watch()) for one in (census, latencies)]
    seconds, rate = 60 * how.minutes, how.load * capacity
    try:
        async with asyncio.timeout(seconds + storm.plan.settle_timeout_s):
            telling = asyncio.create_task(storm.network.tell(rate, int(rate * seconds)))
            await faults(storm, how, seconds)
            await telling
            missing = await storm.until_all_stand()
    except BaseException:
        sys.stderr.write(f"by then: {json.dumps({'latency': latencies.summary(), 'processes': census.summary()})}\n")
        raise
    finally:
        for one in watching:
            one.cancel()
    unrecovered = await storm.recoveries.finished(1.0)
    await storm.crew.stop_ingest()
    processes = census.summary()
    standing = sum(not told.is_deleted for told in storm.network.told)
    twice = storm.results.total().posts - standing
    found = {"lost": len(missing), "counted_twice": twice, "unrecovered": unrecovered}
    uneven = [role for role in OURS if role in processes and not processes[role]["is_flat"]]
    return {
        "seed": storm.plan.seed,
        "stack": storm.plan.stack,
        "engine": storm.plan.engine,
        "minutes": how.minutes,
        "capacity_posts_per_s": round(capacity, 1),
        "offered_posts_per_s": round(rate, 1),
        "posts": storm.network.acted,
        **storm.happenings(),
        "latency": latencies.summary(),
        "processes": processes,
        **found,
        "off": [f"{name}: {count}" for name, count in found.items() if count] + [f"{role} grows" for role in uneven],
    }


async def faults(storm: Storm, how: Soak, seconds: float) -> None:
    """In turn, but for the last interval, which is for recovering; ingest is spared in the second half."""
    kinds = cycle((storm.mortal[0], REBALANCES[0], *storm.mortal[1:], REBALANCES[1]))
    began = time.monotonic()
    for number in range(1, int(seconds / how.fault_every_s)):
        await asyncio.sleep(max(0.0, began + number * how.fault_every_s - time.monotonic()))
        kind = next(kinds)
        if kind == "ingest" and 2 * number * how.fault_every_s > seconds:
            kind = next(kinds)
        sys.stderr.write(f"{time.monotonic() - began:.0f} s: {storm.network.acted} acts, {kind}\n")
        await storm.strike(kind)
    await storm.servers_are_back()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="tests.benchmarks.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--load", type=float, default=0.8, help="share of what a burst shows")
    parser.add_argument("--fault-every", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--stack", choices=("embedded", "apache"), default="embedded")
    parser.add_argument("--engine", choices=("null", "onnx"), default="onnx")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 31), help="a random one by default")
    parser.add_argument("--quick", action="store_true", help="half a minute, a fault every ten seconds")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object, last on stdout")
    options = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    sys.stderr.write(f"seed {options.seed}\n")
    plan = Plan(
        posts=MOST,
        kills=0,
        rebalances=0,
        poison=0,
        seed=options.seed,
        rate=0.0,
        stack=options.stack,
        engine=options.engine,
    )
    how = Soak(minutes=options.minutes, load=options.load, fault_every_s=options.fault_every, burst=BURST)
    with tempfile.TemporaryDirectory(prefix="moodstream-soak-") as folder:
        found = asyncio.run(soak(plan, QUICK if options.quick else how, Path(folder)))
    print(json.dumps(found) if options.json else json.dumps(found, indent=2))
    return int(bool(found["off"]))


if __name__ == "__main__":
    sys.exit(main())
