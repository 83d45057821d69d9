"""Words in pictures: what the look for lettering passes, what the reader reads, and what each costs.

Memes are tweets drawn over MVSA's pictures. CPU times are means in milliseconds, of one core.

    python -m tests.benchmarks.words --texts tweet_sentiment.parquet --mvsa mvsa_single.parquet --json [--quick]
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, Final, TypeVar

import pyarrow.parquet as pq
from PIL import Image as Pillow

from ingest.contract import Image
from ingest.media.lettering import has_lettering
from ingest.media.ocr import WordReader
from ingest.media.sanitize import make_safe
from tests.ingest.memes import SIZE, meme, safe

VALIDATION: Final = ("val", "validation")
CAPTION_CHARS: Final = range(20, 90)
SOME: Final = 3
"""Words from which on a picture counts as one with words."""

T = TypeVar("T")


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows = [row for row in pq.read_table(path).to_pylist() if row["split"] in VALIDATION]
    random.Random(1).shuffle(rows)
    return rows


def captions(rows: list[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        words = [word for word in row["text"].split() if word.isascii() and not word.startswith(("@", "http"))]
        if len(" ".join(words)) in CAPTION_CHARS:
            yield " ".join(words)


def captioned(caption: str, picture: bytes) -> Image:
    words = caption.split()
    half = (len(words) + 1) // 2
    background = Pillow.open(BytesIO(picture)).convert("RGB").resize(SIZE)
    return safe(meme(" ".join(words[:half]), " ".join(words[half:]), picture=background))


def words_in(text: str) -> Counter[str]:
    return Counter(re.findall(r"[a-z0-9']+", text.lower()))


def timed(work: Callable[[Image], T], images: list[Image]) -> tuple[list[T], float]:
    began = time.process_time()
    found = [work(image) for image in images]
    return found, 1000 * (time.process_time() - began) / max(1, len(images))


def measure(texts: Path, mvsa: Path, count: int) -> dict[str, Any]:
    reader = WordReader()
    pictures = [row["image"] for row in rows_of(mvsa)[:count]]
    said = [caption for caption, _ in zip(captions(rows_of(texts)), pictures, strict=False)]
    memes = [captioned(caption, picture) for caption, picture in zip(said, pictures, strict=False)]
    photos = [make_safe(picture) for picture in pictures]
    read, read_ms = timed(lambda image: reader.read(image.jpeg).words, memes)
    in_photos, photo_ms = timed(lambda image: reader.read(image.jpeg).words, photos)
    memes_pass, look_ms = timed(lambda image: has_lettering(image.jpeg), memes)
    photos_pass = [has_lettering(image.jpeg) for image in photos]
    has_words = [len(words_in(words)) >= SOME for words in in_photos]
    wanted = [words_in(caption) for caption in said]
    found = sum((want & words_in(got)).total() for want, got in zip(wanted, read, strict=True))
    return {
        "pictures": len(photos),
        "word_recall": found / sum(want.total() for want in wanted),
        "read_meme_cpu_ms": read_ms,
        "read_photo_cpu_ms": photo_ms,
        "look_cpu_ms": look_ms,
        "memes_passed": sum(memes_pass) / len(memes),
        "photos_passed": sum(photos_pass) / len(photos),
        "photos_with_words_passed": _share(photos_pass, has_words),
        "photos_without_words_passed": _share(photos_pass, [not words for words in in_photos]),
    }


def _share(passed: list[bool], of: list[bool]) -> float:
    return sum(one and among for one, among in zip(passed, of, strict=True)) / max(1, sum(of))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, required=True, help="Parquet of tweets")
    parser.add_argument("--mvsa", type=Path, required=True, help="Parquet of MVSA-Single")
    parser.add_argument("--json", action="store_true", help="print one JSON object last on standard output")
    parser.add_argument("--quick", action="store_true", help="under a minute")
    arguments = parser.parse_args()
    result = measure(arguments.texts, arguments.mvsa, 40 if arguments.quick else 200)
    for name, value in result.items():
        print(f"{name:30}{value:10.3f}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
