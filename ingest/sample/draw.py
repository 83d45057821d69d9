"""Writes the sample feed from feed.txt and the drawings: `python -m ingest.sample.draw`.

All chance is seeded: the same texts and drawings give the same feed, but for JPEG bytes of another Pillow.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from ingest.authors import AuthorHash
from ingest.contract import Image, Label, Post
from ingest.media.sanitize import make_safe
from ingest.sample.scenes import describe, draw
from ingest.sources.archive import write_archive

HERE: Final = Path(__file__).parent
START: Final = datetime(2026, 11, 3, 7, 0, tzinfo=UTC)
PUBLIC_KEY: Final = b"the authors of the sample feed are invented"
AUTHORS: Final = 140
LABELS: Final[dict[str, Label]] = {"+": "positive", "0": "neutral", "-": "negative"}

_SECTION = re.compile(r"== (\w+) (\d+) (\d+)")
_POST = re.compile(r"([+0-])(?: ([a-z]{2}))?( !)? \| ?(.*?) ?\|(?: (.*))?")


class Line(NamedTuple):
    """One post of feed.txt."""

    minute: float
    label: Label
    lang: str
    sensitive: bool
    picture: str
    text: str


def main() -> None:
    """Writes posts.jsonl.zst beside this file."""
    write_archive(HERE / "posts.jsonl.zst", posts(HERE / "feed.txt"))


def posts(feed: Path) -> Iterator[Post]:
    """The feed in order of time."""
    chance = random.Random("authors")
    authors, hashed = _authors(chance), AuthorHash(PUBLIC_KEY)
    for number, line in enumerate(sorted(read_feed(feed), key=lambda line: line.minute)):
        handle, reach = chance.choice(authors)
        created_at = START + timedelta(seconds=round(line.minute * 60, 1))
        yield Post(
            id=f"sample:{number:04}",
            source="sample",
            created_at=created_at,
            ingested_at=created_at,
            text=line.text,
            lang=line.lang,
            author=hashed("sample", handle),
            reach=reach,
            url=f"https://example.org/posts/{number:04}",
            sensitive=line.sensitive,
            images=(picture(line.picture, seed=str(number)),) if line.picture else (),
            label=line.label,
        )


def read_feed(feed: Path) -> list[Line]:
    """Lines of feed.txt with their minute. Raises ValueError naming a line that is no post."""
    sections: list[tuple[float, float, list[re.Match[str]]]] = []
    for number, line in enumerate(feed.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        if section := _SECTION.fullmatch(line):
            sections.append((float(section[2]), float(section[3]), []))
        elif post := _POST.fullmatch(line):
            sections[-1][2].append(post)
        else:
            raise ValueError(f"{feed}, line {number}: not 'LABEL | PICTURE | TEXT': {line!r}")
    return [line for start, end, found in sections for line in _spread(start, end, found)]


def _spread(start: float, end: float, found: list[re.Match[str]]) -> Iterator[Line]:
    """In order, over the minutes of the section, but not like clockwork."""
    chance = random.Random(f"{start} {end} {len(found)}")
    step = (end - start) / max(1, len(found))
    for number, post in enumerate(found):
        minute = start + (number + chance.uniform(0.02, 0.98)) * step
        label, lang, sensitive, drawn, text = post.groups()
        yield Line(minute, LABELS[label], lang or "en", bool(sensitive), drawn, (text or "").strip())


def picture(drawn: str, *, seed: str) -> Image:
    """`scene mood` or `meme scene mood / TOP / BOTTOM` → image."""
    what, *captions = (part.strip() for part in drawn.split(" / "))
    scene, mood = what.removeprefix("meme ").split()
    both = (captions[0], captions[1]) if captions else None
    return make_safe(draw(scene, mood, seed, both), alt=describe(scene, mood, both))


def _authors(chance: random.Random) -> list[tuple[str, int]]:
    """Invented handles with their followers, few of whom have many."""
    return [(f"reader{number}", round(chance.lognormvariate(5.6, 1.5))) for number in range(AUTHORS)]


if __name__ == "__main__":
    main()
