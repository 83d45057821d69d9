"""Drained predictions: nothing lost or doubled by a crash, and one sorted file at the end."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dashboard import parts
from dashboard.parts import Parts
from inference_worker.contract import Prediction
from tests.inference_worker.conftest import NOON


def made(number: int, **changes: Any) -> Prediction:
    fields: dict[str, Any] = {
        "id": f"x:{number:04d}",
        "source": "x",
        "created_at": NOON + timedelta(seconds=number),
        "ingested_at": NOON,
        "scored_at": NOON,
        "predicted": ("positive", "neutral", "negative")[number % 3],
        "probabilities": (0.7, 0.2, 0.1),
        "confidence": 0.7,
        "model": f"m {number % 4}",
        "text": f"number {number}",
        "topics": ("tram",) if number % 2 else (),
    }
    return Prediction(**(fields | changes))


def test_rows_come_sorted_from_whichever_part_they_are_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "ROWS_AT_ONCE", 7)
    monkeypatch.setattr(parts, "PARTS_AT_HAND", 2)
    given = Parts(tmp_path / "parts")
    for start in range(10):
        given.write(start % 2, f"{1000 + start}-3", [made(number) for number in range(start, 60, 10)])
    assert given.merge(tmp_path / "all.parquet") == 60
    rows = pq.read_table(tmp_path / "all.parquet").to_pylist()
    assert [row["id"] for row in rows] == [f"x:{number:04d}" for number in range(60)]
    assert [row["text"] for row in rows] == [f"number {number}" for number in range(60)]
    assert [row["model"] for row in rows] == [f"m {number % 4}" for number in range(60)]
    assert [row["predicted"] for row in rows[:3]] == ["positive", "neutral", "negative"]
    assert [path.name for path in tmp_path.iterdir()] != ["all.parquet.part"]


def test_a_post_is_kept_once_in_its_highest_revision_and_not_at_all_once_deleted(tmp_path: Path) -> None:
    given = Parts(tmp_path)
    given.write(0, "1-0", [made(1), made(2), made(3)])
    given.write(0, "2-0", [made(1, revision=2, text="edited"), made(2, text="drained twice")])
    asked: list[str] = []

    def withdrawn(ids: Iterable[str]) -> set[str]:
        asked.extend(ids)
        return {"x:0003"}

    assert given.merge(tmp_path / "all.parquet", withdrawn=withdrawn) == 2
    assert asked == ["x:0001", "x:0002", "x:0003"]
    rows = pq.read_table(tmp_path / "all.parquet").to_pylist()
    assert [(row["id"], row["text"]) for row in rows] == [("x:0001", "edited"), ("x:0002", "number 2")]


def test_no_predictions_make_an_empty_file(tmp_path: Path) -> None:
    assert Parts(tmp_path / "parts").merge(tmp_path / "all.parquet") == 0
    assert pq.read_table(tmp_path / "all.parquet").num_rows == 0


def test_the_newest_part_tells_how_far_a_shard_is_drained_and_unfinished_ones_count_for_nothing(tmp_path: Path) -> None:
    given = Parts(tmp_path)
    assert given.last_id(0) is None
    given.write(0, "999-7", [made(1)])
    given.write(0, "1000-2", [made(2)])
    given.write(1, "5000-0", [made(3)])
    (tmp_path / "0000-000000000009999-0000000000.part").write_bytes(b"half")
    again = Parts(tmp_path)
    assert (again.last_id(0), again.last_id(1), again.last_id(2)) == ("1000-2", "5000-0", None)
    assert len(list(tmp_path.iterdir())) == 3
