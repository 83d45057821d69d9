"""The engine without a model: loads like any other, and a post's answer is its own."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime

import pytest

from inference_worker.artifact import load
from inference_worker.contract import LABELS, most_likely
from inference_worker.engines.fixed import CALL_S, ITEM_S
from inference_worker.settings import DEFAULT_MODEL
from ingest.contract import Post
from ingest.media.sanitize import make_safe
from ingest.sources.items import Draft
from ingest.sources.sample import SampleFeed

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TEXTS = [f"post number {number} of " + "many " * (number % 7) for number in range(40)]


def post(text: str, image: bytes | None = None) -> Post:
    images = (make_safe(image),) if image is not None else ()
    return Post(id="t:1", source="t", created_at=NOW, ingested_at=NOW, text=text, images=images)


def test_it_says_that_golden_rows_are_not_replayed(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        predictor = load(DEFAULT_MODEL, engine="null")
    assert "the golden rows are not replayed" in caplog.text
    assert (predictor.name, predictor.engine.name) == ("null", "null")


def test_the_fixed_engine_gives_the_same_answers_in_its_time() -> None:
    null, fixed = load(DEFAULT_MODEL, engine="null"), load(DEFAULT_MODEL, engine="fixed")
    examples = [null.prepare(post(text)) for text in TEXTS]
    began_s = time.monotonic()
    assert fixed.predict(examples) == null.predict(examples)
    assert time.monotonic() - began_s >= CALL_S + len(examples) * ITEM_S
    assert (fixed.name, fixed.engine.name) == ("fixed", "fixed")


def test_answers_are_the_posts_own_and_all_classes_occur() -> None:
    predictor = load(DEFAULT_MODEL, engine="null")
    together = predictor.predict([predictor.prepare(post(text)) for text in TEXTS])
    alone = [predictor.predict([predictor.prepare(post(text))])[0] for text in TEXTS]
    assert together == alone
    assert {most_likely(scores.fused) for scores in alone} == set(LABELS)
    assert any(scores.abstained for scores in alone) and not all(scores.abstained for scores in alone)


async def test_pictures_are_answered_too() -> None:
    predictor = load(DEFAULT_MODEL, engine="null")
    pictures = []
    async for item in SampleFeed():
        if isinstance(item, Draft) and item.pictures:
            pictures.append(item.pictures[0].data)
        if len(pictures) == 4:
            break
    both = predictor.predict([predictor.prepare(post("look", picture)) for picture in pictures])
    alone = predictor.predict([predictor.prepare(post("", picture)) for picture in pictures])
    assert all(scores.text and scores.image and scores.token_map for scores in both)
    rows, columns = predictor.grid
    assert {len(scores.image_map) for scores in both} == {rows * columns}
    assert all(scores.image and not scores.text for scores in alone)
