"""Feeds of real tweets, scored by the shipped model, that change for good in their middle."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import msgspec
import numpy as np
import pyarrow.parquet as pq

from inference_worker.artifact import load
from inference_worker.contract import Prediction, most_likely
from ingest.contract import Label, Post
from tests.conftest import ROOT
from tests.dashboard.evaluation.feeds import NOON, prediction

Change = Literal["none", "labels", "mild labels", "boston", "semeval"]
Scored = dict[str, list[Prediction]]
BEFORE: Final = 4_000
AFTER: Final = 600
MIXES: Final = {
    "labels": {"positive": 300, "neutral": 180, "negative": 120},
    "mild labels": {"positive": 324, "neutral": 426, "negative": 750},
}
"""Labels of the posts after a change; before it, 16 % are positive, 21 % neutral, 63 % negative."""


def scored_tweets(feeds: Path, data: Path) -> Scored:
    """Tweets to airlines, of the Boston bombings, of SemEval."""
    generator = random.Random(0)
    airline = list(_rows(feeds / "us_airline_2015.csv"))
    boston = list(_rows(feeds / "boston_2013.csv"))
    table = pq.read_table(data / "tweet_sentiment.parquet", columns=["split", "text", "label"]).to_pylist()
    semeval: list[tuple[str, Label | None]] = [(row["text"], row["label"]) for row in table if row["split"] != "train"]
    return {
        "airline": _scored(generator.sample(airline, 7_000)),
        "boston": _scored(generator.sample(boston, 1_000)),
        "semeval": _scored(generator.sample(semeval, 1_000)),
    }


def changed_feed(scored: Scored, change: Change, *, seed: int) -> list[Prediction]:
    """BEFORE shuffled tweets to airlines, then AFTER of another kind (1,500 of a mild change); with `none` all tweets
    to airlines, shuffled."""
    generator = np.random.default_rng(seed)
    airline = _shuffled(scored["airline"], generator)
    if change == "none":
        return _in_order(airline)
    before, rest = airline[:BEFORE], airline[BEFORE:]
    if change in MIXES:
        chosen = [[one for one in rest if one.label == label][:count] for label, count in MIXES[change].items()]
        after = [one for some in chosen for one in some]
    else:
        after = _shuffled(scored[change], generator)[:AFTER]  # they come by length
    return _in_order(before + _shuffled(after, generator))


def _shuffled(rows: Sequence[Prediction], generator: np.random.Generator) -> list[Prediction]:
    return [rows[at] for at in generator.permutation(len(rows))]


def _in_order(rows: Sequence[Prediction]) -> list[Prediction]:
    return [
        msgspec.structs.replace(one, id=f"csv:{number}", created_at=prediction(number).created_at)
        for number, one in enumerate(rows)
    ]


def _rows(path: Path) -> Iterator[tuple[str, Label | None]]:
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        for row in csv.DictReader(file, skipinitialspace=True):
            label = row.get("airline_sentiment")
            yield row.get("text") or row["tweet"], label  # type: ignore[misc]


def _scored(rows: Sequence[tuple[str, Label | None]]) -> list[Prediction]:
    predictor = load(ROOT / "inference_worker" / "models" / "default")
    now = datetime.now(UTC)
    posts = [
        Post(id=f"csv:{number}", source="csv", created_at=NOON, ingested_at=now, text=text, label=label)
        for number, (text, label) in enumerate(rows)
    ]
    examples = sorted(
        ((post, predictor.prepare(post)) for post in posts if post.text.strip()), key=lambda one: one[1].tokens
    )
    found = []
    for start in range(0, len(examples), 32):
        batch = examples[start : start + 32]
        for (post, _), scores in zip(batch, predictor.predict([example for _, example in batch]), strict=True):
            predicted = most_likely(scores.fused)
            one = prediction(0, predicted, post.label, confidence=scores.confidence, abstained=scores.abstained)
            found.append(msgspec.structs.replace(one, id=post.id, text=post.text, embedding=scores.embedding))
    return found
