"""The mix of an epoch: which corpora, how many of each one's posts, and what these count for."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from training.batches import shuffled_batches
from training.datasets.example import Example


class Ingredient(NamedTuple):
    """A corpus in the mix. per_epoch: draw so many of its posts an epoch (default: all); weight: of their loss."""

    examples: Sequence[Example]
    per_epoch: int | None = None
    weight: float = 1.0


def mixed_batches(
    mix: Sequence[Ingredient], *, batch_size: int, generator: np.random.Generator, length: Callable[[Example], int]
) -> list[tuple[list[Example], float]]:
    """Batches of one corpus each, in random order, each with the weight of its loss."""
    batches = [
        (batch, one.weight)
        for one in mix
        for batch in shuffled_batches(
            one.examples, batch_size=batch_size, generator=generator, length=length, limit=one.per_epoch
        )
    ]
    return [batches[i] for i in generator.permutation(len(batches))]
