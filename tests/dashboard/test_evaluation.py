from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dashboard.evaluation import evaluate
from dashboard.predictions import ROWS_PER_GROUP, PredictionsFile
from inference_worker.contract import LABELS, Prediction
from ingest.contract import Label

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def prediction(
    number: int, predicted: Label, label: Label | None, *, abstained: bool = False, ms: int = 10
) -> Prediction:
    rest = [0.2, 0.2, 0.2]
    rest[LABELS.index(predicted)] = 0.6
    return Prediction(
        id=f"csv:{number}",
        source="csv",
        created_at=NOON,
        ingested_at=NOON,
        scored_at=NOON + timedelta(milliseconds=ms),
        predicted=predicted,
        probabilities=(rest[0], rest[1], rest[2]),
        text_probabilities=(0.5, 0.25, 0.25),
        confidence=0.6,
        abstained=abstained,
        model="mdse-small 2026-11-22.1",
        text=f"post {number}",
        topics=("trams",),
        label=label,
    )


def write(path: Path, predictions: list[Prediction]) -> Path:
    with PredictionsFile(path / "predictions.parquet") as file:
        for one in predictions:
            file.write(one)
    return path / "predictions.parquet"


def test_evaluate_counts_by_hand(tmp_path: Path) -> None:
    rows: list[tuple[Label, Label | None]] = [
        ("positive", "positive"),
        ("positive", "positive"),
        ("positive", "negative"),
        ("neutral", "neutral"),
        ("negative", "neutral"),
        ("negative", None),
    ]
    found = evaluate(write(tmp_path, [prediction(n, predicted, label) for n, (predicted, label) in enumerate(rows)]))
    assert (found.posts, found.labelled) == (6, 5)
    assert found.accuracy == pytest.approx(3 / 5)
    assert found.confusion == [[2, 0, 0], [0, 1, 1], [1, 0, 0]]
    positive, neutral, negative = (found.per_class[label] for label in LABELS)
    assert (positive.precision, positive.recall, positive.f1) == pytest.approx((2 / 3, 1.0, 0.8))
    assert (neutral.precision, neutral.recall, neutral.f1) == pytest.approx((1.0, 0.5, 2 / 3))
    assert (negative.precision, negative.recall, negative.f1, negative.support) == (0.0, 0.0, 0.0, 1)
    assert found.macro_f1 == pytest.approx((0.8 + 2 / 3 + 0) / 3)
    assert found.weighted_f1 == pytest.approx((0.8 * 2 + 2 / 3 * 2) / 5)


def test_macro_f1_leaves_out_classes_that_never_occur(tmp_path: Path) -> None:
    found = evaluate(write(tmp_path, [prediction(1, "positive", "positive"), prediction(2, "negative", "negative")]))
    assert found.macro_f1 == 1.0
    assert found.per_class["neutral"].f1 is None


def test_abstention_splits_coverage_from_accuracy(tmp_path: Path) -> None:
    rows = [prediction(1, "positive", "positive"), prediction(2, "negative", "positive", abstained=True)]
    found = evaluate(write(tmp_path, rows))
    assert (found.accuracy, found.coverage, found.accuracy_answered) == (0.5, 0.5, 1.0)


def test_latency_percentiles_are_of_all_posts(tmp_path: Path) -> None:
    found = evaluate(write(tmp_path, [prediction(n, "positive", None, ms=n) for n in range(101)]))
    assert found.latency_ms == {"p50": 50.0, "p95": 95.0, "p99": 99.0}
    assert found.accuracy is None


def test_evaluate_of_an_empty_file_knows_nothing(tmp_path: Path) -> None:
    found = evaluate(write(tmp_path, []))
    assert (found.posts, found.accuracy, found.macro_f1, found.coverage) == (0, None, None, None)
    assert found.latency_ms == {"p50": None, "p95": None, "p99": None}


def test_file_is_written_in_row_groups_and_keeps_every_column(tmp_path: Path) -> None:
    path = write(tmp_path, [prediction(n, "neutral", "positive") for n in range(ROWS_PER_GROUP + 1)])
    with pq.ParquetFile(path) as file:
        assert file.num_row_groups == 2
        row = file.read_row_group(1).to_pylist()[0]
    assert row["id"] == f"csv:{ROWS_PER_GROUP}"
    assert row["neutral"] == pytest.approx(0.6)
    assert (row["text_positive"], row["image_positive"]) == (0.5, None)
    assert (row["label"], row["predicted"], row["topics"]) == ("positive", "neutral", ["trams"])
    assert row["scored_at"] - row["ingested_at"] == timedelta(milliseconds=10)
