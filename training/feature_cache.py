"""What frozen encoders make of a corpus, kept on disk: then a training run costs seconds, not hours.

Augmentation and contrastive losses still work, because several views of each post are kept: view 0 is the post as it
is, the others are augmented (`augmentation.py`), text and picture alike. Every epoch, seed and run draws among them.
"""

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from training.augmentation import Augmentation
from training.batches import MAX_CHARS, MAX_TOKENS, center_crop, normalise
from training.datasets.example import Example, labels_of
from training.decoding import decode_image
from training.features import Features

log = logging.getLogger(__name__)

BATCH: Final = 32
CPU: Final = torch.device("cpu")
TEXT_LAYERS: Final = 4
"""The last layers of the text encoder are kept, so many: SPP-SCL reads four."""


@dataclass(frozen=True)
class FrozenEncoders:
    """What makes states of posts. tokenize: a text to its word pieces; text_layers: (input_ids, attention_mask) to
    (L, B, T, D), the last layers, the very last one last; encode_image: pixel_values to (B, M, D).

    name: differs between any two that make other states, be it by their weights alone;
    one_vector: T is 1, whatever a text's word pieces; device: where the encoders are.
    """

    name: str
    tokenize: Callable[[str], list[int]]
    text_layers: Callable[[Tensor, Tensor], Tensor]
    encode_image: nn.Module
    one_vector: bool = False
    device: torch.device = CPU


