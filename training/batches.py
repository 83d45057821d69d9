"""Examples to tensors: tokens padded to the longest of the batch, pictures cropped from a cache of small arrays."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from training.datasets.example import Example
from training.decoding import IMAGE_SIZE, decode_image

if TYPE_CHECKING:
    from training.distillation import Teacher
    from training.views import FrozenViews

MAX_TOKENS = 96
MAX_CHARS = 4000
MEAN = STD = 0.5


class Batch(NamedTuple):
    """Every example of a batch has the same modalities; a missing one is None."""

    input_ids: Tensor | None  # (B, T) int64
    attention_mask: Tensor | None  # (B, T) int64
    pixel_values: Tensor | None  # (B, 3, H, W) float32
    labels: Tensor  # (B,) int64
    early_image: Tensor | None = None  # (B, C, h, w) float32, in place of pixel_values: see training/views.py
    taught: Tensor | None = None  # (B, K, C) float32: what a teacher says of each, see training/distillation.py
    weights: Tensor | None = None  # (B,) float32: of each one's loss, the same for all; None: 1

    def split(self, parts: int) -> list["Batch"]:
        """Up to `parts` batches of nearly the same number of rows."""
        sizes = [len(rows) for rows in torch.arange(len(self.labels)).tensor_split(parts) if len(rows)]
        fields = [torch.split(field, sizes) if field is not None else [None] * len(sizes) for field in self]
        return [Batch(*rows) for rows in zip(*fields, strict=True)]

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(None if field is None else field.to(device) for field in self))


class Collator:
    """Makes batches; keeps word pieces and decoded pictures (some 260 kB each), so that a second epoch decodes none."""

    def __init__(
        self, tokenizer: Tokenizer, *, views: "FrozenViews | None" = None, teacher: "Teacher | None" = None
    ) -> None:
        self._tokenizer = tokenizer
        self._views = views
        self._teacher = teacher
        self._tokenizer.enable_truncation(max_length=MAX_TOKENS)
        self._images: dict[str, NDArray[np.uint8]] = {}
        self._encoded: dict[str, list[int]] = {}

    def __call__(
        self, examples: Sequence[Example], generator: np.random.Generator | None = None, *, weight: float = 1.0
    ) -> Batch:
        """With a generator pictures are cropped and flipped at random, else cropped in the centre. `views`, if given,
        stand in for the pictures they hold."""
        input_ids = attention_mask = pixel_values = early_image = None
        if examples[0].text is not None:
            input_ids, attention_mask = self._tokens([example.text or "" for example in examples])
        has_image = examples[0].image is not None
        if has_image and self._views is not None and all(example.id in self._views for example in examples):
            early_image = self._views.batch([example.id for example in examples], generator)
        elif has_image:
            pictures = [self._decoded(example) for example in examples]
            crops = [center_crop(one) if generator is None else crop(one, generator) for one in pictures]
            pixel_values = normalise(np.stack(crops))
        labels = torch.tensor([example.label for example in examples])
        taught = self._teacher.batch(examples) if self._teacher is not None else None
        weights = torch.full((len(examples),), weight) if weight != 1 else None
        return Batch(input_ids, attention_mask, pixel_values, labels, early_image, taught, weights)

    def length(self, example: Example) -> int:
        """Word pieces of the example's text, [CLS] and [SEP] included; 0 without text."""
        return 0 if example.text is None else len(self._pieces(example.text))

    def _pieces(self, text: str) -> list[int]:
        if text not in self._encoded:
            self._encoded[text] = self._tokenizer.encode(text[:MAX_CHARS]).ids
        return self._encoded[text]

    def _tokens(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        encoded = [self._pieces(text) for text in texts]
        input_ids = torch.zeros(len(texts), max(map(len, encoded)), dtype=torch.int64)
        attention_mask = torch.zeros_like(input_ids)
        for row, ids in enumerate(encoded):
            input_ids[row, : len(ids)] = torch.tensor(ids)
            attention_mask[row, : len(ids)] = 1
        return input_ids, attention_mask

    def _decoded(self, example: Example) -> NDArray[np.uint8]:
        if example.id not in self._images:
            self._images[example.id] = decode_image(example.image or b"")
        return self._images[example.id]


def normalise(crops: NDArray[np.uint8]) -> Tensor:
    """(B, H, W, 3) bytes to (B, 3, H, W) float32."""
    return torch.from_numpy((crops.transpose(0, 3, 1, 2).astype(np.float32) / 255 - MEAN) / STD)


def center_crop(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """IMAGE_SIZE square from the middle."""
    top, left = ((side - IMAGE_SIZE) // 2 for side in image.shape[:2])
    return image[top : top + IMAGE_SIZE, left : left + IMAGE_SIZE]


def crop(image: NDArray[np.uint8], generator: np.random.Generator, *, flip: float = 0.5) -> NDArray[np.uint8]:
    """IMAGE_SIZE square from anywhere, flipped by chance."""
    top, left = (generator.integers(side - IMAGE_SIZE + 1) for side in image.shape[:2])
    cut = image[top : top + IMAGE_SIZE, left : left + IMAGE_SIZE]
    return cut[:, ::-1] if generator.random() < flip else cut


def shuffled_batches(
    examples: Sequence[Example],
    *,
    batch_size: int,
    generator: np.random.Generator,
    length: Callable[[Example], int],
    limit: int | None = None,
) -> list[list[Example]]:
    """Random batches of similar `length`: sorted within windows of fifty batches, then shuffled, so that little time
    goes into padding. `limit` draws that many examples; the rest wait for another epoch."""
    drawn = [examples[i] for i in generator.permutation(len(examples))[:limit]]
    batches: list[list[Example]] = []
    for window in _chunks(drawn, 50 * batch_size):
        window = sorted(window, key=length)
        batches += _chunks(window, batch_size)
    return [batches[i] for i in generator.permutation(len(batches))]


def score_all(
    score: Callable[[list[Example]], dict[str, NDArray[np.float32]]],
    examples: Sequence[Example],
    *,
    batch_size: int,
    workers: int = 1,
) -> dict[str, NDArray[np.float32]]:
    """Run `score` on batches of like length, in `workers` threads; returns its arrays in the examples' own order."""
    order = sorted(range(len(examples)), key=lambda row: len(examples[row].text or ""))
    chunks = _chunks([examples[row] for row in order], batch_size)
    with ThreadPoolExecutor(workers) as pool:
        scored = list(pool.map(score, chunks))
    back = np.argsort(order)
    return {name: np.concatenate([arrays[name] for arrays in scored])[back] for name in scored[0]}


def _chunks(examples: Sequence[Example], size: int) -> list[list[Example]]:
    return [list(examples[start : start + size]) for start in range(0, len(examples), size)]
