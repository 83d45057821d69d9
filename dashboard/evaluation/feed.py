"""predictions.parquet → columns in event-time order, one row a post: what every part of the evaluation looks at.

Read batch by batch; texts are turned into traits on the way and not kept: about 150 bytes a row stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from inference_worker.contract import EMBEDDING_SIZE, LABELS

ROWS_AT_ONCE: Final = 50_000
COLUMNS: Final = (
    *("id", "source", "revision", "created_at", "ingested_at", "scored_at", "text", "lang", "label", "predicted"),
    *("confidence", "abstained", *LABELS, "text_positive", "image_positive", "model", "foreign", "embedding"),
    *("queued_ms", "computed_ms"),
)
EMOJI: Final = r"[\x{1F000}-\x{1FAFF}\x{2600}-\x{27BF}\x{2B50}\x{2B55}\x{2B1B}\x{2B1C}]"
HASHTAG: Final = r"#[\p{L}\p{N}_]"
RETWEET: Final = r"^RT @"


class BadPredictions(ValueError):
    """The file is no predictions.parquet."""


@dataclass(frozen=True, kw_only=True)
class Feed:
    """N posts by event time, ties by id; of a post with several revisions, the last one alone.

    labels, predicted: positions in LABELS, -1 for none; probabilities: (N, 3); embeddings: (N, EMBEDDING_SIZE) signed
    bytes, zeros where a post has none; sources, languages, models: words, "" for none; *_ms: since the epoch,
    but queued_ms and computed_ms: as in Prediction, -1 where nobody took the time.
    rows: where each post stands in the file.
    """

    ids: pa.ChunkedArray
    rows: np.ndarray
    created_ms: np.ndarray
    ingested_ms: np.ndarray
    scored_ms: np.ndarray
    queued_ms: np.ndarray
    computed_ms: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray
    confidence: np.ndarray
    abstained: np.ndarray
    foreign: np.ndarray
    has_text: np.ndarray
    has_image: np.ndarray
    length: np.ndarray
    has_emoji: np.ndarray
    has_hashtag: np.ndarray
    is_retweet: np.ndarray
    sources: pa.ChunkedArray
    languages: pa.ChunkedArray
    models: pa.ChunkedArray
    embeddings: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def is_labelled(self) -> np.ndarray:
        return np.asarray(self.labels >= 0)

    @property
    def is_right(self) -> np.ndarray:
        """Meaningful where `is_labelled`."""
        return np.asarray(self.labels == self.predicted)


def read_feed(path: Path) -> Feed:
    """Raises BadPredictions."""
    try:
        with pq.ParquetFile(path) as file:
            if missing := [name for name in COLUMNS if name not in file.schema_arrow.names]:
                raise BadPredictions(f"{path} lacks the columns {', '.join(missing)}: replay the archive again")
            batches = [_columns(batch) for batch in file.iter_batches(ROWS_AT_ONCE, columns=list(COLUMNS))]
    except (OSError, pa.ArrowInvalid) as error:
        raise BadPredictions(f"{path} cannot be read: {error}: name the predictions.parquet of a replay") from error
    table = pa.Table.from_batches(batches, schema=_SCHEMA)
    order = _order(table)
    table = table.take(order)
    numbers = {name: _numpy(table[name]) for name in _SCHEMA.names if name not in _AS_ARROW}
    return Feed(
        ids=table["id"],
        rows=_numpy(order),
        probabilities=np.stack([_numpy(table[label]) for label in LABELS], axis=1),
        embeddings=_embeddings(table["embedding"]),
        sources=table["sources"],
        languages=table["languages"],
        models=table["models"],
        **numbers,
    )


def read_texts(path: Path, rows: np.ndarray) -> list[str]:
    """Texts of the posts that stand at `rows` of the file, in the order of `rows`."""
    wanted = np.sort(rows)
    parts: list[pa.Array] = []
    first = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=["text"]):
            low, high = np.searchsorted(wanted, [first, first + batch.num_rows])
            parts.append(batch["text"].take(pa.array(wanted[low:high] - first)))
            first += batch.num_rows
    texts = [text or "" for part in parts for text in part.to_pylist()]
    return [texts[place] for place in np.searchsorted(wanted, rows)]


_AS_ARROW: Final = frozenset({"id", "sources", "languages", "models", "embedding", "revision", *LABELS})
_SCHEMA: Final = pa.schema(
    [
        ("id", pa.string()),
        ("revision", pa.int32()),
        *((name, pa.int64()) for name in ("created_ms", "ingested_ms", "scored_ms")),
        *((name, pa.int32()) for name in ("queued_ms", "computed_ms")),
        *((name, pa.int8()) for name in ("labels", "predicted")),
        *((name, pa.float32()) for name in (*LABELS, "confidence")),
        *((name, pa.bool_()) for name in ("abstained", "foreign", "has_text", "has_image")),
        ("length", pa.int32()),
        *((name, pa.bool_()) for name in ("has_emoji", "has_hashtag", "is_retweet")),
        *((name, pa.string()) for name in ("sources", "languages", "models")),
        ("embedding", pa.binary(EMBEDDING_SIZE)),
    ]
)


def _columns(batch: pa.RecordBatch) -> pa.RecordBatch:
    text = pc.fill_null(batch["text"], "")
    embedding = batch["embedding"]
    has_embedding = pc.equal(pc.binary_length(embedding), EMBEDDING_SIZE)
    return pa.RecordBatch.from_pydict(
        {
            "id": batch["id"],
            "revision": batch["revision"],
            **{f"{name}_ms": batch[f"{name}_at"].cast(pa.int64()) for name in ("created", "ingested", "scored")},
            **{name: pc.fill_null(batch[name], -1) for name in ("queued_ms", "computed_ms")},
            "labels": _positions(batch["label"]),
            "predicted": _positions(batch["predicted"]),
            **{name: batch[name] for name in (*LABELS, "confidence")},
            "abstained": batch["abstained"],
            "foreign": pc.fill_null(batch["foreign"], False),
            "has_text": pc.is_valid(batch["text_positive"]),
            "has_image": pc.is_valid(batch["image_positive"]),
            "length": pc.utf8_length(text),
            "has_emoji": pc.match_substring_regex(text, EMOJI),
            "has_hashtag": pc.match_substring_regex(text, HASHTAG),
            "is_retweet": pc.match_substring_regex(text, RETWEET),
            "sources": _words(batch["source"]),
            "languages": _words(batch["lang"]),
            "models": _words(batch["model"]),
            "embedding": pc.if_else(has_embedding, embedding, pa.scalar(bytes(EMBEDDING_SIZE))).cast(
                pa.binary(EMBEDDING_SIZE)
            ),
        },
        schema=_SCHEMA,
    )


def _order(table: pa.Table) -> pa.Array:
    """Positions of the rows by event time, ties by id; earlier revisions of a post are left out."""
    keys = pa.table({"id": table["id"], "revision": table["revision"], "at": table["created_ms"]})
    order = pc.sort_indices(keys, sort_keys=[("at", "ascending"), ("id", "ascending"), ("revision", "ascending")])
    if len(pc.unique(table["id"])) == table.num_rows:
        return order
    by_id = pc.sort_indices(keys, sort_keys=[("id", "ascending"), ("revision", "ascending"), ("at", "ascending")])
    sorted_ids = table["id"].take(by_id)
    is_last = np.append(_numpy(pc.not_equal(sorted_ids[:-1], sorted_ids[1:])), True)
    return order.filter(pc.is_in(order, value_set=by_id.filter(pa.array(is_last))))


def _positions(words: pa.Array) -> pa.Array:
    return pc.fill_null(pc.index_in(words.dictionary_decode(), value_set=pa.array(LABELS)), -1).cast(pa.int8())


def _words(words: pa.Array) -> pa.Array:
    return pc.fill_null(words.dictionary_decode(), "")


def _numpy(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    return np.asarray(column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column.to_numpy())


def _embeddings(column: pa.ChunkedArray) -> np.ndarray:
    parts: Sequence[np.ndarray] = [
        np.frombuffer(chunk.buffers()[1], dtype=np.int8).reshape(-1, EMBEDDING_SIZE)[
            chunk.offset : chunk.offset + len(chunk)
        ]
        for chunk in column.chunks
        if len(chunk)
    ]
    return np.concatenate(parts) if parts else np.empty((0, EMBEDDING_SIZE), dtype=np.int8)
