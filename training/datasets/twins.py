"""Near-duplicates across splits: posts whose text or picture the training split already holds."""

import hashlib
import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

from training.datasets.example import Example
from training.decoding import decode_image

_RETWEET = re.compile(r"^\s*rt\s+@\w+:?", re.IGNORECASE)
_NOISE = re.compile(r"https?:\S*|www\.\S+|@\w+")
_SYMBOLS = re.compile(r"[^\w#]+|_")
MAX_HAMMING = 4
MIN_CORRELATION = 0.97


def twins_in(train: Sequence[Example], others: Sequence[Example]) -> list[bool]:
    """For each of `others`: does `train` hold its normalised text, or a picture that looks the same?

    Pictures look the same when their bytes are equal, or their 64-bit DCT hashes differ in at most MAX_HAMMING bits
    and their 16 x 16 grey thumbnails correlate at MIN_CORRELATION.
    """
    texts = {normalised_text(example.text) for example in train if example.text} - {""}  # links alone are no twins
    hashes = {hashlib.sha256(example.image).digest() for example in train if example.image}
    looks = [_look(example.image) for example in train if example.image]
    bits, greys = np.array([bit for bit, _ in looks]), np.array([grey for _, grey in looks])
    return [
        (normalised_text(example.text or "") in texts)
        or (example.image is not None and hashlib.sha256(example.image).digest() in hashes)
        or (example.image is not None and _looks_like_one(example.image, bits, greys))
        for example in others
    ]


def twin_groups(examples: Sequence[Example]) -> list[int]:
    """A number for each example, equal where texts or pictures are nearly the same, directly or by way of others."""
    parent = list(range(len(examples)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = row = parent[parent[row]]
        return row

    def join(rows: Iterable[tuple[int, int]]) -> None:
        for one, other in rows:
            parent[root(one)] = root(other)

    first: dict[object, int] = {}
    looks: list[tuple[int, NDArray[np.bool_], NDArray[np.float64]]] = []
    for row, example in enumerate(examples):
        keys = [normalised_text(example.text)] if example.text and normalised_text(example.text) else []
        if example.image is not None:
            keys.append(hashlib.sha256(example.image).digest())  # type: ignore[arg-type]
            looks.append((row, *_look(example.image)))
        join((row, first.setdefault(key, row)) for key in keys)
    join(_near_pairs(looks))
    return [root(row) for row in range(len(examples))]


def _near_pairs(looks: Sequence[tuple[int, NDArray[np.bool_], NDArray[np.float64]]]) -> Iterable[tuple[int, int]]:
    if not looks:
        return
    rows = np.array([row for row, _, _ in looks])
    bits = np.array([bit for _, bit, _ in looks])
    greys = np.array([grey for _, _, grey in looks])
    for number in range(len(rows)):
        near = np.flatnonzero((bits[number + 1 :] != bits[number]).sum(-1) <= MAX_HAMMING) + number + 1
        for other in near[greys[near] @ greys[number] >= MIN_CORRELATION]:
            yield int(rows[number]), int(rows[other])


def normalised_text(text: str) -> str:
    """Lower case without leading retweet mark, links, handles and symbols other than #."""
    return _SYMBOLS.sub(" ", _NOISE.sub(" ", _RETWEET.sub(" ", text)).lower()).strip()


def _looks_like_one(image: bytes, bits: NDArray[np.bool_], greys: NDArray[np.float64]) -> bool:
    if not len(bits):
        return False
    bit, grey = _look(image)
    is_near = (bits != bit).sum(-1) <= MAX_HAMMING
    return bool(is_near.any() and (greys[is_near] @ grey).max() >= MIN_CORRELATION)


def _look(image: bytes) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """(64-bit perceptual hash, unit vector of the centred 16 x 16 grey thumbnail)."""
    picture = Image.fromarray(decode_image(image)).convert("L")
    small = np.asarray(picture.resize((32, 32), Image.Resampling.BILINEAR), dtype=np.float64)
    low = dctn(small, norm="ortho")[:8, :8].ravel()
    thumbnail = np.asarray(picture.resize((16, 16), Image.Resampling.BILINEAR), dtype=np.float64).ravel()
    centred = thumbnail - thumbnail.mean()
    return low > np.median(low[1:]), centred / max(float(np.linalg.norm(centred)), 1e-9)
