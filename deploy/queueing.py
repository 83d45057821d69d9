"""Workers as a queueing network, simulated event by event: batch service, cores that are shared, store nodes.

What a post passes is what it passes in `inference_worker/pipeline.py`: it is fetched and prepared by the worker's
interpreter, waits in the lane of its kind, is scored in a batch cut when the engine is free, written back by the same
interpreter, and taken in by each store node that has a shard of the batch. A batch waits for nothing but the engine.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

CHUNK: Final = 256
IN_FLIGHT: Final = 1024
WRITES_IN_FLIGHT: Final = 4
"""As the worker's: posts prepared at once, records held, batches being written."""


@dataclass(frozen=True, kw_only=True)
class Lane:
    """Posts of one kind. share: of all; call_s, item_s: the engine's time for a batch and for each post in it;
    most: posts in a batch."""

    share: float
    call_s: float
    item_s: float
    most: int


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What a post costs. cores: so many an engine's batch keeps busy; 0: it has a device of its own.

    host_s: of the worker's interpreter, beside the engine; store_call_s, store_post_s: of the one core of a store node.
    """

    lanes: Mapping[str, Lane]
    cores: float
    host_s: float
    store_call_s: float
    store_post_s: float


@dataclass
class Outcome:
    """latencies_s: of each post, from its arrival until it is written; done_s: when."""

    latencies_s: np.ndarray = field(default_factory=lambda: np.empty(0))
    done_s: np.ndarray = field(default_factory=lambda: np.empty(0))

    def throughput(self, first: float = 0.1, last: float = 0.8) -> float:
        """Posts a second between two shares of all: neither while queues fill nor while they run dry."""
        done = np.sort(self.done_s)
        begin, end = int(first * len(done)), int(last * len(done))
        return float((end - begin) / (done[end] - done[begin]))

    def quantile_ms(self, share: float) -> float:
        return float(1000 * np.quantile(self.latencies_s, share))


class Clock:
    """Events in their order."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def after(self, delay_s: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now_s + delay_s, next(self._numbers), event))

    def run(self) -> None:
        while self._events:
            self.now_s, _, event = heapq.heappop(self._events)
            event()


@dataclass
class _Job:
    left_s: float
    width: float
    done: Callable[[], None]
    rate: float = 0.0


class Machine:
    """Cores that jobs share evenly, each at most as many as it can use (processor sharing)."""

    def __init__(self, clock: Clock, cores: float) -> None:
        self._clock, self._cores = clock, cores
        self._jobs: list[_Job] = []
        self._seen_s = 0.0
        self._plan = 0

    def run(self, work_s: float, width: float, done: Callable[[], None]) -> None:
        """Core seconds, on at most `width` cores."""
        self._advance()
        self._jobs.append(_Job(max(work_s, 1e-9), width, done))
        self._share()

    def _advance(self) -> None:
        passed_s, self._seen_s = self._clock.now_s - self._seen_s, self._clock.now_s
        for job in self._jobs:
            job.left_s -= job.rate * passed_s

    def _share(self) -> None:
        free = self._cores
        for waiting, job in zip(range(len(self._jobs), 0, -1), sorted(self._jobs, key=_width), strict=True):
            job.rate = min(job.width, free / waiting)
            free -= job.rate
        self._plan += 1
        if self._jobs:
            plan = self._plan
            next_s = min(job.left_s / job.rate for job in self._jobs)
            self._clock.after(max(next_s, 0.0), lambda: self._finish(plan))

    def _finish(self, plan: int) -> None:
        if plan != self._plan:
            return  # somebody came or went since
        self._advance()
        done = [job for job in self._jobs if job.left_s <= 1e-9]
        self._jobs = [job for job in self._jobs if job.left_s > 1e-9]
        self._share()
        for job in done:
            job.done()


def _width(job: _Job) -> float:
    return job.width


class Store:
    """Nodes that serve one call after another. shares: the part of all posts, and the shards, of each node.

    machine: whose cores the nodes share with workers; None: each has one of its own.
    """

    def __init__(
        self, clock: Clock, rates: Rates, shares: Sequence[tuple[float, int]], machine: Machine | None = None
    ) -> None:
        self._clock, self._rates, self._shares, self._machine = clock, rates, shares, machine
        self._waiting: list[deque[tuple[float, Callable[[], None]]]] = [deque() for _ in shares]

    def write(self, posts: int, done: Callable[[], None]) -> None:
        """A batch, in a call a shard; done when the last node is."""
        left = len(self._shares)

        def served() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                done()

        for waiting, (share, shards) in zip(self._waiting, self._shares, strict=True):
            calls = min(shards, posts * share)
            work_s = self._rates.store_call_s * calls + self._rates.store_post_s * posts * share
            waiting.append((work_s, served))
            if len(waiting) == 1:
                self._serve(waiting)

    def _serve(self, waiting: deque[tuple[float, Callable[[], None]]]) -> None:
        work_s, served = waiting[0]

        def end() -> None:
            waiting.popleft()
            if waiting:
                self._serve(waiting)
            served()

        if self._machine is not None:
            self._machine.run(work_s, 1, end)
        else:
            self._clock.after(work_s, end)


