"""How much of everything a rate of posts needs, what that costs, and what would give way first.

Workers and store are simulated (`queueing.py`); of the rest, what it bears a unit is known or assumed.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, TypeVar

from deploy.queueing import Lane, Rates, arrivals, simulate
from inference_worker.contract import Keys

DAY_S: Final = 86_400
HOURS_A_MONTH: Final = 730
SLOTS: Final = 16_384
SHARDS_A_NODE: Final = 8
"""Slots are drawn by hash: the more shards, the more even the nodes."""
PARTITIONS_A_WORKER: Final = 4
COPIES: Final = 3
"""Of every record among the brokers; of every store node there are two."""
CALLED_FOR: Final = 64
"""Posts in a batch, over which the calls of the store are spread."""
SATURATED_POSTS: Final = 6_000
SIMULATED_POSTS: Final = 20_000
SIMULATED_WORKERS: Final = 10
"""So many stand for all: they meet at the store alone, whose nodes have far more cores than work."""


def _assumed(value: float) -> Any:
    """A figure that nobody has measured."""
    return field(default=value, metadata={"assumed": True})


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What a post costs. Measured on two shared cores in November 2026, but for what is assumed."""

    text_share: float = 0.7
    host_text_s: float = 0.00030
    """A worker without a model does 3,340 texts a second."""
    host_picture_s: float = _assumed(0.0008)
    """More, of a post with a picture: to unpack it."""
    store_call_s: float = _assumed(0.00015)
    store_post_s: float = 0.000033
    """26,900 results a second in calls of 64."""
    ingest_s: float = 1 / 9_100 + 1 / 28_900
    """A core reads a stream and tags with 1,000 topics."""
    ingest_picture_s: float = 0.0043
    record_bytes: float = _assumed(700.0)
    picture_bytes: float = _assumed(20_000.0)
    """As ingest sends them: RGB JPEG, short side 256."""
    receipt_bytes: float = 600.0
    """255, and its place in its author's index (796 of an author's first post); for as long as the rollups."""
    post_bytes: float = 1_330.0
    """Text, maps, tails and lists, and beside them its picture; for as long as texts are kept."""
    gpu_posts_per_s: float = _assumed(6_000.0)
    """Of the mix in full batches: the project's goal for one H200, where nothing has been measured."""
    broker_bytes_per_s: float = _assumed(100e6)
    """Of a broker with four cores, copies included."""
    node_bytes: float = _assumed(256e9)
    """Of memory in a store node."""

    @property
    def host_s(self) -> float:
        return self.host_text_s + (1 - self.text_share) * self.host_picture_s

    @property
    def wire_bytes(self) -> float:
        return self.record_bytes + (1 - self.text_share) * self.picture_bytes

    def store_s(self, shards: int) -> float:
        """Of the store, with the call for its shard that a post shares with others of its batch."""
        calls = shards * (1 - (1 - 1 / shards) ** CALLED_FOR)
        return self.store_post_s + self.store_call_s * calls / CALLED_FOR

    def rates(self, sharing: int = 1) -> Rates:
        """Of a worker that has a GPU together with others: pictures take four times as long as texts."""
        text_s = sharing / self.gpu_posts_per_s / (self.text_share + 4 * (1 - self.text_share))
        most = 128
        lanes = {
            name: Lane(share=share, call_s=0.3 * most * time_s, item_s=0.7 * time_s, most=most)
            for name, share, time_s in (("text", self.text_share, text_s), ("both", 1 - self.text_share, 4 * text_s))
        }
        return Rates(
            lanes=lanes,
            cores=0.0,
            host_s=self.host_s,
            store_call_s=self.store_call_s,
            store_post_s=self.store_post_s,
        )


@dataclass(frozen=True, kw_only=True)
class Prices:
    """ASSUMED, in dollars, near public list prices of large clouds in November 2026: give your own."""

    gpu_hour: float = 4.00
    core_hour: float = 0.045
    memory_gb_hour: float = 0.006
    disk_gb_month: float = 0.08


Figures = TypeVar("Figures", Costs, Prices)


@dataclass(frozen=True, kw_only=True)
class Part:
    """bears: posts a second that all of it bears; load: the share of that which is asked of it."""

    name: str
    count: int
    unit: str
    bears: float
    load: float
    dollars_hour: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What `posts_per_s` need. latency_ms: from Kafka's acknowledgement to Redis, at this rate."""

    posts_per_s: float
    parts: list[Part]
    workers: int
    partitions: int
    shards: int
    latency_ms: dict[str, float]
    dollars_hour: float = field(default=0.0)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {
            "dollars_month": HOURS_A_MONTH * self.dollars_hour,
            "first_to_break": self.first_to_break,
        }

    @property
    def first_to_break(self) -> str:
        return max(self.parts, key=lambda part: part.load).name


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """rollup_days: how long rollups, and with them receipts, are kept; headroom: share of a part that may be in use."""

    rollup_days: float = 90.0
    post_days: float = 2.0
    headroom: float = 0.7


def saturation(rates: Rates, cores: float = 4.0) -> float:
    """Posts a second of one worker that never waits for posts."""
    of = arrivals(SATURATED_POSTS, 0.0, rates.lanes, 1, 1, seed=1)
    return simulate(rates, of, cores=cores).throughput()


