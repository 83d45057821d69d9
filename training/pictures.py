"""Proof that pictures are used: the fused answer with other posts' pictures, and with none to see."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from training.datasets.example import Example, labels_of
from training.decoding import IMAGE_SIZE
from training.differences import interval
from training.metrics import FloatArray, IntArray, classification_report, softmax

if TYPE_CHECKING:
    from training.evaluate import ExportedModel

SHUFFLES: Final = 5
MEASURES: Final = ("accuracy", "weighted_f1", "macro_f1")
BATCH: Final = 32


def without_their_pictures(model: "ExportedModel", examples: Sequence[Example], *, seed: int = 0) -> dict[str, Any]:
    """Scores of posts with their own pictures, with shuffled ones (mean and deviation over SHUFFLES) and with grey
    ones; and how much accuracy the latter cost, with a paired 95 % bootstrap over posts and shuffles."""
    generator = np.random.default_rng(seed)
    orders = [np.arange(len(examples)), *(derangement(len(examples), generator) for _ in range(SHUFFLES))]
    own, *others = fused_logits(model, examples, orders)
    labels, shuffled, blank = labels_of(examples), others[:-1], others[-1:]
    scores = {name: [_scores(labels, one) for one in logits] for name, logits in (("own", [own]), ("blank", blank))}
    of_shuffles = [_scores(labels, one) for one in shuffled]
    return {
        "rows": len(examples),
        "own": scores["own"][0],
        "shuffled": {name: float(np.mean([one[name] for one in of_shuffles])) for name in MEASURES},
        "shuffled_deviation": {name: float(np.std([one[name] for one in of_shuffles], ddof=1)) for name in MEASURES},
        "blank": scores["blank"][0],
        "shuffling_costs": _cost(labels, own, shuffled),
        "blanking_costs": _cost(labels, own, blank),
    }


def derangement(rows: int, generator: np.random.Generator) -> IntArray:
    """A random order in which nothing stays where it was: one cycle through all rows.

    Raises   ValueError for fewer than two rows
    """
    if rows < 2:
        raise ValueError(f"{rows} posts cannot have each other's pictures: give two or more")
    order, found = generator.permutation(rows), np.empty(rows, dtype=np.int64)
    found[order] = np.roll(order, 1)
    return found


def fused_logits(model: "ExportedModel", examples: Sequence[Example], orders: Sequence[IntArray]) -> list[FloatArray]:
    """(N, C) for each order of pictures, and last for a grey one in place of all. Encodes each picture once."""
    chunks = [range(start, min(start + BATCH, len(examples))) for start in range(0, len(examples), BATCH)]
    batches = [model.collator([examples[row] for row in chunk]) for chunk in chunks]
    images = np.concatenate([model.encode_image(batch.pixel_values.numpy())[0] for batch in batches])  # type: ignore[union-attr]
    grey, _ = model.encode_image(np.zeros((1, 3, IMAGE_SIZE, IMAGE_SIZE), np.float32))
    found: list[list[FloatArray]] = [[] for _ in range(len(orders) + 1)]
    for chunk, batch in zip(chunks, batches, strict=True):
        assert batch.input_ids is not None and batch.attention_mask is not None
        mask = batch.attention_mask.numpy()
        text, _ = model.encode_text(batch.input_ids.numpy(), mask)
        seen = [*(images[order[chunk]] for order in orders), np.repeat(grey, len(chunk), axis=0)]
        for logits, features in zip(found, seen, strict=True):
            logits.append(model.fuse(text, mask, features)["both"])
    return [np.concatenate(logits) for logits in found]


def _scores(labels: IntArray, logits: FloatArray) -> dict[str, float]:
    report = classification_report(labels, softmax(logits))
    return {name: report[name] for name in MEASURES}


def _cost(labels: IntArray, own: FloatArray, others: Sequence[FloatArray]) -> dict[str, Any]:
    """In accuracy; low and high as a share, too."""
    is_right = (own.argmax(-1) == labels).astype(np.int64)
    costs = np.array([is_right - (one.argmax(-1) == labels) for one in others])
    low, high = interval(costs)
    return {"accuracy": float(costs.mean()), "interval": (low, high)}
