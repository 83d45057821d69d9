"""A small drawing surface: 320 x 240 units, drawn four times as large and shrunk at the end for smooth edges."""

from __future__ import annotations

import random
from io import BytesIO
from typing import Final, Literal

from PIL import Image, ImageDraw, ImageFont

WIDTH: Final = 320
HEIGHT: Final = 240
OVERSAMPLING: Final = 4
SIZE: Final = (341, 256)
QUALITY: Final = 82

Colour = str | tuple[int, int, int]
Point = tuple[float, float]
Mouth = Literal["smile", "frown", "flat", "open"]
INK: Final = "#2b2d42"


class Canvas:
    """Shapes in units from the top left corner; `random` is seeded, so a picture can be drawn again."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)
        self._image = Image.new("RGB", (WIDTH * OVERSAMPLING, HEIGHT * OVERSAMPLING), "white")
        self._draw = ImageDraw.Draw(self._image)

    def jpeg(self) -> bytes:
        out = BytesIO()
        self._image.resize(SIZE, Image.Resampling.LANCZOS).save(out, "JPEG", quality=QUALITY, optimize=True)
        return out.getvalue()

    def gradient(self, top: Colour, bottom: Colour, *, until: float = HEIGHT) -> None:
        column = Image.linear_gradient("L").resize((WIDTH * OVERSAMPLING, round(until * OVERSAMPLING)))
        self._image.paste(
            Image.composite(Image.new("RGB", column.size, bottom), Image.new("RGB", column.size, top), column)
        )

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Colour, *, line: float = 0) -> None:
        """Centre and radii."""
        self._draw.ellipse(_scaled((x - rx, y - ry), (x + rx, y + ry)), fill, INK if line else None, _width(line))

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        fill: Colour | None,
        *,
        round_: float = 0,
        line: float = 0,
    ) -> None:
        """Top left corner and size."""
        corners = _scaled((x, y), (x + width, y + height))
        self._draw.rounded_rectangle(corners, round_ * OVERSAMPLING, fill, INK if line else None, _width(line))

    def polygon(self, *points: Point, fill: Colour, line: float = 0) -> None:
        self._draw.polygon(_scaled(*points), fill, INK if line else None, _width(line))

    def line(self, *points: Point, fill: Colour = INK, width: float = 2) -> None:
        self._draw.line(_scaled(*points), fill, _width(width), "curve")

    def arc(
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        start: float,
        end: float,
        *,
        fill: Colour = INK,
        width: float = 2,
    ) -> None:
        """Part of an ellipse; degrees clockwise from three o'clock."""
        self._draw.arc(_scaled((x - rx, y - ry), (x + rx, y + ry)), start, end, fill, _width(width))

    def face(
        self,
        x: float,
        y: float,
        size: float,
        mouth: Mouth,
        *,
        angry: bool = False,
        tears: bool = False,
        ink: Colour = INK,
    ) -> None:
        """Two eyes and a mouth, without a head; `size` is about half the width of the face."""
        eye = size * 0.13
        for side in (-1, 1):
            self.ellipse(x + side * size * 0.42, y - size * 0.2, eye, eye * 1.3, ink)
            if angry:
                inner, outer = (x + side * size * 0.18, y - size * 0.38), (x + side * size * 0.68, y - size * 0.62)
                self.line(inner, outer, fill=ink, width=size * 0.11)
            if tears:
                self.ellipse(x + side * size * 0.5, y + size * 0.15, eye * 0.8, eye * 1.6, "#6ec6ff")
        self._mouth(x, y, size, mouth, ink)

    def _mouth(self, x: float, y: float, size: float, mouth: Mouth, ink: Colour) -> None:
        if mouth == "smile":
            self.arc(x, y + size * 0.1, size * 0.48, size * 0.42, 20, 160, fill=ink, width=size * 0.1)
        elif mouth == "frown":
            self.arc(x, y + size * 0.62, size * 0.42, size * 0.36, 205, 335, fill=ink, width=size * 0.1)
        elif mouth == "open":
            self.ellipse(x, y + size * 0.38, size * 0.24, size * 0.2, ink)
        else:
            self.line((x - size * 0.3, y + size * 0.38), (x + size * 0.3, y + size * 0.38), fill=ink, width=size * 0.1)

    def text(self, x: float, y: float, words: str, size: float, *, fill: Colour = INK) -> None:
        """Centred on the point."""
        self._draw.text(_scaled((x, y))[0], words, fill, ImageFont.load_default(size * OVERSAMPLING), anchor="mm")

    def caption(self, words: str, *, top: bool) -> None:
        """White capitals with a black edge, as memes have them, in as many lines as needed."""
        size = 25.0
        lines = _wrapped(words, size)
        while len(lines) > 2 and size > 15:
            size -= 2
            lines = _wrapped(words, size)
        font = ImageFont.load_default(size * OVERSAMPLING)
        first = 6 + size / 2 if top else HEIGHT - 10 - size / 2 - (len(lines) - 1) * size * 1.08
        for number, line in enumerate(lines):
            place = _scaled((WIDTH / 2, first + number * size * 1.08))[0]
            for edge, colour in ((0.16, "black"), (0.04, "white")):  # the second makes the letters bold
                self._draw.text(place, line, colour, font, anchor="mm", stroke_width=size * edge * OVERSAMPLING)


def _scaled(*points: Point) -> list[Point]:
    return [(x * OVERSAMPLING, y * OVERSAMPLING) for x, y in points]


def _width(units: float) -> int:
    return max(1, round(units * OVERSAMPLING)) if units else 0


def _wrapped(words: str, size: float) -> list[str]:
    font = ImageFont.load_default(size)
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]}  {word}".strip()  # two spaces: the edges of the letters take room
        if lines[-1] and font.getlength(longer) > WIDTH * 0.9:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
