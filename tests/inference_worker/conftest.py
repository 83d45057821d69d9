"""A real store for the worker's tests, and predictions to put in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from deploy.servers import start_store
from inference_worker.contract import Prediction, most_likely
from inference_worker.settings import Settings
from inference_worker.store import Store

NOON = datetime(2026, 5, 4, 12, 0, 30, tzinfo=UTC)


@pytest.fixture(scope="session")
def store_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    async def start() -> tuple[Any, str]:
        return await start_store(Path(tmp_path_factory.mktemp("store")) / "store.log", None)

    child, url = asyncio.run(start())
    yield url
    asyncio.run(child.stop())


@pytest.fixture
def redis(store_url: str) -> Iterator[Redis]:
    client = Redis.from_url(store_url)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
async def store(store_url: str, redis: Redis) -> AsyncIterator[Store]:
    """An empty namespace `t` of two shards."""
    async with AsyncRedis.from_url(store_url) as client:
        store = Store(client, Settings(namespace="t", redis=store_url, shards=2), model="test 1")
        await store.open()
        yield store


@pytest.fixture
def predict() -> Callable[..., Prediction]:
    def make(post_id: str = "x:1", **changes: Any) -> Prediction:
        probabilities = changes.pop("probabilities", (0.7, 0.2, 0.1))
        fields = {
            "id": post_id,
            "source": "x",
            "created_at": NOON,
            "ingested_at": NOON,
            "scored_at": NOON,
            "predicted": most_likely(probabilities),
            "probabilities": probabilities,
            "text_probabilities": probabilities,
            "confidence": max(probabilities),
            "model": "test 1",
            "text": "a tram",
            "topics": ("tram",),
        }
        return Prediction(**(fields | changes))

    return make