def shares_of_nodes(shards: int, nodes: int, namespace: str = "live") -> list[tuple[float, int]]:
    """Part of the posts, and number of shards, of each node, by the slots that the shards' keys have."""
    from redis.crc import key_slot  # slow to load: not at the command's start

    owners = Counter(key_slot(Keys(namespace, shard).counters.encode()) * nodes // SLOTS for shard in range(shards))
    return [(owners[node] / shards, owners[node]) for node in range(nodes)]


def memory_bytes(rate: float, costs: Costs, wishes: Wishes) -> float:
    post_bytes = costs.post_bytes + (1 - costs.text_share) * costs.picture_bytes
    return rate * DAY_S * (costs.receipt_bytes * wishes.rollup_days + post_bytes * wishes.post_days)


def limits(costs: Costs, wishes: Wishes) -> dict[str, float]:
    """Posts a second that one unit of each part bears, the least first: so breaks what there is one of."""
    found = {
        "ingest (a core)": 1 / (costs.ingest_s + (1 - costs.text_share) * costs.ingest_picture_s),
        "broker": costs.broker_bytes_per_s / costs.wire_bytes,
        "worker process on a GPU": saturation(costs.rates()),
        "GPU": costs.gpu_posts_per_s,
        "Redis node, its core": 1 / costs.store_s(1),
        "Redis node, its memory": costs.node_bytes / memory_bytes(1.0, costs, wishes),
    }
    return dict(sorted(found.items(), key=lambda one: one[1]))


def plan(rate: float, costs: Costs = Costs(), prices: Prices = Prices(), wishes: Wishes = Wishes()) -> Plan:  # noqa: B008  # all frozen
    """The least of everything that bears `rate` with the headroom wished for."""
    sharing = _sharing(costs)
    rates = costs.rates(sharing)
    each = saturation(rates)
    gpus = math.ceil(rate / min(costs.gpu_posts_per_s, sharing * each) / wishes.headroom)
    workers = gpus * sharing
    partitions = PARTITIONS_A_WORKER * workers
    nodes, shards, heaviest = _nodes(rate, costs, wishes)
    some = min(workers, SIMULATED_WORKERS)
    of = arrivals(SIMULATED_POSTS, rate * some / workers, rates.lanes, some, PARTITIONS_A_WORKER * some, seed=1)
    outcome = simulate(rates, of, cores=4.0, machines=some, shares=shares_of_nodes(shards, nodes))
    parts = _parts(rate, costs, prices, wishes, gpus, workers, workers * each, nodes, heaviest)
    return Plan(
        posts_per_s=rate,
        parts=parts,
        workers=workers,
        partitions=partitions,
        shards=shards,
        latency_ms={name: outcome.quantile_ms(share) for name, share in (("p50", 0.5), ("p99", 0.99))},
        dollars_hour=sum(part.dollars_hour for part in parts),
    )


def _sharing(costs: Costs) -> int:
    """Worker processes that it takes to keep a GPU busy: one interpreter prepares no more than 1 / host_s."""
    return max(1, math.ceil(costs.gpu_posts_per_s * costs.host_s / 0.8))


def _nodes(rate: float, costs: Costs, wishes: Wishes) -> tuple[int, int, float]:
    """Store nodes, shards, and the fullest node's share: enough cores and enough memory, the fullest node's too."""
    memory = memory_bytes(rate, costs, wishes)
    nodes = 1
    while True:
        shards = SHARDS_A_NODE * nodes if nodes > 1 else 1
        heaviest = max(shares_of_nodes(shards, nodes))[0]
        needed = max(rate * costs.store_s(shards), memory / costs.node_bytes) * heaviest / wishes.headroom
        if needed <= 1:
            return nodes, shards, heaviest
        nodes = max(3, nodes + 1, math.floor(0.9 * nodes * needed))  # a cluster has three or more


def _parts(
    rate: float,
    costs: Costs,
    prices: Prices,
    wishes: Wishes,
    gpus: int,
    workers: int,
    worker_bears: float,
    nodes: int,
    heaviest: float,
) -> list[Part]:
    ingest_s = costs.ingest_s + (1 - costs.text_share) * costs.ingest_picture_s
    cores = math.ceil(rate * ingest_s / wishes.headroom)
    wire = rate * costs.wire_bytes * COPIES
    brokers = max(COPIES, math.ceil(wire / costs.broker_bytes_per_s / wishes.headroom))
    disk_gb = wire * DAY_S * wishes.post_days / 1e9
    core_bears = 1 / costs.store_s(SHARDS_A_NODE * nodes) / heaviest
    memory_bears = costs.node_bytes / memory_bytes(1.0, costs, wishes) / heaviest
    memory_gb = costs.node_bytes / 1e9

    def part(name: str, count: int, unit: str, bears: float, dollars_hour: float) -> Part:
        return Part(name=name, count=count, unit=unit, bears=bears, load=rate / bears, dollars_hour=dollars_hour)

    node_hour = 2 * nodes * (2 * prices.core_hour + memory_gb * prices.memory_gb_hour)
    broker_hour = brokers * 4 * prices.core_hour + disk_gb * prices.disk_gb_month / HOURS_A_MONTH
    return [
        part("ingest", cores, "cores", cores / ingest_s, cores * prices.core_hour),
        part(
            "brokers",
            brokers,
            "of 4 cores",
            brokers * costs.broker_bytes_per_s / costs.wire_bytes / COPIES,
            broker_hour,
        ),
        part("GPUs", gpus, "GPUs", gpus * costs.gpu_posts_per_s, gpus * prices.gpu_hour),
        part("workers", workers, "processes of 2 cores", worker_bears, 2 * workers * prices.core_hour),
        part("Redis, cores", nodes, "nodes and a replica of each", core_bears, 0.0),
        part("Redis, memory", nodes, f"times {memory_gb:.0f} GB, twice", memory_bears, node_hour),
    ]


def replaced(figures: Figures, given: dict[str, float]) -> Figures:
    """Raises ValueError naming a figure that there is not."""
    known = asdict(figures)
    if unknown := sorted(given.keys() - known):
        raise ValueError(f"unknown figure {unknown[0]!r}: use one of {', '.join(known)}")
    return replace(figures, **given)
