"""One namespace of a real stack, with real workers to start, kill and stop."""

from __future__ import annotations

import asyncio
import csv
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from redis import Redis

from deploy.accounting import settled
from deploy.local import LocalStack, Service
from inference_worker.contract import LABELS, Prediction, Results, UnknownNamespace
from ingest.contract import RUN_HEADER, Record, encode, posts_topic, record_key

ROOT: Final = Path(__file__).parent.parent.parent
SHORT_SESSION: Final = {"MOODSTREAM_SESSION_TIMEOUT_S": "6", "MOODSTREAM_HEARTBEAT_S": "2"}
"""A killed worker's partitions are handed on after 6 s on both stacks."""
SETTLE_TIMEOUT_S: Final = 240.0
_numbers = itertools.count(1)


class Pipeline:
    """A namespace of its own on `stack`; everything it started ends with the test."""

    def __init__(self, stack: LocalStack, namespace: str) -> None:
        self.stack, self.namespace = stack, namespace
        self.redis = Redis.from_url(stack.redis)
        self.results = Results(self.redis, namespace)
        self.workers: list[Service] = []

    def environment(self, namespace: str | None = None) -> dict[str, str]:
        """For a process of this namespace."""
        named = {"MOODSTREAM_NAMESPACE": namespace or self.namespace, "MOODSTREAM_KIND": "replay"}
        return {**self.stack.environment(), **SHORT_SESSION, **named}

    def start_worker(self) -> Service:
        """A worker process, not waited for."""
        name = f"{self.namespace}-worker-{len(self.workers) + 1}"
        worker = self.stack.run(name, "inference_worker", environment=self.environment(), keep_running=False)
        self.workers.append(worker)
        return worker

    def stop_worker(self, worker: Service) -> int:
        """SIGTERM; its exit code."""
        return asyncio.run(worker.child.stop())

    def wait_for_worker(self) -> None:
        """A worker has partitions and may score."""
        self.until(lambda: bool(self.results.workers()), "a worker is ready", 60)

    def ingest(self, feed: Path, *options: str) -> dict[str, Any]:
        """Sends a feed to Kafka with the real command; its report."""
        command = [sys.executable, "-m", "ingest", str(feed), *options, "--json"]
        return json.loads(self._run(command).splitlines()[-1])

    def replay(self, feed: Path, *options: str) -> dict[str, Any]:
        """`moodstream replay FEED --json` against this stack; its result."""
        command = [sys.executable, "-m", "deploy", "replay", str(feed), "--json", *options]
        return json.loads(self._run(command).splitlines()[-1])

    def _run(self, command: Sequence[str]) -> str:
        environment = {**os.environ, **self.environment()}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stderr[-4000:]}"
        return done.stdout

    def send(self, records: Sequence[Record | bytes | None], *, run: str) -> None:
        """Puts records, or any bytes, straight on the topic, in order, all in one partition."""
        asyncio.run(self._send(records, run))

    async def _send(self, records: Sequence[Record | bytes | None], run: str) -> None:
        async with AIOKafkaProducer(
            bootstrap_servers=self.stack.kafka, acks="all", max_request_size=4 << 20
        ) as producer:
            for record in records:
                is_record = isinstance(record, Record)
                await producer.send_and_wait(
                    posts_topic(self.namespace),
                    value=encode(record) if is_record else record,
                    key=record_key(record) if is_record else b"garbage",
                    headers=[(RUN_HEADER, run.encode())],
                    partition=0,
                )

    def send_fast(self, records: Sequence[Record], *, run: str) -> None:
        """Puts records on the topic by their keys, as ingest does."""
        asyncio.run(self._send_fast(records, run))

    async def _send_fast(self, records: Sequence[Record], run: str) -> None:
        headers = [(RUN_HEADER, run.encode())]
        async with AIOKafkaProducer(bootstrap_servers=self.stack.kafka, acks="all", linger_ms=5) as producer:
            topic = posts_topic(self.namespace)
            waiting = [
                await producer.send(topic, value=encode(record), key=record_key(record), headers=headers)
                for record in records
            ]
            await asyncio.gather(*waiting)

    def results_of(self, run: str) -> int:
        """Records of a run that ended somewhere; 0 before a worker entered the namespace."""
        try:
            return settled(self.results.counters(run))
        except UnknownNamespace:
            return 0

    def wait_until_settled(self, run: str, sent: int, timeout_s: float = SETTLE_TIMEOUT_S) -> dict[str, int]:
        """All of a run's records ended somewhere; the run's counters."""
        self.until(lambda: self.results_of(run) >= sent, f"{sent} records of {run} are settled", timeout_s)
        return self.results.counters(run)

    def until(self, condition: Callable[[], bool], what: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n".join(worker.child.log_tail(30) for worker in self.workers)
                counts = self.results.counters() if self.redis.keys(f"{{{self.namespace}}}*") else {}
                raise AssertionError(f"not within {timeout_s} s: {what}; counters {counts}\n{logs}")
            time.sleep(0.1)

    def rollups(self) -> dict[bytes, dict[bytes, bytes]]:
        """Every rollup of the namespace as it stands in Redis."""
        keys = (
            key
            for level in ("minute", "hour", "day")
            for key in self.redis.scan_iter(match=f"{{{self.namespace}:*}}:{level}:*", count=1000)
        )
        return {key: self.redis.hgetall(key) for key in keys}

    def predictions(self) -> list[Prediction]:
        """Drains the results stream."""
        return list(self.results.drain_results())

    def close(self) -> None:
        for worker in self.workers:
            if worker.child.exit_code() is None:
                worker.child.kill()
            self.stack.services.remove(worker)
        self.redis.close()


@pytest.fixture
def pipeline(stack: LocalStack) -> Iterator[Pipeline]:
    pipeline = Pipeline(stack, f"test-{next(_numbers)}")
    yield pipeline
    pipeline.close()


@pytest.fixture(scope="session")
def made_up_feed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 tweets with labels, 5 of their ids a second time (two of those with another text), and an empty one."""
    openings = {"positive": "so happy with", "neutral": "just saw", "negative": "really fed up with"}
    things = ("the tram", "my coffee", "this phone", "the weather", "our new printer")
    rows = [
        (
            str(500_000_000_000_000_000 + number * 8_000_000_000),
            label,
            f"{openings[label]} {things[number % 5]} no {number}",
        )
        for number, label in zip(range(120), itertools.cycle(LABELS), strict=False)
    ]
    rows += rows[10:13] + [(row[0], "negative", f"edited: {row[2]}") for row in rows[20:22]]
    rows.append(("500000000900000000", "neutral", ""))
    feed = tmp_path_factory.mktemp("feed") / "made_up.csv"
    with feed.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("tweet", "mood", "words"))
        writer.writerows(rows)
    return feed


@pytest.fixture(scope="session")
def made_up_map() -> tuple[str, ...]:
    return ("--map", "id=tweet", "label=mood", "text=words", "source=x")


def as_result(path: Path) -> dict[str, Any]:
    """result.json of a report folder."""
    return msgspec.json.decode((path / "result.json").read_bytes())
