"""Made-up predictions, and what the evaluation's tests read them from."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from dashboard.evaluation.feed import Feed, read_feed
from dashboard.predictions import PredictionsFile
from inference_worker.contract import EMBEDDING_SIZE, LABELS, Distribution, Prediction, most_likely
from ingest.contract import Label

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def distribution(predicted: Label, confidence: float) -> Distribution:
    rest = [(1 - confidence) / 2] * len(LABELS)
    rest[LABELS.index(predicted)] = confidence
    return rest[0], rest[1], rest[2]


def prediction(
    number: int,
    predicted: Label = "positive",
    label: Label | None = None,
    *,
    confidence: float = 0.6,
    abstained: bool = False,
    text: str | None = None,
    has_image: bool = False,
    lang: str | None = None,
    revision: int = 0,
    at: datetime | None = None,
    ms: int = 10,
    queued_ms: int | None = None,
    computed_ms: int | None = None,
    embedding: bytes = b"",
    source: str = "csv",
) -> Prediction:
    """Post `number` stands `number` minutes after NOON; text="" stands for a post without text."""
    fused = distribution(predicted, confidence)
    return Prediction(
        id=f"{source}:{number}",
        source=source,
        revision=revision,
        created_at=at or NOON + timedelta(minutes=number),
        ingested_at=NOON,
        scored_at=NOON + timedelta(milliseconds=ms),
        queued_ms=queued_ms,
        computed_ms=computed_ms,
        predicted=most_likely(fused),
        probabilities=fused,
        text_probabilities=None if text == "" else fused,
        image_probabilities=fused if has_image else None,
        confidence=confidence,
        abstained=abstained,
        model="mdse-small 2026-11-22.1",
        text=f"post {number}" if text is None else text,
        lang=lang,
        label=label,
        embedding=embedding,
    )


def write(folder: Path, predictions: Iterable[Prediction], name: str = "predictions.parquet") -> Path:
    with PredictionsFile(folder / name) as file:
        for one in predictions:
            file.write(one)
    return folder / name


def feed_of(folder: Path, predictions: Iterable[Prediction]) -> Feed:
    return read_feed(write(folder, predictions))


def random_predictions(rows: int, *, seed: int = 0, direction: int = 0, first: int = 0) -> list[Prediction]:
    """A model that is right as often as it says: confidence from 0.4 to 1; embeddings scatter around an axis."""
    generator = np.random.default_rng(seed)
    made = []
    for number in range(first, first + rows):
        confidence = float(generator.uniform(0.4, 1))
        predicted = int(generator.integers(len(LABELS)))
        is_right = generator.random() < confidence
        label = predicted if is_right else (predicted + int(generator.integers(1, 3))) % len(LABELS)
        vector = generator.standard_normal(EMBEDDING_SIZE)
        vector[direction] += 4
        embedding = np.rint(127 * vector / np.linalg.norm(vector)).astype(np.int8).tobytes()
        made.append(
            prediction(
                number,
                LABELS[predicted],
                LABELS[label],
                confidence=confidence,
                abstained=confidence < 0.5,
                text=f"word{label} word{predicted} and {number % 7}",
                embedding=embedding,
            )
        )
    return made
