"""Apache Kafka killed, out of room, and behind a bad network; a leader moved and lost; clocks that are wrong."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import resource
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import AlterPartitionReassignmentsRequest

from deploy.children import Child
from deploy.local import LocalStack
from deploy.servers import free_port
from inference_worker.agent import EXIT_FAILED
from ingest.contract import Post, posts_topic
from ingest.producer import Producer
from ingest.settings import Settings
from tests import apache
from tests.ingest.live.feed import served
from tests.pipeline.conftest import Pipeline, on_embedded
from tests.pipeline.proxy import Proxy
from tests.pipeline.test_redis_faults import took

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

GONE_S: Final = float(os.environ.get("MOODSTREAM_BROKER_GONE_S", "25"))
"""Longer than a session of the group (6 s), and than the producer's requests wait (20 s)."""
BACK_WITHIN_S: Final = 30.0
TAKEN_OVER_WITHIN_S: Final = 15.0
RATE: Final = 100
PROXIED: Final = """\
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller},PROXIED://127.0.0.1:%(near)d
advertised.listeners=PLAINTEXT://127.0.0.1:{broker},PROXIED://127.0.0.1:%(far)d
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT
"""
"""A second address of the broker, that of the proxy."""
Pipelines = tuple[Pipeline, Pipeline]
IN_SYNC: Final = "min.insync.replicas=2\noffsets.topic.replication.factor=3\n"


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOODSTREAM_ENGINE", "null")
    monkeypatch.setenv("MOODSTREAM_DRAIN_TIMEOUT_S", "2")


@dataclass
class Place:
    """One broker with two addresses. direct, proxied: the stack by either."""

    folder: Path
    kafka: Child
    proxy: Proxy
    direct: LocalStack
    proxied: LocalStack

    async def restart(self) -> None:
        self.kafka = await apache.serve_kafka(self.folder / "kafka", self.direct.kafka)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    if (reason := apache.missing()) is not None:
        pytest.skip(reason)
    folder, near, far = tmp_path_factory.mktemp("faults"), free_port(), free_port()
    with asyncio.Runner() as runner, Proxy(far, near) as proxy, ExitStack() as stack:
        redis, url = runner.run(apache.start_redis(folder / "redis"))
        stack.callback(redis.kill)
        kafka, address = runner.run(apache.start_kafka(folder / "kafka", PROXIED % {"near": near, "far": far}))
        direct = LocalStack(folder, kafka=address, redis=url)
        there = Place(folder, kafka, proxy, direct, LocalStack(folder, kafka=f"127.0.0.1:{far}", redis=url))
        stack.callback(lambda: there.kafka.kill())
        yield there


def post(number: int) -> Post:
    now = datetime.now(UTC)
    return Post(id=f"test:{number}", source="test", created_at=now, ingested_at=now, text=f"post no {number} of many")


class Sender:
    """Ingest's own producer, so many posts a second until it is told to stop; `sent` so far."""

    def __init__(self, pipeline: Pipeline, rate: int) -> None:
        self.sent = 0
        self._pause_s = 1 / rate
        self._settings = Settings(namespace=pipeline.namespace, kafka=pipeline.stack.kafka)
        self._stop = asyncio.Event()

    async def send(self) -> None:
        async with Producer(self._settings, run="faults") as producer:
            while not self._stop.is_set():
                await producer.send(post(self.sent))
                self.sent += 1
                await asyncio.sleep(self._pause_s)
            await producer.flush()
            assert producer.sent == self.sent

    def stop(self) -> None:
        self._stop.set()


@asynccontextmanager
async def sending(pipeline: Pipeline, rate: int = RATE) -> AsyncIterator[Sender]:
    """A sender in the background; in the end all it sent is there, once each."""
    sender = Sender(pipeline, rate)
    task = asyncio.create_task(sender.send())
    try:
        await until_settled(pipeline, 50)
        yield sender
    finally:
        sender.stop()
        await asyncio.wait_for(task, 180)
    await until_settled(pipeline, sender.sent)
    counts = pipeline.results.counters()
    assert (counts["scored"], counts.get("duplicates", 0)) == (sender.sent, 0)
    assert pipeline.results.total("all").posts == sender.sent


