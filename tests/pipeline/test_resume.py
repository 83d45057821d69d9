"""Replays killed, resumed, paced, listed and deleted, beside a live namespace that nothing of it touches."""

from __future__ import annotations

import asyncio
import csv
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from deploy.servers import start_store
from inference_worker.contract import Results, meta_key
from tests.pipeline.conftest import Pipeline, on_embedded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
COLUMNS = ("--map", "id=id", "created_at=at", "label=mood", "text=words")
PASSING = ("namespace", "run", "report", "seconds", "throughput_posts_per_s", "redelivered", "latency_ms")
"""What differs from run to run by nature: names, times, and how often Kafka had to deliver."""
TIMES = ("ingested_at", "scored_at", "queued_ms", "computed_ms")


def write_feed(path: Path, posts: int, *, seconds_apart: float = 1.0) -> Path:
    """Some ids twice, some rows without a text, some times before those of the row above."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "at", "mood", "words"))
        for number in range(posts):
            at = BEGAN + timedelta(seconds=seconds_apart * (number - 3 * (number % 50 == 49)))
            text = "" if number % 97 == 96 else f"post {number} is {'very ' * (number % 5)}fine"
            mood = ("positive", "neutral", "negative")[number % 3]
            writer.writerow((number - 20 * (number % 40 == 39), at.isoformat(), mood, text))
    return path


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOODSTREAM_ENGINE", "null")


def settled_of(folder: Path) -> int:
    try:
        return int(json.loads((folder / "run.json").read_bytes())["settled"])
    except FileNotFoundError:
        return 0


def rows_of(folder: Path) -> list[dict[str, Any]]:
    rows = pq.read_table(folder / "predictions.parquet").to_pylist()
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def without_passing(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name not in PASSING}


def judgement_of(folder: Path) -> dict[str, Any]:
    """Without latencies and times of scoring."""
    judgement: dict[str, Any] = json.loads((folder / "judgement.json").read_bytes())
    return {name: value for name, value in judgement.items() if name != "performance"}


def killed_and_resumed_twice(place: Pipeline, tmp_path: Path) -> None:
    feed = write_feed(tmp_path / "feed.csv", 12_000)
    whole = place.replay(feed, *COLUMNS, "--namespace", f"{place.namespace}-whole")
    folder = place.runs / place.namespace
    for start, goal in ((lambda: place.start_replay(feed, *COLUMNS), 2_500), (place.resume_replay, 6_000)):
        with start() as replay:
            place.until(lambda goal=goal: settled_of(folder) >= goal, f"{goal} are settled", 90)
            replay.kill()
        assert settled_of(folder) < 12_000
    with place.resume_replay() as replay:
        result = replay.result()
    assert without_passing(result) == without_passing(whole)
    assert (result["posts_read"], result["lost"]) == (12_000, 0)
    assert result["duplicates"] > 0 and sum(result["skipped"].values()) > 0
    assert rows_of(folder) == rows_of(place.runs / f"{place.namespace}-whole")
    assert judgement_of(folder) == judgement_of(place.runs / f"{place.namespace}-whole")
    keys = [(row["created_at"], row["id"]) for row in rows_of(folder)]
    assert keys == sorted(keys) and len(set(keys)) == result["predictions"]
    left = sorted(path.name for path in folder.iterdir())
    reports = ["report.html", "report.md"]
    assert left == ["judgement.json", "lock", "predictions.parquet", *reports, "result.json", "run.json", "topics.toml"]
    again = place.tried("replay", "--resume", str(folder))
    assert again.returncode == 2 and "was finished at" in again.stderr


def test_a_replay_killed_and_resumed_twice_ends_as_if_it_never_was(pipeline: Pipeline, tmp_path: Path) -> None:
    killed_and_resumed_twice(pipeline, tmp_path)


@on_embedded
def test_so_does_one_whose_broker_and_store_are_killed_with_it(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.own_stack = True
    killed_and_resumed_twice(pipeline, tmp_path)


@on_embedded
def test_speed_60_keeps_event_time_spacing_within_one_percent(pipeline: Pipeline, tmp_path: Path) -> None:
    posts = 600
    feed = write_feed(tmp_path / "feed.csv", posts, seconds_apart=2.0)  # 20 s at 60 times the speed
    result = pipeline.replay(feed, *COLUMNS, "--speed", "60")
    table = pq.read_table(pipeline.runs / pipeline.namespace / "predictions.parquet").to_pydict()
    event_s = np.array([at.timestamp() for at in table["created_at"]])
    ingested_s = np.array([at.timestamp() for at in table["ingested_at"]])
    expected_s = (event_s - event_s[0]) / 60
    error_s = np.abs(ingested_s - ingested_s[0] - expected_s)
    assert error_s.max() <= 0.01 * expected_s[-1]
    assert (ingested_s[-1] - ingested_s[0]) / expected_s[-1] == pytest.approx(1, abs=0.01)
    assert result["lost"] == 0


def test_a_paused_replay_waits_and_only_the_stretch_asked_for_is_replayed(pipeline: Pipeline, tmp_path: Path) -> None:
    feed = write_feed(tmp_path / "feed.csv", 420, seconds_apart=1.0)
    folder = pipeline.runs / pipeline.namespace
    stretch = ("--from", "2026-01-01T00:01:40", "--to", "2026-01-01T00:06:40Z")
    with pipeline.start_replay(feed, *COLUMNS, "--speed", "60", *stretch) as replay:
        pipeline.until(lambda: settled_of(folder) >= 20, "some are settled", 60)
        pipeline.ask_runs("pause", pipeline.namespace)
        time.sleep(1)
        before = pipeline.settled()
        time.sleep(1)
        assert pipeline.settled() == before < 250
        assert pipeline.ask_runs("show", pipeline.namespace)["status"] == "paused"
        pipeline.ask_runs("resume", pipeline.namespace)
        result = replay.result()
    assert result["skipped"]["outside of the time asked for"] == 120
    assert result["posts_read"] == 420 and result["lost"] == 0
    assert [run["status"] for run in pipeline.ask_runs("list")["runs"] if run["folder"]] == ["done"]


@on_embedded
def test_a_redis_lost_on_the_way_ends_a_paced_replay_long_before_its_archive_does(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = write_feed(tmp_path / "feed.csv", 600)  # ten minutes
    store, url = asyncio.run(start_store(tmp_path / "store.log", None))
    pipeline.own_stack = True
    monkeypatch.setenv("MOODSTREAM_REDIS", url)
    monkeypatch.setenv("MOODSTREAM_DRAIN_TIMEOUT_S", "1")
    folder = pipeline.runs / pipeline.namespace
    try:
        with pipeline.start_replay(feed, *COLUMNS, "--speed", "1") as replay:
            pipeline.until(lambda: settled_of(folder) >= 1, "one is settled", 60)
            store.kill()
            code, line = replay.failure(timeout_s=90)
    finally:
        store.kill()
    assert code == 1 and "was lost on the way" in line and line.endswith("start it and go on with --resume")
    run = json.loads((folder / "run.json").read_bytes())
    assert run["status"] == "failed" and run["read"] < 300


@on_embedded
def test_a_broker_that_dies_ends_a_replay_with_how_to_go_on_which_works(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.own_stack = True
    feed = write_feed(tmp_path / "feed.csv", 600)
    folder = pipeline.runs / pipeline.namespace
    with pipeline.start_replay(feed, *COLUMNS, "--speed", "60") as replay:
        pipeline.until(lambda: settled_of(folder) >= 20, "some are settled", 60)
        replay.kill_child("tansu")
        code, _ = replay.failure(timeout_s=90)
    run = json.loads((folder / "run.json").read_bytes())
    assert (code, run["status"]) == (1, "failed")
    remedy = f"go on with `moodstream replay --resume {folder}`"
    assert run["error"].startswith(f"the broker died (killed by SIGKILL): {remedy}; the end of")
    with pipeline.resume_replay() as replay:
        result = replay.result()
    assert (result["posts_read"], result["lost"]) == (600, 0)


@on_embedded
def test_a_server_that_dies_on_a_full_disk_is_told_as_that(pipeline: Pipeline, tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk."""
    pipeline.own_stack = True
    feed = write_feed(tmp_path / "feed.csv", 600)
    folder = pipeline.runs / pipeline.namespace
    with pipeline.start_replay(feed, *COLUMNS, "--speed", "60") as replay:
        pipeline.until(lambda: settled_of(folder) >= 20, "some are settled", 60)
        replay.limit_files(500_000)
        replay.kill_child("tansu")
        code, line = replay.failure(timeout_s=90)
    remedy = f"go on with `moodstream replay --resume {folder}`"
    assert (code, line) == (1, f"moodstream: no room left for {folder} (File too large): make some and {remedy}")
    assert pipeline.ask_runs("show", pipeline.namespace)["status"] == "interrupted"


