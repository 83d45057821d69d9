"""What the model looked at: its private features as marks in the text and as heat over the picture.

A token's or cell's weight (0-255) says how much of what only this modality knows came from there.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from html import escape
from io import BytesIO
from typing import Final, NamedTuple

import numpy as np
from PIL import Image

STEPS: Final = 6
"""Shades of a mark: neighbours of one shade become one mark."""
FAINT: Final = 0.12
"""Of the strongest weight: below it nothing is marked."""
SEEN: Final = 224 / 256
"""The model sees the middle square, this much of the picture's short side."""
HEAT: Final = (217, 87, 43)
_STRONGEST: Final = 0.78
_ZWJ: Final = "\u200d"


class Piece(NamedTuple):
    """A stretch of text and its shade, 0 for none."""

    text: str
    shade: int


def pieces(text: str, token_map: Sequence[tuple[int, int, int]], limit: int | None = None) -> list[Piece]:
    """The text cut where the shade changes, never inside of what a reader sees as one character.

    Spans that overlap take the stronger shade; spaces between two of one shade join them.
    """
    shown = text if limit is None or len(text) <= limit else text[: _boundary(text, limit - 1)].rstrip()
    shades = np.zeros(len(text) + 1, dtype=np.int8)
    strongest = max((weight for _, _, weight in token_map), default=0)
    for start, end, weight in token_map:
        begin, stop = _boundary(text, max(start, 0)), _boundary(text, min(end, len(text)), ahead=True)
        if strongest and begin < stop and weight >= FAINT * strongest:
            shade = max(1, round(STEPS * weight / strongest))
            shades[begin:stop] = np.maximum(shades[begin:stop], shade)
    for place in range(1, len(text) - 1):
        if text[place] == " " and shades[place - 1] == shades[place + 1]:
            shades[place] = shades[place - 1]
    cut = [0, *(place for place in range(1, len(shown)) if shades[place] != shades[place - 1]), len(shown)]
    made = [Piece(shown[a:b], int(shades[a])) for a, b in zip(cut, cut[1:], strict=False) if a < b]
    return [*made, Piece("…", 0)] if shown != text else made


def marked(text: str, token_map: Sequence[tuple[int, int, int]], limit: int | None = None) -> str:
    """The text as HTML: escaped, with marks. Line breaks stay."""
    return "".join(
        f'<mark class="ms-m{piece.shade}">{visible(piece.text)}</mark>' if piece.shade else visible(piece.text)
        for piece in pieces(text, token_map, limit)
    )


def visible(text: str) -> str:
    """Text as HTML that shows it as it is: escaped; control characters, which HTML forbids, as their pictures."""
    return escape("".join(_CONTROLS.get(character, character) for character in text))


_CONTROLS: Final = {chr(code): chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"} | {"\x7f": "\u2421"}


def _boundary(text: str, place: int, *, ahead: bool = False) -> int:
    """The nearest place before (or after) that does not part a grapheme."""
    step = 1 if ahead else -1
    while 0 < place < len(text) and _joins(text, place):
        place += step
    return place


def _joins(text: str, place: int) -> bool:
    """The characters on both sides are one to a reader (the rules of UAX #29 that posts meet)."""
    before, after = text[place - 1], text[place]
    if before == _ZWJ or after == _ZWJ or unicodedata.category(after) in ("Mn", "Me", "Mc"):
        return True
    code = ord(after)
    if 0x1F3FB <= code <= 0x1F3FF or 0xE0020 <= code <= 0xE007F or 0x1160 <= code <= 0x11FF:
        return True
    if before == "\r" and after == "\n":
        return True
    return _is_flag(after) and sum(1 for _ in _flags_before(text, place)) % 2 == 1


def _flags_before(text: str, place: int) -> Iterator[str]:
    while place and _is_flag(text[place - 1]):
        place -= 1
        yield text[place]


def _is_flag(character: str) -> bool:
    return 0x1F1E6 <= ord(character) <= 0x1F1FF


def heated(jpeg: bytes, image_map: bytes, shape: tuple[int, int]) -> bytes | None:
    """The picture greyed, with heat over the square the model saw; None where there is no map that fits."""
    rows, columns = shape
    if not image_map or rows < 1 or columns < 1 or rows * columns != len(image_map):
        return None
    try:
        with Image.open(BytesIO(jpeg), formats=("JPEG",)) as opened:
            picture = opened.convert("L").convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError):
        return None
    side = max(1, round(SEEN * min(picture.size)))
    corner = (picture.width - side) // 2, (picture.height - side) // 2
    weights = np.frombuffer(image_map, np.uint8).reshape(rows, columns).astype(np.float32)
    weights *= 255 * _STRONGEST / max(float(weights.max()), 1.0)
    mask = Image.fromarray(weights.astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    picture.paste(Image.new("RGB", (side, side), HEAT), corner, mask)
    packed = BytesIO()
    picture.save(packed, "JPEG", quality=82)
    return packed.getvalue()
