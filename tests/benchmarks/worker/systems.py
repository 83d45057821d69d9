"""The systems under test, each started from nothing, driven by its generator of load, and stopped."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from redis.asyncio import Redis as AsyncRedis

from deploy.children import Child
from deploy.local import LocalStack
from deploy.servers import free_port, is_free
from inference_worker.contract import Keys, Results, UnknownNamespace
from ingest.contract import posts_topic
from tests.benchmarks.worker.rivals import environment
from tests.benchmarks.worker.usage import Usage, tree

ROOT: Final = Path(__file__).parents[3]
START_TIMEOUT_S: Final = 120.0
POLL_S: Final = 0.1
STATE_WAIT_S: Final = 2.5
"""A worker tells of itself every two seconds."""


class System(Protocol):
    """`measure` sends a stretch of the feed, at a rate or (0) as fast as can be, and returns what became of it."""

    name: str

    async def start(self) -> None: ...

    async def measure(self, first: int, count: int, rate: float) -> dict[str, Any]: ...

    async def stop(self) -> None: ...


async def python(module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Any:
    """Runs a module of ours to its end; what it printed last, as JSON. Raises RuntimeError if it fails."""
    known = {**os.environ, **(environment or {})}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE, env=known
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{module} ended with exit code {process.returncode}: see its message above")
    return json.loads(output.splitlines()[-1])


async def until(is_so: Callable[[], Awaitable[bool]], what: str) -> None:
    """Raises TimeoutError naming what did not come."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not await is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} within {START_TIMEOUT_S:.0f} s")
        await asyncio.sleep(POLL_S)


async def costed(groups: Mapping[str, list[int]], count: int, work: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    """What the work found, and what the processes used meanwhile."""
    began_s = time.monotonic()
    async with Usage(groups) as usage:
        found = await work
    wall_s = time.monotonic() - began_s
    return found | {
        "cpu_ms_per_post": {name: 1000 * cpu_s / count for name, cpu_s in usage.cpu_s.items()},
        "cpu_share": {name: cpu_s / wall_s for name, cpu_s in usage.cpu_s.items()},
        "memory_mb": usage.peak_mb,
    }


class Consumers:
    """What consumers of Kafka have in common: the load, and where their results are."""

    topic: str
    stream: str

    def __init__(self, stack: LocalStack, feed: Path) -> None:
        self.stack, self.feed = stack, feed

    def pids(self) -> list[int]:
        return [service.child.pid for service in self.stack.services]

    async def measure(self, first: int, count: int, rate: float) -> dict[str, Any]:
        assert self.stack.broker is not None and self.stack.store is not None
        load = python(
            "tests.benchmarks.worker.kafka_load",
            *("--kafka", self.stack.kafka, "--topic", self.topic, "--redis", self.stack.redis),
            *("--stream", self.stream, "--feed", str(self.feed)),
            *("--first", str(first), "--count", str(count), "--rate", str(rate)),
        )
        groups = {"system": self.pids(), "broker": [self.stack.broker.pid], "store": [self.stack.store.pid]}
        return await costed(groups, count, load)

    async def stop(self) -> None:
        await self.stack.stop_services()


class Naive(Consumers):
    """(b): `naive.py`."""

    name = "naive"

    def __init__(self, stack: LocalStack, feed: Path, model: Path, number: int) -> None:
        super().__init__(stack, feed)
        self.model = model
        self.topic, self.stream = f"naive-{number}", f"naive-{number}:results"

    async def start(self) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.stack.kafka)
        await admin.start()
        await admin.create_topics([NewTopic(self.topic, 1, 1)])
        await admin.close()
        arguments = ("--kafka", self.stack.kafka, "--topic", self.topic, "--redis", self.stack.redis)
        self.stack.run(
            *("naive", "tests.benchmarks.worker.naive", *arguments),
            *("--stream", self.stream, "--model", str(self.model)),
            keep_running=False,
        )


