"""A feed for the pages that show posts: a swing that has a cause, marks, heat maps, authors and shared pictures."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from math import exp

import msgspec

from inference_worker.contract import Prediction
from tests.dashboard.seeding import feed

BROKEN = (
    "Overhead line down at Mill Street, line 9 stands still again #line9 😡",
    "Forty minutes at Mill Street and no tram. No announcement either #line9",
    "Broken overhead line, walking to work in the rain 😡 thanks for nothing",
    "Line 9 out of service until noon, replacement buses are full",
)
CALM = (
    "Line 9 on time for once, what a morning ☀️",
    "The new coffee at Bluebird made my week",
    "Quiet ride on line 9 today, found a seat 🙂",
    "Orbit One ships in May, says the shop on Mill Street",
    "Flat white and a window seat, life is good ☕",
)


def evidence_feed(count: int = 500, *, until: datetime, span: timedelta = timedelta(hours=2)) -> list[Prediction]:
    """The first half is calm; in the second the tram breaks down."""
    dice = random.Random(11)
    made = []
    for number, post in enumerate(feed(count, until=until, span=span)):
        is_broken = post.topics == ("Line 9 tram",) and number > count // 2
        text = dice.choice(BROKEN if is_broken else CALM) if post.text else ""
        fused = (0.06, 0.12, 0.82) if is_broken else post.probabilities
        made.append(
            msgspec.structs.replace(
                post,
                text=text,
                probabilities=fused,
                text_probabilities=fused if text else None,
                predicted="negative" if is_broken else post.predicted,
                confidence=max(fused),
                lang=dice.choices(("en", "de"), weights=(9, 1))[0],
                author=f"{dice.randrange(12 if is_broken else 200):04x}beef",
                reach=int(exp(dice.uniform(2, 11))),
                token_map=_weights(dice, text),
                image_hashes=(bytes(32),) if is_broken and post.images else (dice.randbytes(32),) * post.images,
                image_map=bytes(_heat(dice)) if post.images else b"",
                image_map_shape=(7, 7) if post.images else (0, 0),
            )
        )
    return made


def _weights(dice: random.Random, text: str) -> tuple[tuple[int, int, int], ...]:
    spans, place = [], 0
    for word in text.split(" "):
        spans.append((place, place + len(word), dice.choice((4, 10, 25, 60, 130, 255))))
        place += len(word) + 1
    return tuple(spans)


def _heat(dice: random.Random) -> list[int]:
    row, column = dice.uniform(1, 5), dice.uniform(1, 5)
    return [int(255 * exp(-((n // 7 - row) ** 2 + (n % 7 - column) ** 2) / 3)) for n in range(49)]
