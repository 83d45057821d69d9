"""Two hundred posts nobody would write and everybody sends: each gets a valid distribution, alone and in one batch."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from inference_worker.artifact import load
from inference_worker.errors import Unscorable
from inference_worker.predictor import Predictor, Scores
from ingest.contract import Image, Post
from ingest.media.sanitize import make_safe

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
MODEL = Path(__file__).parents[2] / "inference_worker" / "models" / "default"

TEXTS = {
    "empty": "",
    "blank": " \t\n\r\u00a0\u2003",
    "zero width": "\u200b\u200d\ufeff",
    "null bytes": "\x00a\x00b\x00",
    "control characters": "".join(map(chr, range(1, 32))),
    "emoji only": "😀😡🎉" * 40,
    "emoji families": "👩‍👩‍👧‍👦🏳️‍🌈👍🏿" * 30,
    "one emoji of many parts": "👩\u200d❤️\u200d💋\u200d👩",
    "20,000 letters": "x" * 20_000,
    "20,000 words": "no " * 20_000,
    "right to left": "שלום עולם مرحبا بالعالم",
    "direction overrides": "\u202ereversed\u202c \u2066isolated\u2069",
    "zalgo": "".join(letter + "\u0336\u0322\u0356\u0350" * 20 for letter in "chaos"),
    "Thai, no spaces": "สวัสดีชาวโลก" * 50,
    "Chinese": "今天天气很好" * 50,
    "lone surrogates, replaced": "a\udc80b".encode("utf-8", "replace").decode(),
    "private use": "\ue000\uf8ff\U000f0000",
    "unassigned": "\u0378\U000e0fff",
    "mathematical letters": "𝓘 𝕝𝕠𝕧𝕖 𝖙𝖍𝖎𝖘",
    "markup": "<script>alert(1)</script>" * 20,
    "entities": "&amp;&lt;&#0;&#x110000;&bogus;" * 50,
    "links only": "https://example.org/" + "a" * 5_000,
    "handles only": "@a " * 500,
    "special tokens": "[CLS] [SEP] [PAD] [MASK] [UNK]" * 20,
    "punctuation": "!?…—" * 500,
}
WORDLESS = ("empty", "blank", "zero width", "control characters", "private use")


def encoded(picture: Pillow.Image, form: str, **options: object) -> bytes:
    file = BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def pictures() -> Iterator[tuple[str, bytes]]:
    noise = np.random.default_rng(0).integers(0, 256, (64, 48, 4), dtype=np.uint8)
    yield "1x1", encoded(Pillow.new("RGB", (1, 1), "red"), "PNG")
    yield "grey, 2000x3", encoded(Pillow.new("L", (2000, 3), 128), "JPEG")
    yield "CMYK", encoded(Pillow.fromarray(noise, "CMYK"), "JPEG")
    yield "RGBA, all transparent", encoded(Pillow.new("RGBA", (64, 64), (0, 0, 0, 0)), "PNG")
    yield "palette", encoded(Pillow.fromarray(noise[..., :3]).quantize(7), "PNG", transparency=0)
    frames = [Pillow.new("P", (40, 40), shade) for shade in range(5)]
    yield "animated", encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    sixteen = np.linspace(0, 65_535, 50 * 60, dtype=np.uint16).reshape(50, 60)
    yield "16-bit", encoded(Pillow.fromarray(sixteen), "PNG")


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return load(MODEL)


@pytest.fixture(scope="module")
def posts() -> list[Post]:
    safe: list[tuple[Image, ...]] = [(), *((make_safe(data),) for _, data in pictures())]
    return [
        Post(id=f"hostile:{number}", source="hostile", created_at=NOW, ingested_at=NOW, text=text, images=images)
        for number, (text, images) in enumerate(product(TEXTS.values(), safe))
    ]


def assert_valid(scores: Scores) -> None:
    for distribution in (scores.fused, scores.text, scores.image):
        if distribution is not None:
            assert sum(distribution) == pytest.approx(1) and min(distribution) >= 0
    assert 1 / 3 - 1e-9 <= scores.confidence <= 1


def test_two_hundred_hostile_posts_get_valid_distributions(predictor: Predictor, posts: list[Post]) -> None:
    assert len(posts) == 200
    refused = []
    for post in posts:
        try:
            assert_valid(predictor.predict([predictor.prepare(post)])[0])
        except Unscorable:
            refused.append(post)
    # Without a picture and without a word there is nothing to tell from: a counted dead letter, not a guess.
    assert {post.text for post in refused} <= {TEXTS[name] for name in WORDLESS}
    assert not any(post.images for post in refused)


def test_hostile_posts_do_not_change_each_other(predictor: Predictor, posts: list[Post]) -> None:
    with_picture = [post for post in posts[::3] if post.images]
    examples = [example for example in map(predictor.prepare, with_picture) if example.lane == "both"]
    assert len(examples) > 30
    for example, among_others in zip(examples, predictor.predict(examples), strict=True):
        np.testing.assert_allclose(predictor.predict([example])[0].fused, among_others.fused, atol=1e-4)