class Workers(Consumers):
    """(c): workers of a namespace of their own."""

    name = "worker"

    def __init__(
        self,
        stack: LocalStack,
        feed: Path,
        number: int,
        *,
        workers: int = 1,
        partitions: int = 4,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(stack, feed)
        self.namespace = f"bench-{number}"
        self.workers, self.partitions, self.settings = workers, partitions, dict(settings or {})
        self.topic, self.stream = posts_topic(self.namespace), Keys(self.namespace, 0).results

    async def start(self) -> None:
        known = {
            "MOODSTREAM_NAMESPACE": self.namespace,
            "MOODSTREAM_KIND": "replay",
            "MOODSTREAM_PARTITIONS": str(self.partitions),
        }
        for number in range(self.workers):
            self.stack.run(f"worker-{number}", "inference_worker", environment=known | self.settings)
        await until(self._are_ready, f"{self.workers} workers did not tell of themselves")

    async def _are_ready(self) -> bool:
        self.stack.check()
        with suppress(UnknownNamespace):
            return len(await asyncio.to_thread(self._states)) >= self.workers
        return False

    def _states(self) -> list[Any]:
        from redis import Redis

        with Redis.from_url(self.stack.redis) as redis:
            return Results(redis, self.namespace).workers()

    async def measure(self, first: int, count: int, rate: float) -> dict[str, Any]:
        found = await super().measure(first, count, rate)
        if not rate:
            await asyncio.sleep(STATE_WAIT_S)
            state = (await asyncio.to_thread(self._states))[0]
            found["batches"] = {"size_mean": state.batch_size_mean, "pad_waste": state.pad_waste}
        return found

    async def stop(self) -> None:
        await super().stop()
        async with AsyncRedis.from_url(self.stack.redis) as redis:
            await redis.flushall()


class Server:
    """(d), (e): an HTTP server in the rivals' environment."""

    def __init__(self, name: str, feed: Path, model: Path, folder: Path) -> None:
        self.name, self.feed, self.model, self.folder = name, feed, model, folder
        self.answers = folder / f"{name}.json"

    async def start(self) -> None:
        python_path, port = await asyncio.to_thread(environment.ensure), free_port()
        here = "tests.benchmarks.worker.rivals"
        service = f"{here}.bentoml_server:Sentiment"
        command = {
            "litserve": [str(python_path), "-m", f"{here}.litserve_server", str(port)],
            "bentoml": [str(python_path), "-m", "bentoml", "serve", service, "--port", str(port)],
        }[self.name]
        known = {
            "PYTHONPATH": str(ROOT),
            "MOODSTREAM_MODEL": str(self.model),
            "BENTOML_DO_NOT_TRACK": "1",
            "BENTOML_HOME": str(self.folder),
        }
        self.child = Child(self.name, command, log_path=self.folder / f"{self.name}.log", environment=known)
        self.url, self.port = f"http://127.0.0.1:{port}/predict", port
        await until(self._answers, f"{self.name} did not answer (its log: {self.child.log_path})")

    async def _answers(self) -> bool:
        if (code := self.child.exit_code()) is not None:
            raise RuntimeError(f"{self.name} ended with exit code {code}: {self.child.log_tail()}")
        if is_free(self.port):
            return False
        return bool((await self._load(0, 1, 0.0))["failed"] == 0)

    async def _load(self, first: int, count: int, rate: float) -> dict[str, Any]:
        found: dict[str, Any] = await python(
            "tests.benchmarks.worker.http_load",
            *("--url", self.url, "--feed", str(self.feed), "--answers", str(self.answers)),
            *("--first", str(first), "--count", str(count), "--rate", str(rate)),
        )
        return found

    async def measure(self, first: int, count: int, rate: float) -> dict[str, Any]:
        return await costed({"system": [self.child.pid]}, count, self._load(first, count, rate))

    async def stop(self) -> None:
        """With all its processes, whatever it leaves behind."""
        every = list(tree(self.child.pid))
        await self.child.stop()
        for pid in every:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
