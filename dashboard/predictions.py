"""`predictions.parquet`: every prediction of a replay, one row each, written in chunks; what evaluation reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from inference_worker.contract import LABELS, Distribution, Prediction

ROWS_PER_GROUP: Final = 5_000
"""About 10 MB held at a time; fewer, larger groups read back faster."""

_TIME: Final = pa.timestamp("ms", tz="UTC")
_WORD: Final = pa.dictionary(pa.int32(), pa.string())
SCHEMA: Final = pa.schema(
    [
        ("id", pa.string()),
        ("source", _WORD),
        ("revision", pa.int32()),
        ("created_at", _TIME),
        ("ingested_at", _TIME),
        ("scored_at", _TIME),
        ("text", pa.string()),
        ("lang", _WORD),
        ("images", pa.int8()),
        ("topics", pa.list_(pa.string())),
        ("label", _WORD),
        ("predicted", _WORD),
        ("confidence", pa.float32()),
        ("abstained", pa.bool_()),
        *((label, pa.float32()) for label in LABELS),
        *((f"text_{label}", pa.float32()) for label in LABELS),
        *((f"image_{label}", pa.float32()) for label in LABELS),
        ("model", _WORD),
        ("warnings", pa.list_(pa.string())),
        ("foreign", pa.bool_()),
        ("embedding", pa.binary()),
        ("queued_ms", pa.int32()),
        ("computed_ms", pa.int32()),
    ]
)
"""Columns named after a class are probabilities: fused, of the text alone, of the image alone (null if it lacks it)."""


class PredictionsFile:
    """Writes predictions as they come, holding at most ROWS_PER_GROUP of them; use as `with`."""

    def __init__(self, path: Path) -> None:
        self.rows = 0
        self._waiting: list[Prediction] = []
        self._writer = pq.ParquetWriter(path, SCHEMA, compression="zstd")

    def __enter__(self) -> PredictionsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flush()
        self._writer.close()

    def write(self, prediction: Prediction) -> None:
        self.rows += 1
        self._waiting.append(prediction)
        if len(self._waiting) >= ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(table_of(self._waiting))
            self._waiting.clear()


def table_of(predictions: Sequence[Prediction]) -> pa.Table:
    """Predictions as SCHEMA has them, a row each."""
    plain = {name: [getattr(one, name) for one in predictions] for name in SCHEMA.names if hasattr(Prediction, name)}
    distributions = {
        **_columns("", [one.probabilities for one in predictions]),
        **_columns("text_", [one.text_probabilities for one in predictions]),
        **_columns("image_", [one.image_probabilities for one in predictions]),
    }
    return pa.Table.from_pydict({**plain, **distributions}, schema=SCHEMA)


def _columns(prefix: str, distributions: Sequence[Distribution | None]) -> dict[str, list[float | None]]:
    return {
        f"{prefix}{label}": [one[index] if one is not None else None for one in distributions]
        for index, label in enumerate(LABELS)
    }
