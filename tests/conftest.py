"""What all tests share: where the real data is, the two stacks of the pipeline tests, and when a skip is a failure."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from deploy.children import Child
from deploy.local import LocalStack, open_stack
from tests import apache

ROOT: Final = Path(__file__).parent.parent
MAY_SKIP: Final = ("gpu", "vnni", "data", "collector")
"""Marks of what no installation can bring; with MOODSTREAM_REQUIRE_ALL=1 everything else has to run."""


def pytest_configure() -> None:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it logs every refused connection of a starting broker


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    report = yield
    if report.skipped and _must_run(item) and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"MOODSTREAM_REQUIRE_ALL is set, yet this was skipped: {report.longrepr[-1]}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    report = yield
    if report.skipped and os.environ.get("MOODSTREAM_REQUIRE_ALL") == "1":
        report.outcome = "failed"
        report.longrepr = f"MOODSTREAM_REQUIRE_ALL is set, yet {collector.nodeid} was skipped: {report.longrepr[-1]}"
    return report


def _must_run(item: pytest.Item) -> bool:
    return os.environ.get("MOODSTREAM_REQUIRE_ALL") == "1" and not any(
        item.get_closest_marker(mark) for mark in MAY_SKIP
    )


@pytest.fixture(scope="session")
def data() -> Path:
    """The real data sets, which only some machines have."""
    return _shared("MOODSTREAM_DATA", "data")


@pytest.fixture(scope="session")
def feeds(data: Path) -> Path:
    """The archived feeds, beside the data sets."""
    folder = data.parent / "feeds"
    if not folder.is_dir():
        pytest.skip(f"no archived feeds in {folder}")
    return folder


def _shared(variable: str, name: str) -> Path:
    folder = Path(os.environ.get(variable, ROOT.parent / "shared" / name))
    if not folder.is_dir():
        pytest.skip(f"no data sets in {folder}: set {variable}")
    return folder


@pytest.fixture(scope="session", params=["embedded", pytest.param("apache", marks=pytest.mark.kafka)])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Broker and store: the embedded ones, then Apache Kafka and redis-server."""
    start = _embedded if request.param == "embedded" else _apache
    with asyncio.Runner() as runner:
        yield from start(runner, tmp_path_factory.mktemp(request.param))


def _embedded(runner: asyncio.Runner, folder: Path) -> Iterator[LocalStack]:
    opening = open_stack(keep=folder)
    stack = runner.run(opening.__aenter__())
    yield stack
    runner.run(opening.__aexit__(None, None, None))


def _apache(runner: asyncio.Runner, folder: Path) -> Iterator[LocalStack]:
    if (reason := apache.missing()) is not None:
        pytest.skip(reason)
    started: list[Child] = []
    try:
        redis, redis_url = runner.run(apache.start_redis(folder / "redis"))
        started.append(redis)
        kafka, bootstrap = runner.run(apache.start_kafka(folder / "kafka"))
        started.append(kafka)
        stack = LocalStack(folder, kafka=bootstrap, redis=redis_url)
        yield stack
        runner.run(stack.stop_services())
    finally:
        for child in reversed(started):
            runner.run(child.stop())
