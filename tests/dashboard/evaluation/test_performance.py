from __future__ import annotations

from pathlib import Path

import pytest

from dashboard.evaluation.performance import performance
from tests.dashboard.evaluation.feeds import feed_of, prediction


def test_latency_and_throughput_are_of_all_posts(tmp_path: Path) -> None:
    found = performance(feed_of(tmp_path, [prediction(number, ms=number) for number in range(101)]))
    stage = found.stages[0]
    assert (stage.name, stage.p50_ms, stage.p95_ms, stage.p99_ms, stage.max_ms) == (
        *("ingest to score", 50.0, 95.0, 99.0, 100.0),
    )
    assert found.throughput_posts_per_s == pytest.approx(1010)
    assert found.posts_per_machine_hour == pytest.approx(3_636_000)


def test_stages_add_up_to_the_whole_where_somebody_took_the_time(tmp_path: Path) -> None:
    timed = [prediction(n, ms=100 + n, queued_ms=20 + n, computed_ms=50) for n in range(3)]
    found = performance(feed_of(tmp_path, [*timed, prediction(3, ms=7)]))
    assert [(stage.name, stage.rows, stage.p50_ms) for stage in found.stages] == [
        ("ingest to score", 4, 100.5),
        ("of it in Kafka and being prepared", 3, 30.0),
        ("waiting for the engine", 3, 21.0),
        ("in the engine, with its batch", 3, 50.0),
    ]


def test_a_price_per_machine_hour_becomes_a_cost_per_million_posts(tmp_path: Path) -> None:
    found = performance(feed_of(tmp_path, [prediction(number, ms=number) for number in range(101)]))
    assert found.cost_per_million_posts(0.36) == pytest.approx(0.36 * 1e6 / 3_636_000)


def test_nothing_can_be_said_of_no_posts_nor_of_one_moment(tmp_path: Path) -> None:
    empty = performance(feed_of(tmp_path, []))
    assert (empty.first_scored_at, empty.throughput_posts_per_s, empty.stages[0].p50_ms) == (None, None, None)
    assert performance(feed_of(tmp_path, [prediction(1)])).cost_per_million_posts(1.0) is None
