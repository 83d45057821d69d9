"""What both servers do with a batch of requests: our predictor on them, lane by lane, in the order they came."""

from __future__ import annotations

import base64
import os
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from inference_worker import artifact
from inference_worker.predictor import Predictor
from inference_worker.preprocess import Example
from ingest.contract import Image, Post

MODEL: Final = "MOODSTREAM_MODEL"
THREADS: Final = "MOODSTREAM_ENGINE_THREADS"
BATCH: Final = 32
"""As many as a batch of theirs may have."""
WAIT_S: Final = 0.01
"""As long as they may wait for a batch to fill."""


def load() -> Predictor:
    return artifact.load(Path(os.environ[MODEL]), threads=int(os.environ.get(THREADS, "0")))


def prepare(predictor: Predictor, request: dict[str, Any]) -> Example:
    """A request's JSON → example."""
    now = datetime.now(UTC)
    images: tuple[Image, ...] = ()
    if request["image"] is not None:
        jpeg = base64.b64decode(request["image"])
        images = (Image(jpeg=jpeg, sha256=sha256(jpeg).digest(), phash=b"", width=0, height=0),)
    post = Post(id="http:post", source="http", created_at=now, ingested_at=now, text=request["text"], images=images)
    return predictor.prepare(post)


def score(predictor: Predictor, examples: Sequence[Example]) -> list[dict[str, Any]]:
    """Answers in order, with what they say of their batch: mates in the lane, own tokens, tokens after padding."""
    lanes: dict[str, list[int]] = defaultdict(list)
    for number, example in enumerate(examples):
        lanes[example.lane].append(number)
    answers: list[dict[str, Any]] = [{} for _ in examples]
    for numbers in lanes.values():
        of_lane = [examples[number] for number in numbers]
        longest = max(example.tokens for example in of_lane)
        for number, scores in zip(numbers, predictor.predict(of_lane), strict=True):
            answers[number] = {
                "probabilities": scores.fused,
                "text": scores.text,
                "image": scores.image,
                "confidence": scores.confidence,
                "abstained": scores.abstained,
                "mates": len(examples),
                "tokens": examples[number].tokens,
                "longest": longest,
            }
    return answers
