"""How fast posts went through, by the clock on the wall: the one part of a judgement no second run repeats exactly."""

from __future__ import annotations

from typing import Final

import numpy as np

from dashboard.evaluation.feed import Feed
from dashboard.evaluation.judgement import Performance, Stage
from dashboard.evaluation.prequential import moment

PERCENTILES: Final = (50, 95, 99, 100)
HOUR_S: Final = 3_600


def performance(feed: Feed) -> Performance:
    whole, is_timed = feed.scored_ms - feed.ingested_ms, feed.computed_ms >= 0
    stages = [_stage("ingest to score", whole)]
    if is_timed.any():
        queued, computed = feed.queued_ms[is_timed], feed.computed_ms[is_timed]
        before = np.maximum(whole[is_timed] - queued - computed, 0)  # times are rounded to the millisecond each
        stages += [
            _stage("of it in Kafka and being prepared", before),
            _stage("waiting for the engine", queued),
            _stage("in the engine, with its batch", computed),
        ]
    if not len(feed):
        return Performance(
            stages=stages,
            first_scored_at=None,
            last_scored_at=None,
            throughput_posts_per_s=None,
            posts_per_machine_hour=None,
        )
    first, last = feed.scored_ms.min(), feed.scored_ms.max()
    throughput = float(len(feed) / (last - first) * 1000) if last > first else None
    return Performance(
        stages=stages,
        first_scored_at=moment(first),
        last_scored_at=moment(last),
        throughput_posts_per_s=throughput,
        posts_per_machine_hour=throughput * HOUR_S if throughput is not None else None,
    )


def _stage(name: str, milliseconds: np.ndarray) -> Stage:
    p50, p95, p99, longest = (
        np.percentile(milliseconds, PERCENTILES).tolist() if len(milliseconds) else [None] * len(PERCENTILES)
    )
    return Stage(name=name, rows=len(milliseconds), p50_ms=p50, p95_ms=p95, p99_ms=p99, max_ms=longest)
