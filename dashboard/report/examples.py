"""Posts worth reading: where the model was surest and wrong, where it would not say, where it was surest and right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from inference_worker.contract import LABELS, Distribution, Results

PictureOf = Callable[[str], bytes | None]
"""The JPEG of a post that may be shown; None without one, or where it must not be shown."""
SHOWN: Final = 6
_SPARE: Final = 4
"""Times as many candidates are read as are shown: people repeat each other, and once is enough."""
TEXT_SHOWN: Final = 600


@dataclass(frozen=True, kw_only=True)
class Example:
    """One post of a replay, as far as predictions.parquet knows it."""

    id: str
    source: str
    created_at: datetime
    text: str
    label: str | None
    predicted: str
    confidence: float
    abstained: bool
    images: int
    probabilities: Distribution

    @property
    def shortened(self) -> str:
        return self.text if len(self.text) <= TEXT_SHOWN else self.text[: TEXT_SHOWN - 1].rstrip() + "…"


@dataclass(frozen=True, kw_only=True)
class Examples:
    """wrong and right: surest first, answered ones only; abstained: least sure first. The first two need labels."""

    wrong: tuple[Example, ...]
    abstained: tuple[Example, ...]
    right: tuple[Example, ...]


def pictures(results: Results) -> PictureOf:
    """Pictures of a replay, while its store is there; those marked sensitive are not given out."""

    def picture_of(post_id: str) -> bytes | None:
        post = results.prediction(post_id)
        if post is None or post.sensitive or not post.images:
            return None
        return results.thumbnails([(post_id, post.strongest_image)])[0]

    return picture_of


def pick(predictions: Path) -> Examples:
    """The same file gives the same posts in the same order."""
    with pq.ParquetFile(predictions) as file:
        marks = file.read(["id", "label", "predicted", "confidence", "abstained"])
        sure = np.asarray(marks["confidence"].to_numpy(), dtype=np.float64)
        silent = np.asarray(marks["abstained"].to_numpy(), dtype=bool)
        label, predicted = (_places(marks[name]) for name in ("label", "predicted"))
        answered = (label >= 0) & ~silent
        order = np.argsort(np.asarray(marks["id"].to_pylist(), dtype=object), kind="stable")
        surest = order[np.argsort(-sure[order], kind="stable")]
        kinds = {
            "wrong": surest[(answered & (label != predicted))[surest]],
            "abstained": surest[::-1][silent[surest[::-1]]],
            "right": surest[(answered & (label == predicted))[surest]],
        }
        return Examples(**{kind: _distinct(examples(file, rows[: SHOWN * _SPARE])) for kind, rows in kinds.items()})


def examples(file: pq.ParquetFile, rows: Sequence[int] | np.ndarray) -> list[Example]:
    """The posts in these rows, in this order; reads only the groups they are in."""
    first = 0
    found: dict[int, Example] = {}
    for group in range(file.metadata.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        wanted = sorted({int(row) for row in rows if first <= row < first + count})
        if wanted:
            columns = ["id", "source", "created_at", "text", "label", "predicted", "confidence", "abstained", "images"]
            table = file.read_row_group(group, [*columns, *LABELS]).take([row - first for row in wanted])
            found.update(zip(wanted, map(_example, table.to_pylist()), strict=True))
        first += count
    return [found[int(row)] for row in rows]


def _example(row: dict[str, Any]) -> Example:
    positive, neutral, negative = (row.pop(label) for label in LABELS)
    return Example(**{**row, "text": row["text"] or ""}, probabilities=(positive, neutral, negative))


def _distinct(found: Sequence[Example]) -> tuple[Example, ...]:
    """One of those that say the same, as far as it can be told: posts without text are all kept."""
    seen: set[str] = set()
    kept = []
    for one in found:
        said = " ".join(one.text.lower().split()[-12:])
        if not said or said not in seen:
            seen.add(said)
            kept.append(one)
    return tuple(kept[:SHOWN])


def _places(words: pa.ChunkedArray) -> np.ndarray:
    """Words → their places in LABELS, -1 for none."""
    plain = words.cast(pa.string())
    return np.asarray(pc.index_in(plain, value_set=pa.array(LABELS)).fill_null(-1).to_numpy())
