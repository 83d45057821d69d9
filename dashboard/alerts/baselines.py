"""Rollups → a topic's minutes as arrays, with zeros where nobody posted, and sums over any stretch of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import numpy as np
import numpy.typing as npt

from inference_worker.contract import BUCKET_S, SPAN_S, Counters, Level, Results

Ints = npt.NDArray[np.int64]

DAY: Final = 1440
WEEK: Final = 7 * DAY
PAST: Final = 12 * 60
"""The first baseline: minutes before the window."""
RECENT: Final = 3 * 60
"""The hours just before: what a slow climb explains is no spike."""
_LONGEST_WINDOW: Final = 240
_MARGIN: Final = PAST + _LONGEST_WINDOW
_LOOKBACK_SPANS: Final = 240
"""Day hashes searched for a topic's first post: 21 years."""


def at_minute(minute: int) -> datetime:
    """Minutes since the epoch → its time."""
    return datetime.fromtimestamp(minute * 60, UTC)


def minute_of(at: datetime) -> int:
    return int(at.timestamp()) // 60


class Minutes:
    """What a topic's minutes add up to around the minutes evaluated, also a day and a week before.

    Sums are differences of running totals, so a stretch costs the same at any length. start: the topic's first minute.
    """

    def __init__(self, first: int, last: int, start: int, buckets: dict[int, Counters]) -> None:
        self.start = start
        self._segments: list[tuple[int, int, Ints]] = []
        for low, high in segments(first, last):
            counts = np.zeros((high - low + 1, len(Counters._fields)), dtype=np.int64)
            for minute in range(max(low, start), high):
                if (counters := buckets.get(minute)) is not None:
                    counts[minute - low + 1] = counters
            self._segments.append((low, high, np.cumsum(counts, axis=0)))

    def total(self, begin: Ints, end: Ints, shift: int = 0) -> Ints:
        """Counters summed over [begin, end) each, `shift` (0, DAY or WEEK) minutes earlier: (len, fields)."""
        low, high, running = self._segments[(0, DAY, WEEK).index(shift)]
        begin, end = np.clip(begin - shift, low, high) - low, np.clip(end - shift, low, high) - low
        return np.asarray(running[end] - running[begin])


def segments(first: int, last: int) -> list[tuple[int, int]]:
    """The stretches of minutes that evaluating [first, last) needs: itself with the past, a day and a week before."""
    margin = _LONGEST_WINDOW + 60
    return [
        (first - _MARGIN, last + 1),
        (first - DAY - margin, last - DAY + 60),
        (first - WEEK - margin, last - WEEK + 60),
    ]


def read_minutes(
    results: Results, topics: list[str], first: int, last: int, starts: dict[str, int]
) -> dict[str, Minutes]:
    """All that evaluating the minutes [first, last) of these topics needs."""
    found: dict[str, dict[int, Counters]] = {topic: {} for topic in topics}
    oldest = min((starts[topic] for topic in topics), default=first)
    for low, high in segments(first, last):
        begin = max(low, oldest)
        if begin >= high:
            continue
        read = results.rollups(topics, "minute", at_minute(begin), at_minute(high))
        for topic, buckets in read.items():
            found[topic].update((minute_of(at), counters) for at, counters in buckets.items())
    return {topic: Minutes(first, last, starts[topic], found[topic]) for topic in topics}


def first_minute(results: Results, topic: str, clock: datetime) -> int | None:
    """The first minute with a post of the topic; None if there is none by `clock`."""
    end = datetime.fromtimestamp(clock.timestamp() + 1, UTC)
    begin = datetime.fromtimestamp(max(clock.timestamp() - SPAN_S["day"] * _LOOKBACK_SPANS, 0), UTC)
    levels: tuple[Level, ...] = ("day", "hour", "minute")
    for level in levels:
        buckets = results.rollups([topic], level, begin, end)[topic]
        posted = [at for at, counters in buckets.items() if counters.volume]
        if not posted:
            return None if level == "day" else minute_of(begin)
        begin = min(posted)
        end = min(end, datetime.fromtimestamp(begin.timestamp() + BUCKET_S[level], UTC))
    return minute_of(begin)