class FeatureCache:
    """States of N posts in V views.

    text (L, P, D) float16: the last L layers, all word pieces of all views of all posts one after the other, those of
    post n in view v at offsets[n·V + v] : offsets[n·V + v + 1]; image (N, V, M, D) float16.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        *,
        text: NDArray[np.float16],
        offsets: NDArray[np.int64],
        image: NDArray[np.float16],
        seconds: float,
    ) -> None:
        self.views = image.shape[1]
        self.seconds = seconds
        self._text, self._offsets, self._image = text, offsets, image
        self._rows = {example.id: row for row, example in enumerate(examples)}
        self._labels = labels_of(examples)

    @property
    def text_width(self) -> int:
        return int(self._text.shape[-1])

    @property
    def image_width(self) -> int:
        return int(self._image.shape[-1])

    def length(self, example: Example) -> int:
        """Word pieces of the post as it is."""
        return int(self._length(self._rows[example.id], 0))

    def batch(
        self,
        examples: Sequence[Example],
        generator: np.random.Generator | None = None,
        *,
        layers: int = 1,
        with_augmented: bool = False,
        with_views: bool = True,
    ) -> Features:
        """With a generator each post comes in a view drawn at random (its pictures only, unless `with_augmented`
        also asks for a second, augmented view of both); without one as it is.

        layers: how many of the last text layers the states hold, (B, T, D) for one, (B, L, T, D) for several.
        """
        rows = [self._rows[example.id] for example in examples]
        labels = torch.from_numpy(self._labels[rows])
        drawn = (
            generator.integers(self.views, size=len(rows)) if generator is not None and with_views else [0] * len(rows)
        )
        states, mask = self._texts(rows, [0] * len(rows), layers)
        pictures = self._pictures(rows, drawn)
        if not with_augmented or generator is None:
            return Features(states, mask, pictures, labels)
        others = generator.integers(1, self.views, size=len(rows)) if self.views > 1 else [0] * len(rows)
        other_states, other_mask = self._texts(rows, others, layers)
        return Features(
            states,
            mask,
            pictures,
            labels,
            augmented_text_states=other_states,
            augmented_attention_mask=other_mask,
            augmented_image_states=self._pictures(rows, others),
        )

    def _length(self, row: int, view: int) -> int:
        at = row * self.views + view
        return int(self._offsets[at + 1] - self._offsets[at])

    def _texts(self, rows: Sequence[int], views: Sequence[int], layers: int) -> tuple[Tensor, Tensor]:
        lengths = [self._length(row, view) for row, view in zip(rows, views, strict=True)]
        states = np.zeros((layers, len(rows), max(lengths), self.text_width), dtype=np.float32)
        mask = np.zeros((len(rows), max(lengths)), dtype=np.int64)
        for number, (row, view, length) in enumerate(zip(rows, views, lengths, strict=True)):
            start = self._offsets[row * self.views + view]
            states[:, number, :length] = self._text[-layers:, start : start + length]
            mask[number, :length] = 1
        stacked = torch.from_numpy(states)
        return stacked[0] if layers == 1 else stacked.transpose(0, 1).contiguous(), torch.from_numpy(mask)

    def _pictures(self, rows: Sequence[int], views: Sequence[int]) -> Tensor:
        return torch.from_numpy(self._image[list(rows), list(views)].astype(np.float32))


def feature_cache(
    encoders: FrozenEncoders,
    examples: Sequence[Example],
    *,
    views: int,
    augmentation: Augmentation,
    folder: Path,
    grid: int | None = None,
    seed: int = 0,
) -> FeatureCache:
    """Open the states of these posts in `folder`, or make them there first. All posts need a picture.

    The folder's name tells all that the states depend on: posts, encoders, views, augmentation and seed. grid: cells a
    side that the picture's own are averaged to, unless it has but one; the whole map stays on disk.
    """
    kept = folder / _fingerprint(encoders, examples, views, augmentation, seed)
    if not (kept / "done.json").exists():
        kept.mkdir(parents=True, exist_ok=True)
        log.info("caching %d views of %d posts by %s in %s", views, len(examples), encoders.name, kept)
        began = time.monotonic()
        _keep_texts(encoders, examples, views, augmentation, seed, kept)
        _keep_images(encoders, examples, views, augmentation, seed, kept)
        (kept / "done.json").write_text(json.dumps({"seconds": round(time.monotonic() - began, 1)}))
    image = np.load(kept / "image.npy", mmap_mode="r")
    if grid and image.shape[2] > 1:
        image = np.load(_averaged(kept, grid), mmap_mode="r")
    return FeatureCache(
        examples,
        text=np.load(kept / "text.npy", mmap_mode="r"),
        offsets=np.load(kept / "offsets.npy"),
        image=image,
        seconds=json.loads((kept / "done.json").read_text())["seconds"],
    )


def _fingerprint(
    encoders: FrozenEncoders, examples: Sequence[Example], views: int, augmentation: Augmentation, seed: int
) -> str:
    digest = hashlib.sha256(repr((encoders.name, views, augmentation, seed, MAX_TOKENS, TEXT_LAYERS)).encode())
    for example in examples:
        picture = hashlib.sha256(example.image or b"").digest()
        digest.update(repr((example.id, example.text, example.aspect)).encode() + picture)
    return digest.hexdigest()[:16]


def _keep_texts(
    encoders: FrozenEncoders,
    examples: Sequence[Example],
    views: int,
    augmentation: Augmentation,
    seed: int,
    folder: Path,
) -> None:
    generator = np.random.default_rng([seed, 1])
    texts = [
        example.text or "" if view == 0 else augmentation.text(example.text or "", generator)
        for example in examples
        for view in range(views)
    ]
    pieces = [encoders.tokenize(text[:MAX_CHARS]) for text in texts]
    offsets = np.cumsum([0, *(1 if encoders.one_vector else len(one) for one in pieces)])
    np.save(folder / "offsets.npy", offsets)
    array: NDArray[np.float16] | None = None
    order = sorted(range(len(pieces)), key=lambda number: len(pieces[number]))
    for start in tqdm(range(0, len(order), BATCH), "texts", disable=None):
        chosen = order[start : start + BATCH]
        longest = len(pieces[chosen[-1]])
        input_ids = torch.tensor([pieces[number] + [0] * (longest - len(pieces[number])) for number in chosen])
        mask = torch.tensor([[1] * len(pieces[number]) + [0] * (longest - len(pieces[number])) for number in chosen])
        with torch.inference_mode():
            layers = encoders.text_layers(input_ids.to(encoders.device), mask.to(encoders.device))
            states = layers[-TEXT_LAYERS:].cpu().numpy()
        if array is None:
            shape = (len(states), int(offsets[-1]), states.shape[-1])
            array = np.lib.format.open_memmap(folder / "text.npy", mode="w+", dtype=np.float16, shape=shape)
        for row, number in enumerate(chosen):
            first, end = offsets[number], offsets[number + 1]
            array[:, first:end] = states[:, row, : end - first]
    if array is not None:
        array.flush()


def _keep_images(
    encoders: FrozenEncoders,
    examples: Sequence[Example],
    views: int,
    augmentation: Augmentation,
    seed: int,
    folder: Path,
) -> None:
    generator = np.random.default_rng([seed, 2])
    array: NDArray[np.float16] | None = None
    for start in tqdm(range(0, len(examples), BATCH), "pictures", disable=None):
        pictures = [decode_image(example.image or b"") for example in examples[start : start + BATCH]]
        for view in range(views):
            crops = [augmentation.picture(one, generator) if view else center_crop(one) for one in pictures]
            pixels = normalise(np.stack(crops)).contiguous(memory_format=torch.channels_last).to(encoders.device)
            # half the time, cosine above 0.999
            with torch.inference_mode(), torch.autocast(encoders.device.type, torch.bfloat16):
                states = encoders.encode_image(pixels).float().cpu().numpy()
            if array is None:
                shape = (len(examples), views, *states.shape[1:])
                array = np.lib.format.open_memmap(folder / "image.npy", mode="w+", dtype=np.float16, shape=shape)
            array[start : start + len(pictures), view] = states
    if array is not None:
        array.flush()


def _averaged(folder: Path, grid: int) -> Path:
    """The picture's states of a square map (N, V, M, D) averaged to (N, V, grid², D), beside them."""
    kept = folder / f"image-{grid}x{grid}.npy"
    if kept.exists():
        return kept
    states = np.load(folder / "image.npy", mmap_mode="r")
    side = math.isqrt(states.shape[2])
    if side**2 != states.shape[2] or grid > side:
        raise ValueError(f"{states.shape[2]} cells of a picture cannot be averaged to {grid} x {grid}")
    partial = kept.with_suffix(".partial")
    array = np.lib.format.open_memmap(
        partial, mode="w+", dtype=np.float16, shape=(*states.shape[:2], grid**2, states.shape[3])
    )
    for number, views in enumerate(states):
        cells = torch.from_numpy(views.astype(np.float32)).unflatten(1, (side, side)).permute(0, 3, 1, 2)
        array[number] = functional.adaptive_avg_pool2d(cells, grid).flatten(2).transpose(1, 2).numpy()
    array.flush()
    partial.replace(kept)
    return kept
