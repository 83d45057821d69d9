"""Deletions of posts and of authors, sent while a real worker is busy."""

from __future__ import annotations

import asyncio

import pytest

from tests.benchmarks.forgetting import Plan, measure
from tests.pipeline.conftest import Pipeline

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LIMIT_MS = 5000


def test_what_is_deleted_is_gone_everywhere_within_5_s_at_80_percent_load(pipeline: Pipeline) -> None:
    pipeline.start_worker()
    pipeline.wait_for_worker()
    plan = Plan(burst=400, seconds=6)
    result = asyncio.run(measure(pipeline.stack.kafka, pipeline.stack.redis, pipeline.namespace, plan))
    assert result["rollups_exact"]
    for kind in ("post_deletions", "author_deletions"):
        assert result[kind]["count"] >= 3, result
        assert result[kind]["p99_ms"] <= LIMIT_MS, result
