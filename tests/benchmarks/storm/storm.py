"""A storm: posts at a rate, and at random times kills, rebalances and poison; then the account."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import UnknownTopicOrPartitionError
from redis import Redis
from redis.exceptions import RedisError

from deploy.accounting import settled
from inference_worker import artifact
from inference_worker.contract import Results, UnknownNamespace
from inference_worker.settings import DEFAULT_MODEL
from ingest.contract import RUN_HEADER, posts_topic
from tests.benchmarks.storm.account import read_topic, settle_accounts
from tests.benchmarks.storm.crew import WORKERS, Crew
from tests.benchmarks.storm.network import DELETED, EDITED, TOPICS, Network, Told, places, poison
from tests.benchmarks.storm.recovery import Recoveries
from tests.benchmarks.storm.servers import SERVER_DOWN_S, Servers, StackName, opened

NAMESPACE: Final = "storm"
PARTITIONS: Final = 4
FROM, TO = 0.04, 0.94
"""Shares of the time of telling between which faults happen."""
SESSION_S: Final = 6
MOST_WORKERS: Final = 4
REBALANCES: Final = ("join", "leave")
READY_TIMEOUT_S: Final = 300.0
POLL_S: Final = 0.5
PICTURES_WITHIN_S: Final = 20.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """rate: acts a second; appendfsync: of redis-server; settle_timeout_s: for what is left when all is told."""

    posts: int
    kills: int
    rebalances: int
    poison: int
    seed: int
    rate: float
    stack: StackName = "embedded"
    engine: str = "null"
    appendfsync: str = "always"
    settle_timeout_s: float = 600.0


class Storm:
    """Over servers that are up, in a folder of its own. more: variables of ingest and workers."""

    def __init__(
        self, plan: Plan, servers: Servers, network: Network, folder: Path, more: Mapping[str, str] | None = None
    ) -> None:
        self.plan, self.servers, self.network = plan, servers, network
        self.chance = random.Random(plan.seed)
        self.happened: Counter[str] = Counter()
        self.poisoned: Counter[str] = Counter()
        self._restarts: list[asyncio.Task[float]] = []
        self.results = Results(Redis.from_url(servers.stack.redis, socket_timeout=30), NAMESPACE)
        self.recoveries = Recoveries(servers.stack.redis, NAMESPACE)
        ingest = ("bluesky", "--host", network.url, "--all", "--json")
        self.crew = Crew(servers.stack, self.chance, self._environment(folder) | dict(more or {}), ingest)

    def _environment(self, folder: Path) -> dict[str, str]:
        (folder / "topics.toml").write_text(TOPICS)
        return {
            "MOODSTREAM_NAMESPACE": NAMESPACE,
            "MOODSTREAM_SOURCE": "bluesky",
            "MOODSTREAM_ENGINE": self.plan.engine,
            "MOODSTREAM_PARTITIONS": str(PARTITIONS),
            "MOODSTREAM_SESSION_TIMEOUT_S": str(SESSION_S),
            "MOODSTREAM_HEARTBEAT_S": "2",
            "MOODSTREAM_STATE": str(folder / "state"),
            "MOODSTREAM_TOPICS": str(folder / "topics.toml"),
            "MOODSTREAM_BLUESKY_CDN": f"http://{self.network.pictures}",
            "MOODSTREAM_MEDIA_HOSTS": self.network.pictures,
        }

    @asynccontextmanager
    async def crewed(self) -> AsyncIterator[None]:
        """With ingest and WORKERS workers at work, who are brought back until the end."""
        self.crew.start("ingest")
        for _ in range(WORKERS):
            self.crew.start("worker")
        tending = asyncio.create_task(self.crew.tend())
        try:
            await self._until(lambda: len(self.results.workers()) == WORKERS, "the workers are ready", READY_TIMEOUT_S)
            yield
        finally:
            tending.cancel()
        await self.crew.dismiss()

    async def rage(self) -> dict[str, Any]:
        """Figures, and under `off` what is not as it must be."""
        async with self.crewed():
            began = time.monotonic()
            await asyncio.gather(self.network.tell(self.plan.rate), self._faults(), self._poison())
            told_s = time.monotonic() - began
            missing = await self.until_all_stand()
            settled_s = time.monotonic() - began
            unrecovered = await self.recoveries.finished(1.0)
            ingest_code = await self.crew.stop_ingest()
            topic = await read_topic(self.servers.stack.kafka, NAMESPACE)
            await self._until_settled(topic.records)
        account = await asyncio.to_thread(
            settle_accounts,
            self.network.told,
            self.poisoned,
            topic,
            self.results,
            artifact.load(DEFAULT_MODEL, engine=self.plan.engine),
        )
        account.check("never_came", missing)
        account.check("unrecovered", unrecovered)
        account.check("ingest_exit_code", ingest_code)
        return {
            **{name: getattr(self.plan, name) for name in ("seed", "stack", "engine", "posts", "rate", "appendfsync")},
            "acts": self.network.acted,
            "told_s": round(told_s, 1),
            "settled_s": round(settled_s, 1),
            "poison": self.poisoned.total(),
            **self.happenings(),
            **account.figures,
            "off": account.off,
        }

    def happenings(self) -> dict[str, Any]:
        """What befell whom, and how long it took to recover."""
        return {
            "faults": dict(sorted(self.happened.items())),
            "recovery": self.recoveries.summary(),
            "exits": dict(self.crew.exits),
            "left": dict(self.crew.left),
        }

    async def strike(self, fault: str) -> None:
        """A kill, `join` or `leave`; where too few workers would stay, or too many, the other of the two.

        One that finds nobody to strike waits.
        """
        if fault in REBALANCES:
            workers = len(self.crew.of("worker"))
            fault = "join" if workers < WORKERS else "leave" if workers >= MOST_WORKERS else fault
        self.recoveries.begin(fault, self.network.latest.values())
        self.happened[fault] += 1
        if fault in self.servers.mortal:
            down_s = self.chance.uniform(*SERVER_DOWN_S)
            self._restarts.append(asyncio.create_task(self.servers.mortal[fault].fail(down_s)))
        elif fault == "join":
            self.crew.start("worker")
        elif fault == "leave":
            self.crew.leave()
        else:
            while not self.crew.kill("ingest" if fault == "ingest" else "worker"):
                await asyncio.sleep(POLL_S)

    async def servers_are_back(self) -> None:
        """Raises StackFailed if one did not come."""
        await asyncio.gather(*self._restarts)

    @property
    def mortal(self) -> tuple[str, ...]:
        """Whom `strike` kills."""
        return ("worker", "ingest", *self.servers.mortal)

    async def _faults(self) -> None:
        """In the order and at the times drawn."""
        loop = asyncio.get_running_loop()
        began, lasts_s = loop.time(), self.plan.posts * (1 + EDITED + DELETED) / self.plan.rate
        drawn = [*islice(cycle(self.mortal), self.plan.kills), *islice(cycle(REBALANCES), self.plan.rebalances)]
        self.chance.shuffle(drawn)
        times = sorted(self.chance.uniform(FROM, TO) * lasts_s for _ in drawn)
        for at_s, fault in zip(times, drawn, strict=True):
            await asyncio.sleep(max(0.0, began + at_s - loop.time()))
            await self.strike(fault)
        await self.servers_are_back()

    async def _poison(self) -> None:
        """Straight onto the topic, each into a partition of its own choosing, until Kafka has it."""
        idempotence = self.servers.stack.broker is None
        async with AIOKafkaProducer(
            bootstrap_servers=self.servers.stack.kafka, acks="all", enable_idempotence=idempotence
        ) as producer:
            for number, place in enumerate(places(self.plan.poison, self.plan.posts, self.chance)):
                while len(self.network.told) <= place:
                    await asyncio.sleep(POLL_S)
                value, says = poison(number, self.chance)
                partition = self.chance.randrange(PARTITIONS)
                await _deliver(producer, value, partition)
                self.poisoned[says] += 1

    async def until_all_stand(self) -> list[str]:
        """Those that do not after settle_timeout_s; pictures ingest could not get are not waited for so long."""
        left = await self.until_stand(self.plan.settle_timeout_s)
        await self.until_stand(PICTURES_WITHIN_S, with_picture=True)
        return [told.id for told in left]

    async def until_stand(self, timeout_s: float, *, with_picture: bool = False) -> list[Told]:
        """Returns what does not by then."""
        deadline = time.monotonic() + timeout_s
        waiting = self.network.told
        while waiting and time.monotonic() < deadline:
            await asyncio.sleep(POLL_S)
            waiting = await asyncio.to_thread(self._not_standing, waiting, with_picture)
        return waiting

    def _not_standing(self, told: list[Told], with_picture: bool) -> list[Told]:
        left = []
        for start in range(0, len(told), 1000):
            some = told[start : start + 1000]
            try:
                receipts = self.results.redis.mget([self.results.keys_of(post.id).receipt(post.id) for post in some])
            except (RedisError, OSError):
                return told
            pairs = zip(some, receipts, strict=True)
            left += [post for post, receipt in pairs if not post.stands(receipt, with_picture=with_picture)]
        return left

    async def _until_settled(self, records: int) -> None:
        """Or nothing more comes for a while, which the account then tells."""
        deadline = time.monotonic() + self.plan.settle_timeout_s
        while settled(self.results.counters()) < records and time.monotonic() < deadline:
            await asyncio.sleep(POLL_S)

    async def _until(self, condition: Any, what: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not await asyncio.to_thread(_holds, condition):
            if time.monotonic() > deadline:
                logs = "\n".join(member.service.child.log_tail() for member in self.crew.members)
                raise TimeoutError(f"not within {timeout_s:.0f} s: {what}\n{logs}")
            await asyncio.sleep(POLL_S)


async def _deliver(producer: AIOKafkaProducer, value: bytes, partition: int) -> None:
    """A broker that comes back does not know its topics at first, which is said before anything is sent."""
    while True:
        try:
            headers = [(RUN_HEADER, b"poison")]
            await producer.send_and_wait(posts_topic(NAMESPACE), value, partition=partition, headers=headers)
        except UnknownTopicOrPartitionError:
            await asyncio.sleep(POLL_S)
        else:
            return


def _holds(condition: Any) -> bool:
    try:
        return bool(condition())
    except (UnknownNamespace, RedisError):
        return False


async def storm(plan: Plan, folder: Path) -> dict[str, Any]:
    """On servers of its own, in an empty folder."""
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(opened(plan.stack, folder, appendfsync=plan.appendfsync))
        network = await stack.enter_async_context(Network(plan.posts, PARTITIONS, plan.seed).opened())
        return await Storm(plan, servers, network, folder).rage()
