"""Pictures with words on them, drawn as memes are: white capitals with a black edge, above and below."""

from __future__ import annotations

import textwrap
from io import BytesIO
from typing import Final

from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from ingest.contract import Image
from ingest.media.sanitize import make_safe

SIZE: Final = (512, 640)
LETTERS: Final = 36
"""Height in pixels."""
LINE: Final = 20
"""Characters."""


def background(shade: int = 90) -> Pillow.Image:
    """A soft slope of grey, as of a blurred photograph."""
    return Pillow.linear_gradient("L").resize(SIZE).point(lambda luma: luma // 4 + shade).convert("RGB")


def meme(above: str, below: str = "", *, picture: Pillow.Image | None = None) -> Pillow.Image:
    picture = (picture or background()).copy()
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(LETTERS)
    for words, is_above in ((above, True), (below, False)):
        lines = textwrap.wrap(words, LINE)
        top = 12 if is_above else picture.height - 12 - 44 * len(lines)
        for number, line in enumerate(lines):
            left = (picture.width - font.getlength(line)) / 2
            draw.text((left, top + 44 * number), line, "white", font, stroke_width=2, stroke_fill="black")
    return picture


def saved(picture: Pillow.Image, *, quality: int = 90) -> bytes:
    out = BytesIO()
    picture.save(out, "JPEG", quality=quality)
    return out.getvalue()


def safe(picture: Pillow.Image) -> Image:
    return make_safe(saved(picture))
