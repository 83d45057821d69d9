"""Post → arrays, exactly as the artifact says; the text normaliser lives in its tokenizer.json."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from PIL import Image as PillowImage
from tokenizers import Encoding, Tokenizer

from inference_worker.batcher import Lane
from inference_worker.errors import Unscorable
from ingest.contract import Image, Post

MAX_PIXELS = 4_000_000
"""Ingest sends pictures of short side 256; anything far beyond was not made by it and is not decoded."""

ENOUGH_WORDS = 8
"""So many words in the pictures of a post without text are scored as its text; fewer are mostly signs and logos, beside
which the picture alone was more often right."""

_WORD = re.compile("[A-Za-z]{2,}")

RESAMPLING = {
    "bicubic": PillowImage.Resampling.BICUBIC,
    "bilinear": PillowImage.Resampling.BILINEAR,
}


@dataclass(frozen=True, slots=True)
class TextParameters:
    max_tokens: int
    max_chars: int
    pad_id: int


@dataclass(frozen=True, slots=True)
class ImageParameters:
    """size: side of the square the model sees; resize_short_side, resample, crop: how to get there."""

    size: int
    resize_short_side: int
    resample: str
    crop: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    grid: tuple[int, int]

    def __post_init__(self) -> None:
        if self.resample not in RESAMPLING or self.crop != "center" or self.size > self.resize_short_side:
            raise ValueError(
                f"image preprocessing resample={self.resample!r} crop={self.crop!r} size={self.size} of "
                f"{self.resize_short_side}: this worker knows {sorted(RESAMPLING)}, crop 'center', size <= short side"
            )


class EncodedText(msgspec.Struct, frozen=True):
    """input_ids: (T,) int64 with the special tokens; spans: character span of each in the post's text.

    A span is (0, 0) if the token is special, or of the words in a picture.
    """

    input_ids: np.ndarray
    spans: tuple[tuple[int, int], ...]


class EncodedImage(msgspec.Struct, frozen=True):
    """index: place among the post's images; pixels: (3, H, W) uint8, or None while the features are cached."""

    index: int
    source: Image
    pixels: np.ndarray | None


class Example(msgspec.Struct, frozen=True):
    """A post as the model sees it; at least one modality is there. language: see `languages.Languages.of`."""

    text: EncodedText | None
    images: tuple[EncodedImage, ...]
    warnings: tuple[str, ...] = ()
    language: str | None = None

    @property
    def lane(self) -> Lane:
        if self.text is None:
            return "image"
        return "both" if self.images else "text"

    @property
    def tokens(self) -> int:
        return len(self.text.input_ids) if self.text is not None else 0


class Preprocessor:
    """Tokenises and decodes; safe to call from several threads."""

    def __init__(self, tokenizer: Tokenizer, text: TextParameters, image: ImageParameters) -> None:
        tokenizer.no_padding()
        tokenizer.enable_truncation(text.max_tokens)
        self.tokenizer = tokenizer
        self.text = text
        self.image = image

    def encode(self, posts: Sequence[Post]) -> list[Encoding]:
        """Their texts, many at once: it takes Python's lock once, and one core each."""
        return self.tokenizer.encode_batch([text_of(post)[: self.text.max_chars] for post in posts])

    def prepare(
        self,
        post: Post,
        encoding: Encoding | None = None,
        *,
        is_cached: frozenset[bytes] | set[bytes] = frozenset(),
    ) -> Example:
        """One post → its example; images whose sha256 `is_cached` are not decoded.

        encoding: of its text, where `encode` made it already.

        Unreadable pictures and cut-off text become warnings. Raises Unscorable if nothing is left to score.
        """
        warnings: list[str] = []
        text = self._encode_text(post, encoding, warnings)
        images = []
        for index, image in enumerate(post.images):
            try:
                pixels = None if image.sha256 in is_cached else self.decode(image.jpeg)
            except ValueError as error:
                warnings.append(f"image {index + 1} left out: {error}")
            else:
                images.append(EncodedImage(index, image, pixels))
        if text is None and not images:
            reason = "; ".join(warnings) or "it has neither text nor image"
            raise Unscorable(f"post {post.id} has nothing to score: {reason}")
        return Example(text, tuple(images), tuple(warnings))

    def decode(self, jpeg: bytes) -> np.ndarray:
        """JPEG → (3, size, size) uint8 RGB: short side resized, centre cropped.

        Raises ValueError if the bytes are no whole JPEG of at most MAX_PIXELS.
        """
        try:
            with PillowImage.open(io.BytesIO(jpeg), formats=("JPEG",)) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise ValueError(f"{picture.width} x {picture.height} pixels is more than {MAX_PIXELS:,}")
                picture.load()
                return self._resized(picture if picture.mode == "RGB" else picture.convert("RGB"))
        except (OSError, SyntaxError, PillowImage.DecompressionBombError) as error:
            raise ValueError(f"no readable JPEG ({len(jpeg)} bytes): {error}") from error

    def _resized(self, rgb: PillowImage.Image) -> np.ndarray:
        """Only what is in the crop is computed."""
        short, size = self.image.resize_short_side, self.image.size
        scale = short / min(rgb.size)
        width, height = max(short, round(rgb.width * scale)), max(short, round(rgb.height * scale))
        left, top = (width - size) // 2, (height - size) // 2
        if scale == 1:
            crop = rgb.crop((left, top, left + size, top + size))
        else:
            across, down = rgb.width / width, rgb.height / height
            box = (left * across, top * down, (left + size) * across, (top + size) * down)
            crop = rgb.resize((size, size), RESAMPLING[self.image.resample], box=box)
        return np.asarray(crop).transpose(2, 0, 1)

    def normalise(self, pixels: list[np.ndarray]) -> np.ndarray:
        """List of (3, H, W) uint8 → (B, 3, H, W) float32 as the image encoder takes it."""
        batch = np.empty((len(pixels), *pixels[0].shape), np.float32)
        for row, one in zip(batch, pixels, strict=True):
            row[...] = one  # a quarter of the time that stacking takes: the bytes lie pixel by pixel
        mean = np.asarray(self.image.mean, dtype=np.float32).reshape(1, 3, 1, 1)
        std = np.asarray(self.image.std, dtype=np.float32).reshape(1, 3, 1, 1)
        batch *= 1 / (255 * std)
        batch -= mean / std
        return batch

    def _encode_text(self, post: Post, encoding: Encoding | None, warnings: list[str]) -> EncodedText | None:
        scored = text_of(post)
        if not scored.strip():
            return None
        if encoding is None:
            (encoding,) = self.encode([post])
        if all(encoding.special_tokens_mask):
            return None
        if encoding.overflowing or len(scored) > self.text.max_chars:
            warnings.append(f"text truncated to {self.text.max_tokens} tokens")
        spans = tuple(encoding.offsets)
        if scored is not post.text:
            warnings.append("words in the picture scored as its text")
            spans = ((0, 0),) * len(spans)
        return EncodedText(np.asarray(encoding.ids, dtype=np.int64), spans)


def text_of(post: Post) -> str:
    """What is scored as the text: the post's own or, where it has none, the words in its pictures if they are enough.

    Beside a text of its own a picture's words made scores worse (MVSA-Single, validation).
    """
    if post.text.strip():
        return post.text
    words = "\n".join(image.words for image in post.images if image.words)
    return words if len(_WORD.findall(words)) >= ENOUGH_WORDS else post.text
