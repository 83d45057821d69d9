"""The comparison of engines can be believed: what it compares is what the engines said."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="the train extra is not installed (torch)")

from inference_worker import artifact  # noqa: E402
from inference_worker.engines.whole_numbers import are_exact  # noqa: E402
from inference_worker.settings import DEFAULT_MODEL  # noqa: E402
from tests.benchmarks import agreement  # noqa: E402
from training.datasets.example import Example  # noqa: E402


def posts() -> list[Example]:
    encoded = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(encoded, "JPEG")
    texts = ("I love it", "Late again, awful", "The shop opens at nine")
    return [Example(str(n), text, encoded.getvalue(), n) for n, text in enumerate(texts)]


def test_a_flipped_label_and_its_cost_are_told() -> None:
    labels = np.array([0, 1, 2, 2])
    reference = np.array([[0.9, 0.1, 0], [0.2, 0.7, 0.1], [0, 0.3, 0.7], [0.1, 0.4, 0.5]])
    found = reference.copy()
    found[3] = [0.1, 0.55, 0.35]
    (row,) = agreement.compared("made up", labels, {"both": found}, {"both": reference})
    assert (row["label_agreement"], row["reference_macro_f1"]) == (0.75, 1.0)
    assert row["macro_f1"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)
    assert row["largest_difference"] == pytest.approx(0.15)
    told = agreement.table([{"engine": "onnx-int8", **row}])
    assert "75.0%" in told and "-22.2" in told


def test_whole_posts_are_answered_by_all_their_parts_and_texts_by_text() -> None:
    predictor = artifact.load(DEFAULT_MODEL, engine="onnx-float32", threads=1)
    whole = agreement.answers(predictor, posts())
    texts = agreement.answers(predictor, [Example(one.id, one.text, None, one.label) for one in posts()])
    assert list(whole) == ["both", "caption", "image"] and list(texts) == ["text"]
    assert all(told.shape == (3, 3) for told in (*whole.values(), *texts.values()))
    np.testing.assert_allclose(whole["image"][0], whole["image"][1], atol=1e-6)
    assert texts["text"][:2].argmax(-1).tolist() == [0, 2]


def test_an_engine_against_itself_agrees_and_one_that_is_lacking_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("inference_worker.engines.torch", "inference_worker.engines.captured"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it fails as where it is not installed
    rows = agreement.compare(DEFAULT_MODEL, {"made up": posts()}, ["onnx-float32", "torch-cpu"], threads=1)
    assert "left out: engine torch-cpu: torch is not installed" in capsys.readouterr().err
    assert [(row["input"], row["label_agreement"], row["largest_difference"]) for row in rows] == [
        (kind, 1.0, pytest.approx(0, abs=1e-6)) for kind in ("both", "caption", "image")
    ]


def test_without_posts_it_says_what_to_give(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["agreement"])
    with pytest.raises(SystemExit) as stopped:
        agreement.main()
    assert stopped.value.code == 2 and "give --mvsa, --tweets or both" in capsys.readouterr().err


@pytest.mark.skipif(not are_exact(), reason="this processor saturates products of bytes")
def test_the_command_prints_what_the_card_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"id": str(n), "split": "validation", "text": text, "label": "positive"}
        for n, text in enumerate(["fine", "good", "nice", "well", "great", "bad"])
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "tweets.parquet")
    command = ["agreement", "--tweets", str(tmp_path / "tweets.parquet"), "--engines", "onnx-int8", "--json"]
    monkeypatch.setattr(sys, "argv", [*command, "--threads", "1"])
    agreement.main()
    (row,) = json.loads(capsys.readouterr().out)["engines"]
    assert (row["data"], row["input"], row["engine"]) == ("tweet_sentiment report", "text", "onnx-int8")
