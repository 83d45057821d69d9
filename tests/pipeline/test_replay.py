"""A replay from file to rollups: every post accounted for, once, and scored as the model alone would."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from inference_worker import artifact
from inference_worker.contract import LABELS
from inference_worker.settings import DEFAULT_MODEL
from ingest.contract import Post
from ingest.media.sanitize import make_safe
from tests.pipeline.conftest import Pipeline, as_result, on_apache, on_embedded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_replay_of_any_csv_accounts_for_every_post(
    pipeline: Pipeline, made_up_feed: Path, made_up_map: tuple[str, ...], tmp_path: Path
) -> None:
    result = pipeline.replay(made_up_feed, *made_up_map, "--report", str(tmp_path))
    found = {name: result[name] for name in ("posts_read", "duplicates", "predictions", "lost", "dead_letters")}
    assert found == {"posts_read": 126, "duplicates": 5, "predictions": 120, "lost": 0, "dead_letters": 0}
    assert sum(result["skipped"].values()) == 1
    assert result["namespace"] == pipeline.namespace
    assert result == as_result(tmp_path)
    total = pipeline.results.total("all")
    assert (total.posts, total.labelled, total.with_text) == (120, 120, 120)
    table = pq.read_table(tmp_path / "predictions.parquet", columns=["id", "text", "label", "predicted"])
    assert len(set(table["id"].to_pylist())) == table.num_rows == 120
    assert not any(text.startswith("edited") for text in table["text"].to_pylist())  # the first of an id counts
    right = sum(row["label"] == row["predicted"] for row in table.to_pylist())
    assert result["accuracy"] == pytest.approx(right / 120)
    assert total.correct == right


@on_embedded
def test_replaying_again_changes_no_rollup(
    pipeline: Pipeline, made_up_feed: Path, made_up_map: tuple[str, ...], tmp_path: Path
) -> None:
    pipeline.replay(made_up_feed, *made_up_map)
    before = pipeline.rollups()
    again = pipeline.replay(made_up_feed, *made_up_map, "--report", str(tmp_path / "again"))
    assert before and pipeline.rollups() == before
    assert (again["predictions"], again["duplicates"], again["lost"]) == (0, 125, 0)
    assert again["accuracy"] is None


@pytest.mark.data
@pytest.mark.timeout(1200)
@on_apache
def test_replay_of_the_airline_feed_with_its_worker_killed_three_times(
    pipeline: Pipeline, feeds: Path, tmp_path: Path
) -> None:
    feed = feeds / "us_airline_2015.csv"
    with pipeline.start_replay(feed, "--speed", "max") as replay:
        for share in (0.15, 0.4, 0.65):
            pipeline.until(lambda share=share: pipeline.settled() > share * 14640, f"{share:.0%} are settled", 300)
            replay.kill_worker()
        first = replay.result()
    found = {name: first[name] for name in ("posts_read", "duplicates", "predictions", "lost", "dead_letters")}
    assert found == {"posts_read": 14640, "duplicates": 155, "predictions": 14485, "lost": 0, "dead_letters": 0}
    assert first["worker_restarts"] == 3
    assert pipeline.results.total("all").posts == 14485
    assert first["throughput_posts_per_s"] > 0
    assert set(first["latency_ms"]) == {"p50", "p95", "p99"}
    assert 0 < first["macro_f1"] <= first["accuracy"] <= 1
    drained = pq.read_table(Path(first["report"]) / "predictions.parquet", columns=["id"])["id"].to_pylist()
    assert len(drained) == len(set(drained)) == 14485
    before = pipeline.rollups()
    again = pipeline.replay(feed, "--speed", "max", "--report", str(tmp_path / "again"))
    assert pipeline.rollups() == before
    assert (again["predictions"], again["duplicates"], again["lost"]) == (0, 14640, 0)


@pytest.mark.data
@on_embedded
def test_replay_scores_as_the_model_alone_does(pipeline: Pipeline, data: Path, tmp_path: Path) -> None:
    result = pipeline.replay(data / "mvsa_single.parquet", "--split", "test", "--report", str(tmp_path))
    assert (result["posts_read"], result["predictions"], result["lost"]) == (450, 450, 0)
    replayed = {row["id"]: row for row in pq.read_table(tmp_path / "predictions.parquet").to_pylist()}
    rows = pq.read_table(data / "mvsa_single.parquet", filters=[("split", "=", "test")]).to_pylist()
    predictor = artifact.load(DEFAULT_MODEL)
    now = datetime.now(UTC)
    right = 0
    for row in rows:
        post = Post(
            id=f"mvsa:{row['id']}",
            source="mvsa",
            created_at=now,
            ingested_at=now,
            text=row["text"],
            images=(make_safe(row["image"]),),
        )
        scores = predictor.predict([predictor.prepare(post)])[0]
        mine = replayed[post.id]
        assert mine["predicted"] == LABELS[int(np.argmax(scores.fused))]
        assert [mine[label] for label in LABELS] == pytest.approx(scores.fused, abs=1e-4)
        right += mine["predicted"] == row["label"]
    assert result["accuracy"] == pytest.approx(right / 450)


@pytest.mark.data
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("stack", "archive"),
    [("embedded", "memotion7k.parquet"), pytest.param("apache", "mvsa_single.parquet", marks=pytest.mark.kafka)],
    indirect=["stack"],
    scope="session",
)
def test_a_replay_equals_evaluate_to_the_row(pipeline: Pipeline, data: Path, tmp_path: Path, archive: str) -> None:
    chosen = (str(data / archive), "--split", "test")
    replayed = pipeline.replay(data / archive, "--split", "test", "--report", str(tmp_path / "replay"))
    evaluated = pipeline.ask("evaluate", "--data", *chosen, "--report", str(tmp_path / "evaluate"))
    rows, others = (
        pq.read_table(tmp_path / name / "predictions.parquet").to_pylist() for name in ("replay", "evaluate")
    )
    assert [row["id"] for row in rows] == [row["id"] for row in others]
    assert [row["predicted"] for row in rows] == [row["predicted"] for row in others]
    for row, other in zip(rows, others, strict=True):
        assert [row[label] for label in LABELS] == pytest.approx([other[label] for label in LABELS], abs=1e-4)
    assert replayed["confusion"] == evaluated["confusion"]