class Worker:
    """One worker process and the posts that come to its partitions."""

    def __init__(self, clock: Clock, machine: Machine, store: Store, rates: Rates, arrivals: Arrivals) -> None:
        self._clock, self._machine, self._store, self._rates = clock, machine, store, rates
        self._arrivals = arrivals
        self._read = self._held = self._writes = 0
        self._lanes: dict[str, deque[int]] = {name: deque() for name in rates.lanes}
        self._host: deque[tuple[float, Callable[[], None]]] = deque()
        self._is_hosting = self._is_preparing = self._is_scoring = False
        self._scored: list[int] | None = None
        self.latencies_s: list[float] = []
        self.done_s: list[float] = []
        self._fetch()

    def _fetch(self) -> None:
        """Prepares what has come, unless the interpreter still does so or enough is held."""
        times_s = self._arrivals.times_s
        if self._is_preparing or self._read == len(times_s):
            return
        if (wait_s := times_s[self._read] - self._clock.now_s) > 0:
            self._is_preparing = True
            self._clock.after(wait_s, self._fetch_again)
            return
        come = int(np.searchsorted(times_s, self._clock.now_s, side="right"))
        count = min(come - self._read, CHUNK, IN_FLIGHT - self._held)
        if count <= 0:
            return  # a write that ends calls again
        first, self._read, self._held = self._read, self._read + count, self._held + count
        self._is_preparing = True
        self._on_host(count * self._rates.host_s / 2, lambda: self._prepared(first, count))

    def _fetch_again(self) -> None:
        self._is_preparing = False
        self._fetch()

    def _prepared(self, first: int, count: int) -> None:
        for post in range(first, first + count):
            self._lanes[self._arrivals.lanes[post]].append(post)
        self._fetch_again()
        self._score()

    def _on_host(self, work_s: float, done: Callable[[], None]) -> None:
        """One thing at a time: the interpreter's lock."""
        self._host.append((work_s, done))
        if not self._is_hosting:
            self._next_on_host()

    def _next_on_host(self) -> None:
        self._is_hosting = bool(self._host)
        if self._host:
            work_s, done = self._host.popleft()

            def end() -> None:
                self._next_on_host()
                done()

            self._machine.run(work_s, 1, end)

    def _score(self) -> None:
        """A batch of the lane whose head is oldest."""
        heads = [(lane[0], name) for name, lane in self._lanes.items() if lane]
        if self._is_scoring or not heads:
            return
        self._is_scoring = True
        lane, name = self._rates.lanes[min(heads)[1]], min(heads)[1]
        batch = [self._lanes[name].popleft() for _ in range(min(lane.most, len(self._lanes[name])))]
        work_s = lane.call_s + lane.item_s * len(batch)
        if self._rates.cores:
            self._machine.run(work_s, self._rates.cores, lambda: self._hand_over(batch))
        else:
            self._clock.after(work_s, lambda: self._hand_over(batch))

    def _hand_over(self, batch: list[int]) -> None:
        """The engine keeps its batch until one may be written."""
        if self._writes == WRITES_IN_FLIGHT:
            self._scored = batch
            return
        self._writes += 1
        self._is_scoring = False
        work_s = len(batch) * self._rates.host_s / 2
        self._on_host(work_s, lambda: self._store.write(len(batch), lambda: self._written(batch)))
        self._score()

    def _written(self, batch: list[int]) -> None:
        self.latencies_s += (self._clock.now_s - self._arrivals.times_s[batch]).tolist()
        self.done_s += [self._clock.now_s] * len(batch)
        self._writes -= 1
        self._held -= len(batch)
        if self._scored is not None:
            waiting, self._scored = self._scored, None
            self._hand_over(waiting)
        self._fetch()


@dataclass(frozen=True)
class Arrivals:
    """When each post of a worker comes, in order, and its lane."""

    times_s: np.ndarray
    lanes: Sequence[str]


def arrivals(
    posts: int, rate: float, lanes: Mapping[str, Lane], workers: int, partitions: int, seed: int
) -> list[Arrivals]:
    """Poisson at `rate` (0: all are there at once), by hash to partitions and in turn to workers."""
    chance = np.random.default_rng(seed)
    times_s = np.cumsum(chance.exponential(1 / rate, posts)) if rate else np.zeros(posts)
    kinds = chance.choice([*lanes], posts, p=[lane.share for lane in lanes.values()])
    owners = chance.integers(0, partitions, posts) % workers
    return [Arrivals(times_s[owners == worker], kinds[owners == worker].tolist()) for worker in range(workers)]


def simulate(
    rates: Rates,
    of: Sequence[Arrivals],
    *,
    cores: float,
    machines: int = 1,
    shares: Sequence[tuple[float, int]] = ((1.0, 1),),
    is_store_aside: bool = True,
) -> Outcome:
    """Workers in turn on machines of so many cores; the store on its own, or on the first of these."""
    clock = Clock()
    hosts = [Machine(clock, cores) for _ in range(machines)]
    store = Store(clock, rates, shares, None if is_store_aside else hosts[0])
    workers = [Worker(clock, hosts[number % machines], store, rates, one) for number, one in enumerate(of)]
    clock.run()
    return Outcome(
        np.concatenate([worker.latencies_s for worker in workers]),
        np.concatenate([worker.done_s for worker in workers]),
    )