async def until_settled(pipeline: Pipeline, goal: int, timeout_s: float = 180.0) -> float:
    """Seconds until so many records ended somewhere."""
    began = time.monotonic()
    await asyncio.to_thread(pipeline.until, lambda: pipeline.settled() >= goal, f"{goal} are settled", timeout_s)
    return time.monotonic() - began


@pytest.fixture
def pipelines(place: Place, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pipelines]:
    """The same namespace, straight and through the proxy."""
    name = f"faults-{abs(hash(request.node.name)) % 10**8}"
    both = Pipeline(place.direct, name, tmp_path), Pipeline(place.proxied, name, tmp_path)
    yield both
    place.proxy.delay_s = 0.0
    place.proxy.heal()
    for pipeline in both:
        pipeline.close()


async def killed(place: Place, pipeline: Pipeline) -> None:
    """Meanwhile a worker is asked to leave, which it does unheard."""
    leaving = pipeline.start_worker()
    await asyncio.to_thread(pipeline.until, lambda: len(pipeline.results.workers()) == 2, "both are there", 60)
    place.kafka.kill()
    began = time.monotonic()
    assert await leaving.child.stop() == EXIT_FAILED, "neither 0 nor killed for being late"
    assert "what is not committed is read again" in leaving.child.log_tail()
    await asyncio.sleep(began + GONE_S - time.monotonic())


async def out_of_room(place: Place, pipeline: Pipeline) -> None:
    """A limit on the size of files stands for a full disk: Kafka ends itself when it cannot write its log."""
    _, hard = resource.prlimit(place.kafka.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(place.kafka.pid, resource.RLIMIT_FSIZE, (1_000, hard))
    async with asyncio.timeout(60):
        while place.kafka.exit_code() is None:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.1)


@pytest.mark.kafka
@pytest.mark.parametrize("fault", [killed, out_of_room])
async def test_a_broker_that_ends_in_use_and_comes_back_loses_nothing(
    place: Place, pipelines: Pipelines, fault: Callable[[Place, Pipeline], Awaitable[None]]
) -> None:
    pipeline, _ = pipelines
    worker = pipeline.start_worker()
    async with sending(pipeline) as sender:
        await fault(place, pipeline)
        await place.restart()
        sent = sender.sent
        recovery_s = await until_settled(pipeline, sent)
        took(f"broker {fault.__name__}, recovery", recovery_s)
        assert recovery_s <= BACK_WITHIN_S
    assert worker.child.exit_code() is None, "it waited for its broker"


@pytest.mark.kafka
async def test_a_worker_cut_off_is_stood_in_for_and_comes_back(place: Place, pipelines: Pipelines) -> None:
    """First its connections hang, as when a cable is pulled, then they are reset."""
    straight, behind = pipelines
    workers = [straight.start_worker(), behind.start_worker()]
    async with sending(straight) as sender:
        await asyncio.to_thread(straight.until, lambda: len(straight.results.workers()) == 2, "both are there", 60)
        for fault in (place.proxy.stall, place.proxy.cut):
            fault()
            await asyncio.sleep(1)
            assert await until_settled(straight, sender.sent) <= TAKEN_OVER_WITHIN_S
            place.proxy.heal()
            await asyncio.sleep(1)
            assert await until_settled(straight, sender.sent) <= TAKEN_OVER_WITHIN_S
    assert [worker.child.exit_code() for worker in workers] == [None, None]


@pytest.mark.kafka
async def test_a_slow_network_slows_but_loses_nothing(place: Place, pipelines: Pipelines) -> None:
    _, pipeline = pipelines
    place.proxy.delay_s = 0.3
    pipeline.start_worker()
    async with sending(pipeline) as sender:
        await asyncio.sleep(5)
        assert await until_settled(pipeline, sender.sent) <= TAKEN_OVER_WITHIN_S


