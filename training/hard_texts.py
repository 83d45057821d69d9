"""Texts the project wrote that sentiment models fail on: by kind, how many a model reads as most readers would."""

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from training.datasets.example import LABELS, Example, label_index
from training.metrics import softmax

if TYPE_CHECKING:
    from training.evaluate import ExportedModel

FILE: Final = Path(__file__).with_suffix(".toml")


def read_hard_texts(file: Path = FILE) -> dict[str, list[Example]]:
    """By kind. Raises ValueError for a label that is none of LABELS."""
    return {
        kind: [
            Example(f"{kind} {label} {number}", text, None, label_index(label))
            for label, texts in by_label.items()
            for number, text in enumerate(texts, start=1)
        ]
        for kind, by_label in tomllib.loads(file.read_text(encoding="utf-8")).items()
    }


def score_hard_texts(
    model: "ExportedModel", temperature: float, texts: dict[str, list[Example]] | None = None
) -> dict[str, dict[str, Any]]:
    """By kind: rows, right, and what is read wrongly: text, label, predicted and its confidence, the surest first."""
    return {
        kind: _score(model, temperature, examples)
        for kind, examples in (read_hard_texts() if texts is None else texts).items()
    }


def _score(model: "ExportedModel", temperature: float, examples: list[Example]) -> dict[str, Any]:
    probabilities = softmax(model.logits(examples)["text"], temperature)
    wrong = [
        {
            "text": example.text,
            "label": LABELS[example.label],
            "predicted": LABELS[row.argmax()],
            "confidence": round(float(row.max()), 4),
        }
        for example, row in zip(examples, probabilities, strict=True)
        if row.argmax() != example.label
    ]
    return {
        "rows": len(examples),
        "right": len(examples) - len(wrong),
        "wrong": sorted(wrong, key=lambda row: -float(str(row["confidence"]))),
    }
