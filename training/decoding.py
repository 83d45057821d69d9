"""A picture's file to the pixels that crops are cut from; without torch, so that corpora can be read without it."""

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

IMAGE_SIZE: Final = 224
RESIZE_SHORT_SIDE: Final = 256


def decode_image(image: bytes) -> NDArray[np.uint8]:
    """Encoded file to (H, W, 3) with the short side at RESIZE_SHORT_SIDE; the serving side does the same."""
    with Image.open(io.BytesIO(image)) as opened:
        picture = opened.convert("RGB")
    scale = RESIZE_SHORT_SIDE / min(picture.size)
    width, height = (max(IMAGE_SIZE, round(side * scale)) for side in picture.size)
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(picture)
