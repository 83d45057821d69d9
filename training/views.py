"""Pictures as the frozen stages of an image encoder see them: some augmented views of each, computed once.

The leading stages take half of a training step on a CPU and, frozen, give the same for the same crop every time. So
each training picture is cropped and flipped `views` times, run through them, and kept as float16 in a memory-mapped
file; every epoch, seed and run then draws a view at random where it would have drawn a crop. View 0 is the centre.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.batches import MEAN, STD, center_crop, crop, normalise
from training.datasets.example import Example
from training.decoding import IMAGE_SIZE, RESIZE_SHORT_SIDE, decode_image
from training.encoders import ImageEncoder

log = logging.getLogger(__name__)

BATCH = 32
WORKERS = 2


class FrozenViews:
    """Views (N, V, C, h, w) float16 of N pictures, by the id of their post."""

    def __init__(self, array: NDArray[np.float16], ids: Sequence[str]) -> None:
        self._array = array
        self._rows = {id: row for row, id in enumerate(ids)}

    def __contains__(self, id: str) -> bool:
        return id in self._rows

    def batch(self, ids: Sequence[str], generator: np.random.Generator | None) -> Tensor:
        """(B, C, h, w) float32; with a generator a random view of each, else the centre."""
        views = generator.integers(self._array.shape[1], size=len(ids)) if generator is not None else [0] * len(ids)
        rows = [self._array[self._rows[id], view] for id, view in zip(ids, views, strict=True)]
        return torch.from_numpy(np.stack(rows).astype(np.float32)).contiguous(memory_format=torch.channels_last)


def frozen_views(
    encoder: ImageEncoder, examples: Sequence[Example], *, views: int, folder: Path, seed: int = 0
) -> FrozenViews:
    """Open the views of these pictures in `folder`, or make them there first.

    The file is named after all that it depends on: pictures, frozen weights, number of views and seed.
    """
    examples = [example for example in examples if example.image is not None]
    ids = [example.id for example in examples]
    file = folder / f"views-{_fingerprint(encoder, examples, views, seed)}.npy"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        log.info("running %d views of %d pictures through the frozen stages", views, len(examples))
        partial = file.with_suffix(".partial")
        _compute(encoder.eval(), examples, views, seed, partial)
        partial.replace(file)
    return FrozenViews(np.load(file, mmap_mode="r"), ids)


def _fingerprint(encoder: ImageEncoder, examples: Sequence[Example], views: int, seed: int) -> str:
    settings = [views, seed, encoder.frozen_stages, IMAGE_SIZE, RESIZE_SHORT_SIDE, MEAN, STD]
    digest = hashlib.sha256(json.dumps(settings).encode())
    frozen = [(name, weight.detach()) for name, weight in encoder.named_parameters() if not weight.requires_grad]
    statistics = list(encoder.named_buffers())  # of batch norm
    for name, tensor in frozen + statistics:
        digest.update(name.encode() + tensor.numpy().tobytes())
    for example in examples:
        digest.update(example.id.encode() + hashlib.sha256(example.image or b"").digest())
    return digest.hexdigest()[:16]


def _compute(encoder: ImageEncoder, examples: Sequence[Example], views: int, seed: int, file: Path) -> None:
    generator = np.random.default_rng(seed)
    array: np.memmap[Any, np.dtype[np.float16]] | None = None

    def early(crops: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        with torch.inference_mode():
            seen = encoder.early(normalise(np.stack(crops)).contiguous(memory_format=torch.channels_last))
        return np.asarray(seen.numpy())

    with ThreadPoolExecutor(WORKERS) as pool:
        for start in range(0, len(examples), BATCH):
            pictures = [decode_image(example.image or b"") for example in examples[start : start + BATCH]]
            drawn = [[crop(one, generator) if view else center_crop(one) for one in pictures] for view in range(views)]
            seen = np.stack(list(pool.map(early, drawn)), axis=1)
            if array is None:
                array = np.lib.format.open_memmap(
                    file, mode="w+", dtype=np.float16, shape=(len(examples), *seen.shape[1:])
                )
            array[start : start + len(pictures)] = seen
    if array is not None:
        array.flush()
