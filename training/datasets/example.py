"""One labelled post as every reader yields it, and a corpus: its posts by split, its classes, its broken rows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

LABELS: Final = ("positive", "neutral", "negative")
SPLITS: Final = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Example:
    """`image` holds the encoded file as it was read; `label` indexes the classes of its corpus (LABELS mostly).

    aspect: what of the post the label is about, where a corpus asks that.
    """

    id: str
    text: str | None
    image: bytes | None
    label: int
    aspect: str | None = None


@dataclass(slots=True)
class Corpus:
    """classes: names in the order of the labels; skipped: the ids (or places) of the rows left out, by reason."""

    splits: dict[str, list[Example]]
    classes: tuple[str, ...] = LABELS
    skipped: dict[str, list[str]] = field(default_factory=dict)

    def skip(self, reason: str, place: str) -> None:
        self.skipped.setdefault(reason, []).append(place)

    def shares(self, split: str = "train") -> NDArray[np.float64]:
        """Share of each class."""
        counts = Counter(example.label for example in self.splits[split])
        return np.array([counts[label] for label in range(len(self.classes))]) / max(1, counts.total())


def label_index(name: str) -> int:
    if name not in LABELS:
        raise ValueError(f"label {name!r} is none of {', '.join(LABELS)}")
    return LABELS.index(name)


def labels_of(examples: Sequence[Example]) -> NDArray[np.int64]:
    return np.array([example.label for example in examples], dtype=np.int64)
