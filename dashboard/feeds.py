"""What this process holds of a namespace, for all its viewers: its head, and its rollups as arrays.

A viewer who comes within a second of another is answered from memory. Of the rollups only the span the clock is in is
read anew each time; older ones may still change (late posts, edits, deletions, corrections) and take turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import RLock
from typing import Final

import numpy as np
import numpy.typing as npt
from redis import Redis

from inference_worker.contract import (
    ALL,
    BUCKET_S,
    SPAN_S,
    Counters,
    Level,
    Meta,
    Prediction,
    Results,
    WorkerState,
)

from .errors import DashboardError, NoResults
from .translation import translated

Sums = npt.NDArray[np.int64]
"""Counters per bucket or bin: (rows, fields of Counters)."""
TOPICS_READ: Final = 40
"""Where there are more topics, the others are read only when they are asked for."""
_RANKED_S: Final = 60.0
_RANKED_OVER: Final = timedelta(days=7)
FRESH_S: Final = 0.9
"""What is younger is not read again; a page refreshes every second or less often."""
COLD_S: Final = 20.0
"""An older span is read again after this long, one of them a call."""
_LATE: Final = timedelta(minutes=10)
_UNUSED_S: Final = 600.0
_LOOKBACK_SPANS: Final = 240
"""Day hashes searched for the first post: 21 years, older than any archive of posts."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """The small facts of a namespace."""

    meta: Meta
    clock: datetime
    topics: tuple[str, ...]
    counts: dict[str, int]
    workers: tuple[WorkerState, ...]
    read_at: datetime


@dataclass
class _Span:
    """One span's buckets of the topics read, and when."""

    read_s: float
    used_s: float
    sums: dict[str, Sums] = field(default_factory=dict)


