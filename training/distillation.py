"""Distillation (Hinton, Vinyals & Dean, 2015): what trained models say of training posts, for another to learn from.

Several teachers count as one: the mean of their probabilities.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.datasets.example import Example
from training.metrics import softmax

KINDS: Final = ("text", "caption", "image", "both")
"""Order of a teacher's opinions of one post; those of kinds it does not have are NaN."""


class Teacher:
    """What a teacher says of each post it knows: (K, C) probabilities by id; `encoders` are the texts' of its runs."""

    def __init__(self, ids: Sequence[str], probabilities: NDArray[np.float32], encoders: Sequence[str]) -> None:
        self.encoders = encoders
        self._rows = {id: row for row, id in enumerate(ids)}
        self._probabilities = torch.from_numpy(probabilities)

    def batch(self, examples: Sequence[Example]) -> Tensor:
        """(B, K, C) float32, NaN where nothing is known."""
        unknown = torch.full(self._probabilities.shape[1:], torch.nan)
        rows = [self._rows.get(example.id) for example in examples]
        return torch.stack([unknown if row is None else self._probabilities[row] for row in rows])


def save_opinions(file: Path, ids: Sequence[str], logits: dict[str, NDArray[np.float32]], *, encoder: str) -> None:
    """Logits (N, C) by kind, into the file that `read_teacher` reads."""
    classes = next(iter(logits.values())).shape[1]
    opinions = np.full((len(ids), len(KINDS), classes), np.nan, dtype=np.float32)
    for kind, rows in logits.items():
        opinions[:, KINDS.index(kind)] = softmax(rows)
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(file, ids=np.array(ids), probabilities=opinions, encoder=encoder)


def read_teacher(files: Sequence[Path]) -> Teacher:
    """The mean of several files' opinions. Raises ValueError if they are not of the same posts."""
    opened = [np.load(file) for file in files]
    ids = opened[0]["ids"]
    for file, one in zip(files, opened, strict=True):
        if not np.array_equal(one["ids"], ids):
            raise ValueError(f"{file} holds other posts than {files[0]}: teachers are averaged over the same ones")
    mean = np.mean([one["probabilities"] for one in opened], axis=0)
    return Teacher([str(id) for id in ids], mean, sorted({str(one["encoder"]) for one in opened}))


def blended(labels: Tensor, taught: Tensor | None, *, trust: float, classes: int) -> Tensor:
    """Targets (B, C): labels, and where a teacher has an opinion (B, C), `trust` of that in their place."""
    hard = torch.nn.functional.one_hot(labels, classes).float()
    if taught is None:
        return hard
    return torch.where(taught.isnan(), hard, hard.lerp(taught, trust))
