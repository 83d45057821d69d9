"""The mixed feed of the worker's benchmark: what every system is given, made once and kept in a file.

Seven posts in ten are text alone; of those with a picture one in ten has no text. One picture in ten was in the feed
before. Texts are those of a Parquet file (`text` column; tweets), or made up with the lengths of such tweets.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import pyarrow.parquet as pq
from PIL import Image as Pillow

from ingest.contract import Image, Post
from tests.benchmarks.media import photo

PICTURE_SHARE: Final = 0.3
TEXTLESS_SHARE: Final = 0.1
"""Of the posts with a picture."""
REPEATED_SHARE: Final = 0.1
"""Of the pictures."""
REMEMBERED: Final = 100
"""A repeated picture is one of so many before it."""
KEPT_SIZE: Final = (341, 256)
"""Of a picture of 4:3 as ingest sends it."""
WORDS_BY_PERCENT: Final = ((0, 1), (5, 11), (10, 13), (20, 15), (30, 17), (40, 19), (50, 20), (60, 21), (70, 22),
                           (80, 24), (90, 25), (95, 27), (100, 35))  # fmt: skip
"""Words in a text of the SemEval tweets, by quantile; half as many tokens again."""
WORDS: Final = ("the", "tram", "is", "late", "again", "my", "coffee", "was", "lovely", "but", "this", "new", "phone",
                "really", "annoys", "me", "@user", "#monday", "unbelievable", "announcement", "sooo", "happy",
                "2morrow", "we'll", "see", "…", "!!")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kind:
    """What a post of the mix has."""

    has_text: bool
    has_picture: bool
    is_repeated: bool = False


def draw_kinds(count: int, chance: random.Random) -> Iterator[Kind]:
    """The mix, drawn post by post."""
    for _ in range(count):
        has_picture = chance.random() < PICTURE_SHARE
        yield Kind(
            has_text=not has_picture or chance.random() >= TEXTLESS_SHARE,
            has_picture=has_picture,
            is_repeated=has_picture and chance.random() < REPEATED_SHARE,
        )


def made_up_text(chance: random.Random) -> str:
    """As long as a tweet of WORDS_BY_PERCENT."""
    percents, words = zip(*WORDS_BY_PERCENT, strict=True)
    length = max(1, round(float(np.interp(chance.uniform(0, 100), percents, words))))
    return " ".join(chance.choices(WORDS, k=length))


class Pictures:
    """Pictures as ingest sends them, cut from one made-up photograph, each with noise of its own.

    Their perceptual hashes are left empty: the worker only passes them on.
    """

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._source = Pillow.fromarray(photo())
        self._made: list[Image] = []

    def draw(self, *, is_repeated: bool) -> Image:
        if is_repeated and self._made:
            return self._chance.choice(self._made[-REMEMBERED:])
        width = self._chance.randint(KEPT_SIZE[0], self._source.width)
        height = width * KEPT_SIZE[1] // KEPT_SIZE[0]
        left = self._chance.randint(0, self._source.width - width)
        top = self._chance.randint(0, self._source.height - height)
        out = BytesIO()
        cut = self._source.resize(KEPT_SIZE, Pillow.Resampling.BILINEAR, (left, top, left + width, top + height))
        cut.save(out, "JPEG", quality=85)
        jpeg = out.getvalue()
        image = Image(jpeg=jpeg, sha256=sha256(jpeg).digest(), phash=b"", width=1200, height=900)
        self._made.append(image)
        return image


def make(count: int, texts: Sequence[str] | None, *, seed: int = 7) -> list[Post]:
    """So many posts of the mix; ids and times are set again when they are sent."""
    chance = random.Random(seed)
    pictures = Pictures(chance)
    now = datetime.now(UTC)
    posts = []
    for number, kind in enumerate(draw_kinds(count, chance)):
        text = (chance.choice(texts) if texts is not None else made_up_text(chance)) if kind.has_text else ""
        images = (pictures.draw(is_repeated=kind.is_repeated),) if kind.has_picture else ()
        posts.append(
            Post(id=f"bench:{number}", source="bench", created_at=now, ingested_at=now, text=text, images=images)
        )
    return posts


def tweets(path: Path) -> list[str]:
    """Texts of a Parquet file."""
    texts: list[str] = pq.read_table(path, columns=["text"])["text"].to_pylist()
    return texts


def write(path: Path, posts: Sequence[Post]) -> None:
    path.write_bytes(msgspec.msgpack.encode(posts))


def read(path: Path, first: int, count: int) -> list[Post]:
    """A stretch of a feed's file, which begins again at its end: a worker's cache has lost its pictures by then.

    Ids tell the place, so that no post comes twice.
    """
    posts = msgspec.msgpack.decode(path.read_bytes(), type=list[Post])
    return [
        msgspec.structs.replace(posts[place % len(posts)], id=f"bench:{place}") for place in range(first, first + count)
    ]
