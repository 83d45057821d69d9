"""What people said of posts, told with who and when, and taken out again as training data."""

from __future__ import annotations

import io
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from redis import Redis

from dashboard.access import Person
from dashboard.corrections import NotAllowed, as_archive, as_csv, as_parquet, correct, corrected
from inference_worker.amendments import corrections, steps_of
from inference_worker.contract import Results
from ingest.contract import Post
from ingest.sources.archive import records_of
from tests.dashboard.seeding import NOW, Seed, prediction
from tests.inference_worker.test_store import dump

ANN = Person("ann@example.org", "editor")


@pytest.fixture
def results(redis: Redis, seed: Seed) -> Results:
    seed([prediction(n, NOW - timedelta(minutes=n), text=f"=post {n}", images=n % 2) for n in range(4)])
    return Results(redis, "live")


def test_a_correction_and_its_undo_leave_every_rollup_as_it_was(results: Results, redis: Redis) -> None:
    before = dump(redis)
    correct(results, ANN, "sample:1", "negative", at=NOW)
    assert dump(redis) != before
    correct(results, ANN, "sample:1", None, at=NOW)
    assert dump(redis) == before
    assert [(step.by, step.label) for step in corrections(results)] == [(ANN.name, "negative"), (ANN.name, None)]


def test_a_reader_corrects_nothing(results: Results) -> None:
    with pytest.raises(NotAllowed, match="relabelling is for editors"):
        correct(results, Person("bob@example.org", "viewer"), "sample:1", "negative", at=NOW)
    assert corrections(results) == []


def test_the_history_of_one_post_is_its_own(results: Results) -> None:
    for number, label in ((1, "negative"), (2, "neutral"), (1, "neutral")):
        correct(results, ANN, f"sample:{number}", label, at=NOW)  # type: ignore[arg-type]
    assert [step.label for step in steps_of(results, "sample:1")] == ["negative", "neutral"]
    assert steps_of(results, "sample:3") == []


def test_exports_hold_what_stands(results: Results, tmp_path: Path) -> None:
    for number, label in ((1, "negative"), (2, "neutral"), (1, "neutral"), (3, "negative")):
        correct(results, ANN, f"sample:{number}", label, at=NOW + timedelta(seconds=number))  # type: ignore[arg-type]
    correct(results, ANN, "sample:3", None, at=NOW + timedelta(seconds=9))
    rows = corrected(results, corrections(results))
    archive = tmp_path / "corrections.jsonl.zst"
    archive.write_bytes(as_archive(rows))
    read = [record for record in records_of(archive) if isinstance(record, Post)]
    assert {(post.id, post.label, len(post.images)) for post in read} == {
        ("sample:1", "neutral", 1),
        ("sample:2", "neutral", 0),
    }
    table = pq.read_table(io.BytesIO(as_parquet(rows))).to_pylist()
    assert {(row["id"], row["label"], row["predicted"], row["by"]) for row in table} == {
        ("sample:1", "neutral", "positive", ANN.name),
        ("sample:2", "neutral", "positive", ANN.name),
    }
    assert [row["image"][:2] for row in table if row["image"]] == [b"\xff\xd8"]
    assert "'=post 1" in as_csv(rows)
