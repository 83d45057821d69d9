"""The sink's benchmark still fits the store it measures."""

from __future__ import annotations

import asyncio

from tests.benchmarks.sink import ROUNDS, measure


def test_it_measures_the_store_as_it_is() -> None:
    found = asyncio.run(measure(64 * ROUNDS))
    assert min(found.values()) > 0
    assert found["bytes_per_topic_minute"] < found["bytes_per_busy_topic_minute"]
