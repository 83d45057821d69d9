"""How right a replay was: predictions.parquet → accuracy, F1, confusion, abstention and latency.

Only posts with a ground-truth label are judged; all posts count for latency. Free of Streamlit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from inference_worker.contract import LABELS

ROWS_AT_ONCE: Final = 50_000
PERCENTILES: Final = (50, 95, 99)


class ClassScores(msgspec.Struct, frozen=True, kw_only=True):
    """One class; precision is None if nothing was called so, recall if nothing was so. F1 is None if neither."""

    precision: float | None
    recall: float | None
    f1: float | None
    support: int


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What the labels say about the predictions.

    macro_f1: plain mean of F1 over the classes that occur among labels or predictions; weighted_f1: by support.
    confusion[i][j]: posts labelled LABELS[i] and predicted LABELS[j].
    coverage: share of judged posts the model did not abstain on; accuracy_answered: accuracy on those alone.
    latency_ms: p50, p95, p99 from ingest to score. None stands for "no post to tell from".
    """

    posts: int
    labelled: int
    accuracy: float | None
    macro_f1: float | None
    weighted_f1: float | None
    coverage: float | None
    accuracy_answered: float | None
    per_class: dict[str, ClassScores]
    confusion: list[list[int]]
    latency_ms: dict[str, float | None]


def evaluate(predictions: Path) -> Evaluation:
    """Judges a file `dashboard.predictions` wrote, reading ROWS_AT_ONCE rows at a time."""
    posts = 0
    answered = np.zeros((len(LABELS), len(LABELS)), dtype=np.int64)
    abstained = np.zeros_like(answered)
    latencies: list[np.ndarray] = []
    columns = ["label", "predicted", "abstained", "ingested_at", "scored_at"]
    with pq.ParquetFile(predictions) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=columns):
            posts += batch.num_rows
            latencies.append(_latencies_ms(batch))
            labels, predicted = _indices(batch["label"]), _indices(batch["predicted"])
            abstains = batch["abstained"].to_numpy(zero_copy_only=False)
            for matrix, chosen in ((answered, ~abstains), (abstained, abstains)):
                judged = chosen & (labels >= 0)
                np.add.at(matrix, (labels[judged], predicted[judged]), 1)
    return _evaluation(posts, answered, abstained, np.concatenate(latencies) if latencies else np.empty(0))


def _evaluation(posts: int, answered: np.ndarray, abstained: np.ndarray, latencies_ms: np.ndarray) -> Evaluation:
    confusion = answered + abstained
    support, called, right = confusion.sum(axis=1), confusion.sum(axis=0), confusion.diagonal()
    scores: dict[str, ClassScores] = {
        label: ClassScores(
            precision=_share(right[index], called[index]),
            recall=_share(right[index], support[index]),
            f1=_share(2 * right[index], called[index] + support[index]),
            support=int(support[index]),
        )
        for index, label in enumerate(LABELS)
    }
    occurring = [one for one in scores.values() if one.f1 is not None]
    return Evaluation(
        posts=posts,
        labelled=int(confusion.sum()),
        accuracy=_share(right.sum(), confusion.sum()),
        macro_f1=_share(sum(one.f1 or 0.0 for one in occurring), len(occurring)),
        weighted_f1=_share(sum((one.f1 or 0.0) * one.support for one in occurring), confusion.sum()),
        coverage=_share(answered.sum(), confusion.sum()),
        accuracy_answered=_share(answered.trace(), answered.sum()),
        per_class=scores,
        confusion=confusion.tolist(),
        latency_ms={f"p{rank}": _percentile(latencies_ms, rank) for rank in PERCENTILES},
    )


def _indices(words: pa.Array) -> np.ndarray:
    """Dictionary-encoded words → positions in LABELS, -1 for null."""
    found = pc.index_in(words.dictionary_decode(), value_set=pa.array(LABELS))
    return np.asarray(found.fill_null(-1))


def _latencies_ms(batch: pa.RecordBatch) -> np.ndarray:
    ingested, scored = (batch[name].cast(pa.int64()).to_numpy() for name in ("ingested_at", "scored_at"))
    return np.asarray(scored - ingested, dtype=np.float32)


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _percentile(values: np.ndarray, rank: int) -> float | None:
    return float(np.percentile(values, rank)) if values.size else None