def dump(pipeline: Pipeline, namespace: str) -> dict[bytes, bytes | None]:
    """Every key of a namespace but its workers' account of themselves, byte for byte."""
    found = [
        key for pattern in (f"{{{namespace}:*", f"{{{namespace}}}:*") for key in pipeline.redis.scan_iter(match=pattern)
    ]
    return {key: pipeline.redis.dump(key) for key in found if b":worker" not in key}


def test_deleting_a_replay_leaves_its_neighbours_and_live_as_they_were(pipeline: Pipeline, tmp_path: Path) -> None:
    feed = write_feed(tmp_path / "feed.csv", 200)
    neighbour = f"{pipeline.namespace}b"
    pipeline.replay(feed, *COLUMNS, "--namespace", neighbour)
    meta = msgspec.structs.replace(Results(pipeline.redis, neighbour).meta(), kind="live")
    pipeline.redis.set(meta_key(neighbour), msgspec.msgpack.encode(meta))
    before = dump(pipeline, neighbour)
    pipeline.replay(feed, *COLUMNS, "--workers", "2")
    pipeline.until(lambda: not pipeline.results.workers(), "the workers are gone", 30)
    assert dump(pipeline, neighbour) == before != {}
    listed = {run["namespace"]: run["folder"] for run in pipeline.ask_runs("list")["runs"]}
    assert listed[pipeline.namespace] and listed[neighbour]
    answer = pipeline.ask_runs("delete", pipeline.namespace, "--yes")
    assert answer["keys"] > 380 and answer["topics"][0] == f"{pipeline.namespace}.posts"
    assert dump(pipeline, pipeline.namespace) == {}
    into_live = ("replay", str(feed), *COLUMNS, "--namespace", neighbour, "--report", str(tmp_path / "out"))
    for refused in (("runs", "delete", neighbour, "--yes"), into_live):
        done = pipeline.tried(*refused)
        assert done.returncode == 2 and "is a live one" in done.stderr
    assert dump(pipeline, neighbour) == before
    assert not (pipeline.runs / pipeline.namespace).exists()
    assert (pipeline.runs / neighbour).exists()
