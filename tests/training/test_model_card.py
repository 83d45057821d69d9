"""The card is made of artifact.json alone, and says no more than stands there."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the train extra is not installed (torch)")

from training.__main__ import main  # noqa: E402
from training.judgement import judged  # noqa: E402
from training.metrics import softmax  # noqa: E402
from training.model_card import model_card  # noqa: E402

pytestmark = pytest.mark.train
SHIPPED = Path(__file__).parents[2] / "inference_worker" / "models" / "default"
ENGINE = {
    "engine": "onnx-int8",
    "reference": "onnx-float32",
    "data": "mvsa_single validation",
    "input": "both",
    "rows": 450,
    "label_agreement": 0.9911,
    "macro_f1": 0.631,
    "reference_macro_f1": 0.634,
    "largest_difference": 0.0312,
}
TRAIT = {
    "data": "mvsa_single test",
    "trait": "in another language",
    "input": "text and picture",
    "rows": 12,
    "accuracy": 0.5,
    "accuracy_interval": (0.254, 0.746),
    "macro_recall": 0.4,
    "macro_recall_interval": (0.2, 0.6),
}


@pytest.fixture
def description() -> dict[str, Any]:
    """That of the shipped artifact, with what exports tell today."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 90)
    report = judged(labels, softmax(np.eye(3)[labels] + generator.normal(size=(90, 3))), abstain_below=0.5)
    known = json.loads((SHIPPED / "artifact.json").read_text())
    whole = dict.fromkeys(("text", "image", "both", "caption"), report)
    part = {"accuracy": 0.5, "macro_f1": 0.4, "accuracy_interval": (0.4, 0.6), "macro_f1_interval": (0.3, 0.5)}
    cost = {"accuracy": 0.129, "interval": (0.091, 0.169)}
    of_pictures = {name: {"accuracy": 0.76} for name in ("own", "shuffled", "shuffled_deviation", "blank")}
    wrong = {"text": "So great.", "label": "negative", "predicted": "positive", "confidence": 0.91}
    known["metrics"] = {
        "mvsa_single": {"validation": whole, "test": whole},
        "tweet_sentiment": {"report": {"text": report}},
        "slices": {"mvsa_single test": {"hashtag": {"rows": 12, **part}}, "tweet_sentiment report": {}},
        "pictures": {"test": {"rows": 450, "shuffling_costs": cost, "blanking_costs": cost, **of_pictures}},
        "hard_texts": {"sarcasm": {"rows": 8, "right": 5, "wrong": [wrong] * 3}},
        "export": known["metrics"]["export"] | {"labels_equal_to_torch": 0.998},
    }
    return known | {"training": {"seed": 1, "text_lr": 4e-05}}


def test_every_figure_of_the_card_is_the_artifacts(description: dict[str, Any]) -> None:
    card = model_card(description)
    report = description["metrics"]["mvsa_single"]["test"]["both"]
    low, high = report["accuracy_interval"]
    told = f"| mvsa_single test | 90 | both | {100 * report['accuracy']:.1f} ({100 * low:.1f} to {100 * high:.1f}) |"
    assert told in card
    assert "| tweet_sentiment report | 90 | text |" in card and "| mvsa_single test | 90 | text |" not in card
    assert "| hashtag | 50.0 (40.0 to 60.0); 40.0 (30.0 to 50.0) (12) | no such rows |" in card
    assert "| test, 450 | 76.0 | 76.0 ± 76.0 | 76.0 | 12.9 (9.1 to 16.9) | 12.9 (9.1 to 16.9) |" in card
    assert card.count("“So great.”: positive (91%), not negative") == 2 and "| sarcasm | 5 of 8 |" in card
    assert "seed 1, text lr 4e-05" in card and "in 0.2% of the labels" in card
    assert "Not compared yet" in card and "Not measured yet" in card
    assert len(card.splitlines()) < 120 and max(map(len, card.splitlines())) < 400


def test_a_model_without_tweets_claims_nothing_of_texts_alone(description: dict[str, Any]) -> None:
    del description["metrics"]["tweet_sentiment"]
    assert "nothing was learned or measured on such posts" in model_card(description)


def test_the_engines_figures_come_into_the_card_and_the_checksums_stay_true(
    description: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "golden.json").write_text("{}")
    (tmp_path / "model" / "artifact.json").write_text(json.dumps(description))
    (tmp_path / "engines.json").write_text(json.dumps({"engines": [ENGINE]}))
    (tmp_path / "traits.json").write_text(json.dumps({"traits": [TRAIT]}))
    call(monkeypatch, tmp_path / "model", "--engines", tmp_path / "engines.json", "--traits", tmp_path / "traits.json")
    written = json.loads((tmp_path / "model" / "artifact.json").read_text())
    card = (tmp_path / "model" / "MODEL_CARD.md").read_bytes()
    assert "| mvsa_single validation, 450 | both | onnx-int8 | 99.1 | 63.1 (-0.3) | 0.0312 |" in card.decode()
    told = "| in another language | text and picture | 12 | 50.0 (25.4 to 74.6) | 40.0 (20.0 to 60.0) |"
    assert f"| mvsa_single test {told}" in card.decode() and "Not measured yet" not in card.decode()
    assert written["metrics"]["engines"] == [ENGINE] and written["metrics"]["traits"][0]["rows"] == 12
    assert written["sha256"] == {
        "MODEL_CARD.md": hashlib.sha256(card).hexdigest(),
        "golden.json": hashlib.sha256(b"{}").hexdigest(),
    }


def test_a_file_of_another_benchmark_is_named(
    description: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "artifact.json").write_text(json.dumps(description))
    (tmp_path / "engines.json").write_text(json.dumps({"engines": [ENGINE]}))
    with pytest.raises(SystemExit):
        call(monkeypatch, tmp_path, "--traits", tmp_path / "engines.json")
    told = capsys.readouterr().err
    assert "holds no 'traits': give what the benchmark of traits printed with --json" in told and told.count("\n") == 1


def call(monkeypatch: pytest.MonkeyPatch, artifact: Path, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["training", "card", "--artifact", str(artifact), *map(str, arguments)])
    main()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "cannot read"),
        ("{", "give a file of JSON"),
        ("{}", "lacks 'training', so its card cannot be made: export the model again"),
    ],
)
def test_an_artifact_that_tells_too_little_is_named(
    text: str | None,
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if text is not None:
        (tmp_path / "artifact.json").write_text(text)
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, tmp_path)
    told = capsys.readouterr().err
    assert stopped.value.code == 2 and problem in told and told.count("\n") == 1 and "artifact.json" in told
