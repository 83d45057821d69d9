"""Pictures as the model sees them, against Pillow doing one step after the other."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image as Pillow
from tokenizers import Tokenizer, models

from inference_worker.preprocess import ImageParameters, Preprocessor, TextParameters

BICUBIC = Pillow.Resampling.BICUBIC


@pytest.fixture(scope="module")
def preprocessor() -> Preprocessor:
    half = (0.5, 0.5, 0.5)
    image = ImageParameters(
        size=224, resize_short_side=256, resample="bicubic", crop="center", mean=half, std=half, grid=(7, 7)
    )
    return Preprocessor(Tokenizer(models.WordLevel()), TextParameters(max_tokens=8, max_chars=80, pad_id=0), image)


def photo(width: int, height: int) -> Pillow.Image:
    small = np.random.default_rng(width + height).integers(0, 256, (15, 20, 3), dtype=np.uint8)
    return Pillow.fromarray(small).resize((width, height), BICUBIC)


def jpeg_of(picture: Pillow.Image) -> bytes:
    out = BytesIO()
    picture.save(out, "JPEG", quality=90)
    return out.getvalue()


@pytest.mark.parametrize(
    ("size", "resized", "corner"),
    [
        ((300, 225), (341, 256), (58, 16)),
        ((225, 300), (256, 341), (16, 58)),
        ((500, 320), (400, 256), (88, 16)),
        ((256, 384), (256, 384), (16, 80)),
        ((40, 40), (256, 256), (16, 16)),
        ((1, 300), (256, 76_800), (16, 38_288)),
    ],
)
def test_only_the_crop_is_resized_and_it_is_that_of_the_whole(
    preprocessor: Preprocessor, size: tuple[int, int], resized: tuple[int, int], corner: tuple[int, int]
) -> None:
    jpeg = jpeg_of(photo(*size))
    whole = Pillow.open(BytesIO(jpeg)).resize(resized, BICUBIC)
    expected = np.asarray(whole.crop((*corner, corner[0] + 224, corner[1] + 224))).astype(int)
    found = preprocessor.decode(jpeg)
    assert (found.dtype, found.shape) == (np.uint8, (3, 224, 224))
    difference = np.abs(found.transpose(1, 2, 0).astype(int) - expected)
    assert difference.mean() < 0.1  # of 256 levels: which side comes first decides about roundings


def test_a_grey_picture_has_three_equal_channels(preprocessor: Preprocessor) -> None:
    red, green, blue = preprocessor.decode(jpeg_of(photo(300, 260).convert("L")))
    assert (red == green).all()
    assert (green == blue).all()
    assert red.std() > 10


def test_a_cut_off_picture_is_refused(preprocessor: Preprocessor) -> None:
    jpeg = jpeg_of(photo(300, 260))
    with pytest.raises(ValueError, match=f"no readable JPEG .{len(jpeg) // 2} bytes"):
        preprocessor.decode(jpeg[: len(jpeg) // 2])


def test_a_picture_far_larger_than_ingest_sends_is_refused_before_it_is_decoded(preprocessor: Preprocessor) -> None:
    with pytest.raises(ValueError, match="4000 x 1001 pixels is more than 4,000,000"):
        preprocessor.decode(jpeg_of(Pillow.new("RGB", (4000, 1001))))
