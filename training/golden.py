"""Golden rows: posts we wrote and drew, whose probabilities an artifact must reproduce wherever it is loaded."""

import base64
import io
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from training.datasets.example import Example
from training.evaluate import ExportedModel
from training.metrics import softmax

TOLERANCE = {"onnx": 1e-3, "onnx-int8": 5e-2, "torch": 2e-2, "torch-float32": 1e-3}


def golden_examples() -> list[Example]:
    """Every kind of input, and the awkward ones: emoji, markup, more words than fit, a tall and a small picture."""
    sun, rain, chart = _sunny_hill(320, 256), _rainy_street(256, 400), _falling_chart(120, 90)
    long_text = "The queue did not move and nobody told us why, so we waited. " * 20
    rows: list[tuple[str, str | None, bytes | None]] = [
        ("text-praise", "Best coffee in town and the staff remembered my name, what a lovely morning!", None),
        ("text-complaint", "Two hours late, bags lost, and no one answers the phone. Never again.", None),
        ("text-plain", "The museum opens at ten on weekdays and at eleven on Sundays.", None),
        ("text-emoji", "We got the tickets 😂😂 see you on Friday ❤️", None),
        ("text-markup", "RT @nobody: Rock &amp; roll &lt;3 all night https://example.org/a?b=c #goodtimes", None),
        ("text-long", long_text, None),
        ("image-sun", None, sun),
        ("image-chart", None, chart),
        ("both-agree", "Picnic on the hill today, could not be happier", sun),
        ("both-disagree", "Just what we hoped for, another perfect summer day", rain),
        ("both-sad", "Our little shop closes for good tonight. Thank you, and goodbye :(", rain),
        ("both-long", long_text, chart),
    ]
    return [Example(id=id, text=text, image=image, label=0) for id, text, image in rows]


def golden_rows(model: ExportedModel, temperatures: dict[str, float]) -> dict[str, Any]:
    """golden.json: inputs, and calibrated probabilities; an absent modality is null."""
    return {
        "rows": [
            {
                "id": example.id,
                "text": example.text,
                "image": base64.b64encode(example.image).decode() if example.image else None,
                "expected": _expected(model, example, temperatures),
            }
            for example in golden_examples()
        ],
        "tolerance": TOLERANCE,
    }


def _expected(model: ExportedModel, example: Example, temperatures: dict[str, float]) -> dict[str, list[float] | None]:
    logits = model.logits([example])
    by_kind: dict[str, list[float]] = {
        kind: np.round(softmax(rows[0], temperatures[kind]), 7).tolist() for kind, rows in logits.items()
    }
    text = by_kind.get("caption") or by_kind.get("text")
    fused = by_kind.get("both") or text or by_kind["image"]
    return {"fused": fused, "text": text, "image": by_kind.get("image")}


def _sunny_hill(width: int, height: int) -> bytes:
    picture = Image.new("RGB", (width, height), (120, 190, 250))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((width * 0.65, height * 0.1, width * 0.85, height * 0.35), fill=(255, 220, 60))
    draw.ellipse((-width * 0.2, height * 0.55, width * 1.2, height * 1.8), fill=(90, 170, 70))
    for column in range(8):
        x, y = width * (0.08 + 0.12 * column), height * (0.72 + 0.05 * (column % 3))
        draw.ellipse((x, y, x + 14, y + 14), fill=(240, 90 + 15 * column, 120))
    return _jpeg(picture)


def _rainy_street(width: int, height: int) -> bytes:
    picture = Image.new("RGB", (width, height), (70, 75, 88))
    draw = ImageDraw.Draw(picture)
    for house in range(4):
        left = house * width // 4
        draw.rectangle(
            (left + 4, height * (0.3 + 0.06 * (house % 2)), left + width // 4 - 4, height), fill=(48, 46, 52)
        )
        draw.rectangle((left + 18, height * 0.5, left + 34, height * 0.57), fill=(150, 130, 60))
    for drop in range(90):
        x, y = (drop * 53) % width, (drop * 97) % height
        draw.line((x, y, x - 4, y + 16), fill=(150, 165, 190), width=1)
    return _jpeg(picture)


def _falling_chart(width: int, height: int) -> bytes:
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    draw.line((10, 8, 10, height - 10, width - 6, height - 10), fill="black", width=2)
    draw.line([(12 + 20 * step, 14 + 12 * step + 8 * (step % 2)) for step in range(6)], fill=(200, 30, 30), width=3)
    return _jpeg(picture)


def _jpeg(picture: Image.Image) -> bytes:
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=80)
    return encoded.getvalue()
