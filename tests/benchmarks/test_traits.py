"""A post falls under the traits the services would tell of it, and each row is of just those posts."""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from inference_worker.settings import DEFAULT_MODEL
from tests.benchmarks import traits
from tests.ingest.memes import background, meme, saved


def test_each_row_is_of_the_posts_with_its_trait() -> None:
    labels = np.array([0, 1, 2, 2])
    distributions = [(0.9, 0.1, 0.0), (0.2, 0.7, 0.1), (0.1, 0.2, 0.7), (0.6, 0.3, 0.1)]
    rows = list(traits.by_trait(["a", "b", "a", "a"], labels, distributions, "text"))
    assert [(row["trait"], row["rows"]) for row in rows] == [("a", 3), ("b", 1)]
    assert rows[0]["accuracy"] == pytest.approx(2 / 3) and rows[0]["macro_recall"] == pytest.approx((1 + 0 + 0.5) / 3)
    low, high = rows[0]["macro_recall_interval"]
    assert low < rows[0]["macro_recall"] <= high
    assert "66.7%" in traits.table([{"data": "made up", **rows[0]}])


@pytest.mark.skipif(
    find_spec("rapidocr") is None and not os.environ.get("MOODSTREAM_REQUIRE_ALL"),
    reason="the extra ocr is not installed",
)
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_posts_are_told_apart_by_language_and_by_the_words_in_their_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = [
        saved(background()),
        saved(meme("when the bus is late", "and you love it so much")),
        saved(meme("closed", "today")),
    ]
    texts = ("What a lovely morning by the sea", "El autobús llega tarde otra vez, qué desastre", "ok")
    rows = [
        {"id": str(n), "split": "test", "text": text, "label": "positive", "image": picture}
        for n, (text, picture) in enumerate(zip(texts, pictures, strict=True))
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "mvsa.parquet")
    monkeypatch.setattr(
        sys, "argv", ["traits", "--mvsa", str(tmp_path / "mvsa.parquet"), "--json", "--model", str(DEFAULT_MODEL)]
    )
    traits.main()
    found = json.loads(capsys.readouterr().out)["traits"]
    assert {(row["trait"], row["input"], row["rows"]) for row in found} == {
        ("in the model's language", "text and picture", 1),
        ("in another language", "text and picture", 1),
        ("in no language that is told", "text and picture", 1),
        ("no words in the picture", "text and picture", 1),
        (traits.FEW_WORDS, "text and picture", 1),
        (traits.MANY_WORDS, "text and picture", 1),
        (traits.MANY_WORDS, "picture alone", 1),
        (traits.MANY_WORDS, "picture and its words", 1),
    }
    assert {row["data"] for row in found} == {"mvsa_single test"}


def test_a_benchmark_of_nothing_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["traits"])
    with pytest.raises(SystemExit):
        traits.main()
    assert "nothing to measure on: give --tweets, --mvsa or --memotion" in capsys.readouterr().err