@pytest.mark.kafka
async def test_a_cluster_whose_leaders_are_moved_and_lost_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (reason := apache.missing()) is not None:
        pytest.skip(reason)
    monkeypatch.setenv("MOODSTREAM_REPLICAS", "3")
    redis, url = await apache.start_redis(tmp_path / "redis")
    nodes, addresses = await apache.start_cluster(tmp_path / "kafka", more=IN_SYNC)
    pipeline = Pipeline(LocalStack(tmp_path, kafka=",".join(addresses), redis=url), "cluster", tmp_path)
    try:
        worker = pipeline.start_worker()
        async with sending(pipeline) as sender:
            before = await leader(pipeline)
            await move_leader(pipeline, before, to := before % 3 + 1)
            assert await leader(pipeline) == to
            moved_s = await until_settled(pipeline, sender.sent)
            took("leader moved by hand, recovery", moved_s)
            nodes[to - 1].kill()
            lost_s = await until_settled(pipeline, sender.sent)
            took("leader lost, recovery", lost_s)
            assert max(moved_s, lost_s) <= BACK_WITHIN_S
            assert await leader(pipeline) not in (to, -1)
        assert worker.child.exit_code() is None
    finally:
        pipeline.close()
        for child in (*nodes, redis):
            child.kill()


@asynccontextmanager
async def asked(pipeline: Pipeline) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=pipeline.stack.kafka)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def first_partition(pipeline: Pipeline, admin: AIOKafkaAdminClient) -> dict[str, Any]:
    (topic,) = await admin.describe_topics([posts_topic(pipeline.namespace)])
    (first,) = [one for one in topic["partitions"] if one["partition"] == 0]
    return dict(first)


async def leader(pipeline: Pipeline) -> int:
    """Of the first partition, by its id."""
    async with asked(pipeline) as admin:
        return int((await first_partition(pipeline, admin))["leader"])


async def move_leader(pipeline: Pipeline, old: int, new: int) -> None:
    """The first partition is reassigned to other brokers, then to all again: as an operator does who empties one."""
    third = 6 - old - new
    async with asked(pipeline) as admin:
        for replicas in ([new, third], [new, third, old]):
            wanted = [(posts_topic(pipeline.namespace), [(0, replicas, {})], {})]
            answer = await admin._send_request(AlterPartitionReassignmentsRequest(10_000, wanted, {}))
            assert answer.error_code == answer.responses[0][1][0][1] == 0, answer
            async with asyncio.timeout(60):
                while True:
                    first = await first_partition(pipeline, admin)
                    if (first["leader"], sorted(first["isr"])) == (new, sorted(replicas)):
                        break
                    await asyncio.sleep(0.1)


@on_embedded
def test_clocks_an_hour_apart_change_no_count(pipeline: Pipeline, tmp_path: Path) -> None:
    """A worker's is ahead; ingest's is behind, then it is set right while posts are sent again."""
    worker = pipeline.stack.run(
        f"{pipeline.namespace}-ahead",
        "inference_worker",
        environment=pipeline.environment() | skewed("+1h"),
        keep_running=False,
    )
    pipeline.workers.append(worker)
    with served("posts", 1200, "--rate", "400") as feed:
        arguments = ("bluesky", "--host", feed.url, "--all", "--json")
        environment = pipeline.environment() | {"MOODSTREAM_STATE": str(tmp_path)}
        behind = pipeline.stack.run("behind", "ingest", *arguments, environment=environment | skewed("-1h"))
        pipeline.until(lambda: pipeline.settled() >= 300, "300 are settled", 180)
        pipeline.stack.services.remove(behind)
        behind.child.kill()
        right = pipeline.stack.run("right", "ingest", *arguments, environment=environment)
        pipeline.workers.append(right)
        pipeline.until(
            lambda: pipeline.results.counters().get("scored", 0) >= feed.posts, f"all {feed.posts} are scored", 180
        )
    assert pipeline.results.total("all").posts == feed.posts
    found = pipeline.predictions()
    assert len({one.id for one in found}) == len(found) == feed.posts
    now = datetime.now(UTC)
    early = [one for one in found if one.ingested_at < now - timedelta(minutes=50)]
    assert early and all(one.scored_at > now + timedelta(minutes=50) for one in found)
    pipeline.wait_for_worker()
    (state,) = pipeline.results.workers()
    assert state.latency_p50_ms >= 0


def skewed(by: str) -> dict[str, str]:
    """For a process whose clock is off by so much."""
    found = importlib.util.find_spec("libfaketime")
    assert found is not None and found.submodule_search_locations
    library = Path(found.submodule_search_locations[0]) / "vendor/libfaketime/src/libfaketime.so.1"
    return {"LD_PRELOAD": str(library), "FAKETIME": by, "DONT_FAKE_MONOTONIC": "1"}
