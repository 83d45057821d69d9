"""The engines' benchmark can be believed: its batches are the worker's, and what it compares is what they said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference_worker import artifact
from inference_worker.settings import DEFAULT_MODEL
from tests.benchmarks.engines import __main__ as engines
from tests.benchmarks.engines.measure import calls_ms, mixed_feed, predictor

REFERENCE = np.array([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3]])


def one_round(rate: float, answers: list[list[float]]) -> dict[str, Any]:
    return {"posts_per_s": rate, "cpu_ms_per_post": 1000 / rate, "calls_ms": {"text 1": 1.0}, "answers": answers}


def test_every_post_is_in_one_batch_with_posts_of_its_kind() -> None:
    work = engines.make_work(60, None)
    assert sorted(place for batch in work.batches for place in batch) == list(range(60))
    for batch in work.batches:
        assert len({(bool(work.posts[place].text), bool(work.posts[place].images)) for place in batch}) == 1


def test_labels_and_probabilities_are_held_against_the_reference() -> None:
    rounds = [one_round(rate, [[0.6, 0.3, 0.1], [0.3, 0.3, 0.4]]) for rate in (100.0, 300.0, 200.0)]
    found = engines.summed_up(rounds, REFERENCE)
    assert (found["posts_per_s"], found["cpu_ms_per_post"], found["posts_per_s_range"]) == (200.0, 5.0, [100.0, 300.0])
    assert (found["label_agreement"], found["largest_difference"]) == (0.5, pytest.approx(0.2))


def test_an_engine_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(engines, "TRAINING", tmp_path / "python")
    found = engines.summed_up([engines.measure("torch-cpu", tmp_path / "work", seconds=0.1, threads=1)], REFERENCE)
    assert "torch-cpu          not installed: no .venv-train: make .venv-train/.train" in engines.table(
        {"onnx-int8": engines.summed_up([one_round(100.0, REFERENCE.tolist())], REFERENCE), "torch-cpu": found}
    )


def test_the_feed_is_answered_post_by_post_whatever_the_order_of_batches() -> None:
    ours = predictor("onnx-float32", DEFAULT_MODEL, threads=1)
    work = engines.make_work(30, None)
    examples = [ours.preprocessor.prepare(post) for post in work.posts]
    found = mixed_feed(ours, examples, work.batches[::-1])
    for place in (0, 7, 29):
        (alone,) = ours.predict([examples[place]])
        assert found["answers"][place] == pytest.approx(alone.fused, abs=1e-4)
    assert found["posts_per_s"] > 0


def test_calls_are_timed_by_graph_and_size() -> None:
    ours = artifact.load(DEFAULT_MODEL, engine="null")
    examples = [ours.preprocessor.prepare(post) for post in engines.make_work(120, None).posts]
    found = calls_ms(ours, examples, seconds=0.001)
    assert list(found) == ["text 1", "text 8", "text 32", "picture 1", "picture 8", "fusion 1", "fusion 8"]
    assert all(taken > 0 for taken in found.values())
