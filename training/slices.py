"""Scores by trait of the text: where a model is weaker than its average says."""

import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from training.datasets.example import Example, labels_of
from training.judgement import accuracy_interval, macro_f1_interval
from training.metrics import FloatArray, classification_report, softmax

LENGTHS: Final = (40, 80, 120)
"""Upper ends, in characters."""
PATTERNS: Final = {
    "emoji": re.compile("[\u2600-\u27bf\u2b50\u2b55\U0001f1e6-\U0001f1ff\U0001f300-\U0001faff]"),
    "hashtag": re.compile(r"#\w"),
    "retweet": re.compile(r"^\s*RT\s+@\w", re.IGNORECASE),
}
LENGTH_NAMES: Final = (
    f"up to {LENGTHS[0]} characters",
    *(f"{low + 1} to {high} characters" for low, high in zip(LENGTHS, LENGTHS[1:], strict=False)),
    f"over {LENGTHS[-1]} characters",
)
ORDER: Final = (*LENGTH_NAMES, *(name for trait in PATTERNS for name in (trait, f"no {trait}")))


def slices(examples: Sequence[Example], logits: FloatArray) -> dict[str, dict[str, Any]]:
    """By name, in order; those that no post is in are left out. A post is in one slice of each trait."""
    labels, predicted = labels_of(examples), logits.argmax(-1)
    traits = np.array([traits_of(example.text or "") for example in examples])
    found = {}
    for trait in range(traits.shape[1]):
        for name in sorted(set(traits[:, trait].tolist()), key=ORDER.index):
            chosen = traits[:, trait] == name
            report = classification_report(labels[chosen], softmax(logits[chosen]))
            found[name] = {
                **{measure: report[measure] for measure in ("rows", "accuracy", "macro_f1")},
                "accuracy_interval": accuracy_interval(labels[chosen], predicted[chosen]),
                "macro_f1_interval": macro_f1_interval(labels[chosen], predicted[chosen], classes=logits.shape[-1]),
            }
    return found


def traits_of(text: str) -> list[str]:
    """One name of a slice for each trait."""
    length = LENGTH_NAMES[int(np.searchsorted(LENGTHS, len(text)))]
    return [length, *(name if pattern.search(text) else f"no {name}" for name, pattern in PATTERNS.items())]
