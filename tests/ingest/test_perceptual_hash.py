"""Our PDQ against the reference implementation."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pdqhash
import pytest
from PIL import Image as Pillow

from ingest.media.perceptual_hash import pdq
from ingest.media.sanitize import make_safe, perceptual_hash


def reference(luma: np.ndarray) -> bytes:
    bits, _quality = pdqhash.compute(np.ascontiguousarray(np.broadcast_to(luma[..., None], (*luma.shape, 3))))
    return np.packbits(bits.astype(np.uint8)).tobytes()


def blurred_noise(height: int, width: int, seed: int) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 255, (12, 16), dtype=np.uint8)
    return np.asarray(Pillow.fromarray(small).resize((width, height), Pillow.Resampling.BICUBIC))


@pytest.mark.parametrize("size", [(64, 64), (65, 200), (129, 255), (225, 300), (256, 341), (2048, 256), (60, 2048)])
@pytest.mark.parametrize("seed", range(3))
def test_the_hash_is_the_references_bit_by_bit(size: tuple[int, int], seed: int) -> None:
    luma = blurred_noise(*size, seed)
    assert pdq(luma) == reference(luma)


def test_noise_hashes_as_the_reference_has_it() -> None:
    luma = np.random.default_rng(5).integers(0, 255, (240, 320), dtype=np.uint8)
    assert pdq(luma) == reference(luma)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (1, 300), (300, 1)])
def test_a_picture_of_any_size_has_a_hash(size: tuple[int, int]) -> None:
    assert len(pdq(blurred_noise(*size, 1))) == 32


def test_a_picture_of_one_colour_has_no_frequencies() -> None:
    assert pdq(np.full((200, 300), 77, np.uint8)) == bytes(32)


def test_whoever_hashes_the_travelling_jpeg_finds_the_same() -> None:
    out = BytesIO()
    Pillow.fromarray(blurred_noise(900, 1200, 4)).save(out, "PNG")
    image = make_safe(out.getvalue())
    assert perceptual_hash(image.jpeg) == image.phash == make_safe(image.jpeg).phash
