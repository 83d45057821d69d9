"""Deletions of posts and of authors, sent while a real worker is busy."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ingest.sources.archive import write_archive
from tests.benchmarks.forgetting import Plan, measure
from tests.deploy.withdrawn_feed import JUDGED, withdrawn_feed
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


def test_a_replay_judges_what_an_evaluation_does_of_people_who_change_their_minds(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOODSTREAM_ENGINE", "null")
    feed = tmp_path / "feed.jsonl.zst"
    write_archive(feed, withdrawn_feed())
    replayed = pipeline.replay(feed, "--report", str(tmp_path / "replay"))
    evaluated = pipeline.ask("evaluate", "--data", str(feed), "--report", str(tmp_path / "evaluate"))
    for name in ("replay", "evaluate"):
        rows = pq.read_table(tmp_path / name / "predictions.parquet").to_pylist()
        assert {row["id"]: row["text"] for row in rows} == JUDGED
    for name in ("posts_read", "duplicates", "withdrawn", "deletions", "dead_letters", "lost", "confusion"):
        assert replayed[name] == evaluated[name], name