class Feed:
    """A namespace's results, shared by threads. All methods raise DashboardError."""

    def __init__(
        self, redis: Redis, namespace: str, *, address: str, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.redis, self.namespace, self.address = redis, namespace, address
        self._monotonic = monotonic
        self._lock = RLock()
        self._failed: tuple[float, DashboardError] | None = None
        self._forget()

    def _forget(self) -> None:
        self.results: Results | None = None
        self._meta: Meta | None = None
        self._head: tuple[float, Head] | None = None
        self._ranked: tuple[float, tuple[str, ...]] | None = None
        self._first: tuple[float, datetime] | None = None
        self._spans: dict[tuple[Level, int], _Span] = {}

    def forget(self) -> None:
        """Read everything anew: something was changed on purpose, and is to be seen at once."""
        with self._lock:
            self._forget()

    def head(self) -> Head:
        """At most a second old."""
        with self._lock:
            now = self._monotonic()
            if self._head is not None and now - self._head[0] < FRESH_S:
                return self._head[1]
            if self._failed is not None and now - self._failed[0] < FRESH_S:
                raise self._failed[1]  # a store that hangs is asked once, not once a viewer
            try:
                head = self._read_head()
            except DashboardError as error:
                self._failed = (self._monotonic(), error)
                raise
            self._head, self._failed = (now, head), None
            return head

    def _read_head(self) -> Head:
        with translated(self.namespace, self.address):
            results = self.results or Results(self.redis, self.namespace)
            found = results.overview()
            if self._meta is not None and found.meta != self._meta:  # deleted, and filled by another run
                self._forget()
                results = Results(self.redis, self.namespace)
                found = results.overview()
            self.results, self._meta = results, found.meta
            if found.watermark is None:
                raise NoResults(self.namespace)
            return Head(
                meta=found.meta,
                clock=found.watermark,
                topics=tuple(found.topics),
                counts=found.counters,
                workers=tuple(found.workers),
                read_at=datetime.now(UTC),
            )

    def meta(self) -> Meta:
        """What the namespace is, also before its first post."""
        with translated(self.namespace, self.address):
            return Results(self.redis, self.namespace).meta()

    def open(self) -> Results:
        """The reader, which the head opened."""
        if self.results is None:
            self.head()
        assert self.results is not None
        return self.results

    def busiest(self) -> tuple[str, ...]:
        """All topics or, where they are too many, the TOPICS_READ of most posts in a week, ranked anew every minute."""
        with self._lock:
            topics, now = self.head().topics, self._monotonic()
            if len(topics) <= TOPICS_READ:
                return topics
            if self._ranked is None or now - self._ranked[0] > _RANKED_S:
                self._ranked = (now, self._rank(topics))
            return self._ranked[1]

    def _rank(self, topics: Sequence[str]) -> tuple[str, ...]:
        clock, results = self.head().clock, self.open()
        with translated(self.namespace, self.address):
            days = results.rollups(topics, "day", clock - _RANKED_OVER, clock + timedelta(seconds=1))
        posts = {topic: sum(counters.volume for counters in days[topic].values()) for topic in topics}
        return tuple(sorted(topics, key=lambda topic: (topic != ALL, -posts[topic], topic))[:TOPICS_READ])

    def first_post_at(self) -> datetime:
        """Start of the earliest hour (long archives: day) with a post; at most 15 s old, as it is a wide search."""
        with self._lock:
            now = self._monotonic()
            if self._first is None or now - self._first[0] > 15:
                self._first = (now, self._search_first())
            return self._first[1]

    def _search_first(self) -> datetime:
        clock, results = self.head().clock, self.open()
        after = clock + timedelta(seconds=1)
        with translated(self.namespace, self.address):
            longest = timedelta(seconds=SPAN_S["day"] * _LOOKBACK_SPANS)
            first = min(results.rollups([ALL], "day", clock - longest, after)[ALL], default=clock)
            if clock - first > timedelta(days=10):
                return first
            earliest = min(results.rollups([ALL], "hour", first, after)[ALL], default=clock)
            if clock - earliest > timedelta(hours=12):
                return earliest
            return min(results.rollups([ALL], "minute", earliest, after)[ALL], default=clock)

    def sums(
        self, topics: Sequence[str], level: Level, starts: Sequence[datetime], length: timedelta
    ) -> list[dict[str, Sums]]:
        """Counters per topic, for each of some stretches of equal length: a row per bucket, all buckets whole ones."""
        firsts = [int(start.timestamp()) for start in starts]
        seconds = int(length.total_seconds())
        spans = [range(first // SPAN_S[level], (first + seconds - 1) // SPAN_S[level] + 1) for first in firsts]
        with self._lock:
            self._renew(topics, level, sorted({number for numbers in spans for number in numbers}))
            return [
                {topic: self._cut(topic, level, numbers, first, seconds) for topic in topics}
                for numbers, first in zip(spans, firsts, strict=True)
            ]

    def _cut(self, topic: str, level: Level, numbers: range, first: int, seconds: int) -> Sums:
        joined = np.concatenate([self._spans[level, number].sums[topic] for number in numbers])
        skipped = (first - numbers.start * SPAN_S[level]) // BUCKET_S[level]
        return joined[skipped : skipped + seconds // BUCKET_S[level]]

    def _renew(self, topics: Sequence[str], level: Level, numbers: Sequence[int]) -> None:
        head = self.head()
        known = list(dict.fromkeys([ALL, *self.busiest(), *topics]))
        now = self._monotonic()
        warm = int((head.clock - _LATE).timestamp()) // SPAN_S[level]
        due, cold = [], []
        for number in numbers:
            span = self._spans.get((level, number))
            if span is None or not span.sums.keys() >= set(topics) or (number >= warm and now - span.read_s > FRESH_S):
                due.append(number)
            elif number < warm and now - span.read_s > COLD_S + number % 10:
                cold.append((span.read_s, number))
        due += [number for _, number in sorted(cold)[:1]]
        for stretch in _stretches(sorted(due)):
            self._read(known, level, stretch, now)
        for number in numbers:
            self._spans[level, number].used_s = now
        for key in [key for key, span in self._spans.items() if now - span.used_s > _UNUSED_S]:
            del self._spans[key]

    def _read(self, topics: Sequence[str], level: Level, numbers: range, now: float) -> None:
        """All spans of a stretch in one round trip."""
        length = SPAN_S[level] // BUCKET_S[level]
        begin = numbers.start * SPAN_S[level]
        start, end = (datetime.fromtimestamp(number * SPAN_S[level], UTC) for number in (numbers.start, numbers.stop))
        with translated(self.namespace, self.address):
            found = self.open().rollups(topics, level, start, end)
        spans = {number: _Span(read_s=now, used_s=now) for number in numbers}
        for topic, buckets in found.items():
            sums = np.zeros((len(numbers) * length, len(Counters._fields)), dtype=np.int64)
            if buckets:
                rows = [(int(at.timestamp()) - begin) // BUCKET_S[level] for at in buckets]
                sums[rows] = list(buckets.values())
            for place, number in enumerate(numbers):
                spans[number].sums[topic] = sums[place * length : (place + 1) * length]
        self._spans.update({(level, number): span for number, span in spans.items()})

    def latest(self, topics: Sequence[str], limit: int) -> tuple[Prediction, ...]:
        """Newest posts of the topics; of all posts if there is none, or `all` is one of them."""
        with translated(self.namespace, self.address):
            return tuple(self.open().tail(*(() if ALL in topics else topics), limit=limit))

    def pictures(self, images: Sequence[tuple[str, int]]) -> dict[tuple[str, int], bytes]:
        """JPEG per (post id, image index) asked for, as far as they are kept."""
        if not images:
            return {}
        with translated(self.namespace, self.address):
            found = self.open().thumbnails(images)
        return {image: jpeg for image, jpeg in zip(images, found, strict=True) if jpeg}


def _stretches(numbers: Sequence[int]) -> list[range]:
    """Sorted numbers → runs without a gap."""
    runs: list[range] = []
    for number in numbers:
        if runs and runs[-1].stop == number:
            runs[-1] = range(runs[-1].start, number + 1)
        else:
            runs.append(range(number, number + 1))
    return runs
