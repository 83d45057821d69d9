"""Splits of a corpus that comes without one, or whose own lets near twins cross: always stratified, always seeded."""

import random
from collections import defaultdict
from collections.abc import Callable, Sequence

from training.datasets.example import SPLITS, Example
from training.datasets.twins import twin_groups


def stratified_split(examples: Sequence[Example], *, seed: int, held_out: float = 0.1) -> dict[str, list[Example]]:
    """Of each class the share `held_out` for test and as much for validation (8:1:1, as the papers have it)."""
    return _dealt(examples, lambda example: example.id, seed=seed, held_out=held_out)


def twin_free_split(examples: Sequence[Example], *, seed: int, held_out: float = 0.1) -> dict[str, list[Example]]:
    """The same, but posts whose text or picture is nearly the same all go into one split."""
    groups = dict(zip((example.id for example in examples), twin_groups(examples), strict=True))
    return _dealt(examples, lambda example: groups[example.id], seed=seed, held_out=held_out)


def folds(examples: Sequence[Example], *, count: int = 10, seed: int) -> list[dict[str, list[Example]]]:
    """`count` splits: fold k is the test set of split k and the validation set of split k - 1."""
    dealt: list[list[Example]] = [[] for _ in range(count)]
    for label in sorted({example.label for example in examples}):
        of_class = [example for example in examples if example.label == label]
        random.Random(f"{seed}/{label}").shuffle(of_class)
        for number, example in enumerate(of_class):
            dealt[number % count].append(example)
    return [
        {
            "train": [
                example for other in range(count) if other not in (fold, (fold + 1) % count) for example in dealt[other]
            ],
            "validation": dealt[(fold + 1) % count],
            "test": dealt[fold],
        }
        for fold in range(count)
    ]


def _dealt(
    examples: Sequence[Example], group_of: Callable[[Example], object], *, seed: int, held_out: float
) -> dict[str, list[Example]]:
    """Whole groups go to test, then to validation, until each class has its share there; the rest is for training."""
    groups: dict[object, list[Example]] = defaultdict(list)
    for example in examples:
        groups[group_of(example)].append(example)
    splits: dict[str, list[Example]] = {name: [] for name in SPLITS}
    shuffled = list(groups.values())
    random.Random(seed).shuffle(shuffled)
    for label in sorted({example.label for example in examples}):
        # A group belongs to the class of its first post: twins may contradict each other.
        of_class = [group for group in shuffled if group[0].label == label]
        wanted = int(held_out * sum(map(len, of_class)))
        targets = iter(("test", "validation"))
        target, placed = next(targets), 0
        for group in of_class:
            if target != "train" and placed + len(group) > wanted:
                target, placed = next(targets, "train"), 0
            splits[target] += group
            placed += len(group)
    return splits
