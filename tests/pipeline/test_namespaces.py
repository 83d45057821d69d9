"""What a replay may be put into: a namespace nobody else replays into now, of the same archive and model, on a Redis
that answers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from deploy import servers
from deploy.servers import free_port, start_store
from tests.pipeline.conftest import Pipeline, on_embedded
from tests.pipeline.test_resume import COLUMNS, no_model, settled_of, write_feed

__all__ = ["no_model"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def refused(pipeline: Pipeline, feed: Path, *options: str) -> str:
    """The one line of a replay that is misuse, and leaves nothing behind."""
    before = sorted(pipeline.runs.rglob("*"))
    done = pipeline.tried("replay", str(feed), *COLUMNS, "--namespace", pipeline.namespace, *options)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert sorted(pipeline.runs.rglob("*")) == before
    return done.stderr


@on_embedded
def test_only_one_replay_at_a_time_and_only_of_the_same_archive_and_model(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed, other = write_feed(tmp_path / "feed.csv", 300), write_feed(tmp_path / "other.csv", 200)
    elsewhere = ("--report", str(pipeline.runs / "elsewhere"))
    folder = pipeline.runs / pipeline.namespace
    with pipeline.start_replay(feed, *COLUMNS, "--speed", "60") as replay:
        pipeline.until(lambda: settled_of(folder) >= 20, "some are settled", 60)
        assert f"{pipeline.namespace!r} is being replayed into by another run" in refused(pipeline, feed, *elsewhere)
        first = replay.result()
    pipeline.until(lambda: not pipeline.results.workers(), "the worker is gone", 30)
    told = refused(pipeline, other, *elsewhere)
    assert f"namespace {pipeline.namespace!r} holds feed.csv (" in told and ", and other.csv (" in told
    monkeypatch.setenv("MOODSTREAM_ENGINE", "onnx")
    assert "scored by mdse-small" in refused(pipeline, feed, *elsewhere)
    monkeypatch.setenv("MOODSTREAM_ENGINE", "null")
    assert not pipeline.results.workers()
    again = pipeline.replay(feed, *COLUMNS, *elsewhere)
    assert (first["lost"], again["lost"], again["predictions"]) == (0, 0, 0)


@on_embedded
def test_a_redis_that_was_away_is_in_nobodys_way_once_it_is_back(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    pipeline.own_stack = True
    monkeypatch.setenv("MOODSTREAM_REDIS", f"redis://127.0.0.1:{port}/0")
    feed = write_feed(tmp_path / "feed.csv", 100)
    assert f"MOODSTREAM_REDIS='redis://127.0.0.1:{port}/0' does not answer: start it" in refused(pipeline, feed)
    monkeypatch.setattr(servers, "free_port", lambda: port)
    store, _ = asyncio.run(start_store(tmp_path / "store.log", None))
    try:
        assert pipeline.replay(feed, *COLUMNS)["lost"] == 0
    finally:
        store.kill()
