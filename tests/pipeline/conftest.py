"""One namespace of a real stack, with real workers to start, kill and stop."""

from __future__ import annotations

import asyncio
import csv
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from deploy.accounting import settled
from deploy.local import LocalStack, Service
from inference_worker.contract import LABELS, Prediction, Results, UnknownNamespace
from inference_worker.redis_access import connect
from ingest.contract import RUN_HEADER, Record, encode, posts_topic, record_key

ROOT: Final = Path(__file__).parent.parent.parent
SHORT_SESSION: Final = {"MOODSTREAM_SESSION_TIMEOUT_S": "6", "MOODSTREAM_HEARTBEAT_S": "2"}
"""A killed worker's partitions are handed on after 6 s on both stacks."""
SETTLE_TIMEOUT_S: Final = 240.0
REPLAY_TIMEOUT_S: Final = 900.0
_numbers = itertools.count(1)

on_embedded = pytest.mark.parametrize("stack", ["embedded"], indirect=True, scope="session")
"""For replays that bring a broker of their own, and for what another broker would prove nothing new about."""
on_apache = pytest.mark.parametrize(
    "stack", [pytest.param("apache", marks=pytest.mark.kafka)], indirect=True, scope="session"
)


class Replay:
    """A running `moodstream replay`."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Replay:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def kill(self) -> None:
        """SIGKILL to all of it."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def kill_worker(self) -> None:
        """SIGKILL to its worker."""
        self.kill_child("inference_worker")

    def limit_files(self, size: int) -> None:
        """No file of its own may grow past so many bytes from now on; its children's may."""
        _, hard = resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (size, hard))

    def kill_child(self, name: str) -> None:
        """SIGKILL to the one child with that in its command line."""
        children = subprocess.run(
            ["pgrep", "-P", str(self._process.pid), "-f", name],
            capture_output=True,
            text=True,
            check=True,
        )
        os.kill(int(children.stdout), signal.SIGKILL)

    def failure(self, timeout_s: float) -> tuple[int, str]:
        """Waits for its end; exit code and the last line of its stderr."""
        _, errors = self._process.communicate(timeout=timeout_s)
        return self._process.returncode, errors.splitlines()[-1]

    def result(self) -> dict[str, Any]:
        """Waits for its end; the last line of its stdout."""
        output, errors = self._process.communicate(timeout=REPLAY_TIMEOUT_S)
        assert self._process.returncode == 0, f"exit code {self._process.returncode}:\n{errors[-4000:]}"
        return json.loads(output.splitlines()[-1])


class Pipeline:
    """A namespace of its own on `stack`; everything it started ends with the test."""

    def __init__(self, stack: LocalStack, namespace: str, runs: Path) -> None:
        self.stack, self.namespace, self.runs = stack, namespace, runs
        self.redis: Any = connect(stack.redis)
        self.results = Results(self.redis, namespace)
        self.workers: list[Service] = []
        self.more: dict[str, str] = {}
        """Settings of its own."""
        self.own_stack = False
        """Replays start an embedded stack of their own."""

    def environment(self, namespace: str | None = None) -> dict[str, str]:
        """For a process of this namespace."""
        named = {
            "MOODSTREAM_NAMESPACE": namespace or self.namespace,
            "MOODSTREAM_KIND": "replay",
            "MOODSTREAM_RUNS": str(self.runs),
        }
        if self.own_stack:
            return named
        return {**self.stack.environment(), **SHORT_SESSION, **named, **self.more}

    def start_worker(self, module: str = "inference_worker") -> Service:
        """A worker process, not waited for."""
        name = f"{self.namespace}-worker-{len(self.workers) + 1}"
        worker = self.stack.run(name, module, environment=self.environment(), keep_running=False)
        self.workers.append(worker)
        return worker

    def stop_worker(self, worker: Service) -> int:
        """SIGTERM; its exit code."""
        return asyncio.run(worker.child.stop())

    def wait_for_worker(self) -> None:
        """A worker has partitions and may score."""
        self.until(lambda: bool(self.results.workers()), "a worker is ready", 60)

    def replay(self, feed: Path, *options: str) -> dict[str, Any]:
        """`moodstream replay FEED --json` against this stack; its result."""
        with self.start_replay(feed, *options) as replay:
            return replay.result()

    def start_replay(self, feed: Path, *options: str) -> Replay:
        """The same, not waited for."""
        return self._start("replay", str(feed), "--namespace", self.namespace, *options)

    def resume_replay(self) -> Replay:
        """`moodstream replay --resume` of this namespace, not waited for."""
        return self._start("replay", "--resume", self.namespace)

    def _start(self, *arguments: str) -> Replay:
        command = [sys.executable, "-m", "deploy", *arguments, "--json"]
        return Replay(command, {**os.environ, **self.environment()})

    def ask_runs(self, *arguments: str) -> dict[str, Any]:
        """`moodstream runs … --json` against this stack; its answer."""
        return self.ask("runs", *arguments)

    def ask(self, *arguments: str) -> dict[str, Any]:
        """`moodstream … --json`; its answer."""
        done = self.tried(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer

    def tried(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`moodstream …`, whatever becomes of it."""
        return subprocess.run(
            [sys.executable, "-m", "deploy", *arguments],
            cwd=ROOT,
            env={**os.environ, **self.environment()},
            capture_output=True,
            text=True,
            check=False,
        )

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

    def settled(self, run: str | None = None) -> int:
        """Records of a run, or of all, that ended somewhere; 0 before a worker entered the namespace."""
        try:
            return settled(self.results.counters(run))
        except UnknownNamespace:
            return 0

    def wait_until_settled(self, run: str, sent: int, timeout_s: float = SETTLE_TIMEOUT_S) -> dict[str, int]:
        """All of a run's records ended somewhere; the run's counters."""
        self.until(lambda: self.settled(run) >= sent, f"{sent} records of {run} are settled", timeout_s)
        return self.results.counters(run)

    def until(self, condition: Callable[[], bool], what: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n".join(worker.child.log_tail(30) for worker in self.workers)
                raise AssertionError(f"not within {timeout_s} s: {what}; {self.settled()} settled\n{logs}")
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
def pipeline(stack: LocalStack, tmp_path: Path) -> Iterator[Pipeline]:
    pipeline = Pipeline(stack, f"test-{next(_numbers)}", tmp_path / "runs")
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
