"""A worker's own account of itself: since its start for Prometheus, over the last minute for the dashboard."""

from __future__ import annotations

import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from inference_worker.batcher import Batch
from inference_worker.contract import WorkerState
from inference_worker.histogram import Histogram

WINDOW_S = 60.0
LATENCY_BOUNDS_S = (0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800)
"""From a post scored alone on an idle machine to half an hour behind."""
BATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Stats:
    """Counts what passes; `state` sums up the last WINDOW_S seconds. Called from one event loop.

    Since the start. written, abstained: posts; since_ingested, since_created: seconds until a post was in Redis;
    dead_letters: by kind of failure; shed: posts left unscored, by reason; batch_sizes, tokens, padded_tokens, busy_s:
    of batches the engine did; applied_again, gap: see `Resumption`.
    """

    def __init__(self, *, name: str, model: str, engine: str, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.name, self.model, self.engine = name, model, engine
        self.started_at = datetime.now(UTC)
        self.written = self.abstained = 0
        self.applied_again = self.gap = 0
        self.since_ingested, self.since_created = Histogram(LATENCY_BOUNDS_S), Histogram(LATENCY_BOUNDS_S)
        self.dead_letters: Counter[str] = Counter()
        self.shed: Counter[str] = Counter()
        self.batch_sizes = Histogram(BATCH_BOUNDS)
        self.tokens = self.padded_tokens = 0
        self.busy_s = 0.0
        self._clock_s = clock_s
        self._started_s = clock_s()
        self._latencies: deque[tuple[float, array[float]]] = deque()  # (when, ms each): a minute may be 400,000 posts
        self._batches: deque[tuple[float, int, int, int, float]] = deque()  # (when, items, tokens, padded, busy s)

        self._pictures: deque[tuple[float, int, int]] = deque([(self._started_s, 0, 0)])  # (when, known, all so far)

    def batch_done(self, batch: Batch[Any], busy_s: float) -> None:
        items, tokens, padded_tokens = len(batch.items), batch.tokens, batch.padded_tokens
        self._batches.append((self._clock_s(), items, tokens, padded_tokens, busy_s))
        self.batch_sizes.add((items,))
        self.tokens += tokens
        self.padded_tokens += padded_tokens
        self.busy_s += busy_s

    def posts_written(self, latencies_ms: Sequence[float], ages_s: Sequence[float] = (), abstained: int = 0) -> None:
        """ages_s: of the same posts, since they were created."""
        now = self._clock_s()
        self.written += len(latencies_ms)
        self.abstained += abstained
        latencies = array("f", latencies_ms)
        self._latencies.append((now, latencies))
        self.since_ingested.add(np.frombuffer(latencies, np.float32) / 1000)
        self.since_created.add(ages_s)

    def state(
        self,
        *,
        queue_age_s: float,
        lag: int | None,
        known_pictures: int = 0,
        new_pictures: int = 0,
        behind_s: float = 0.0,
        sample: float = 1.0,
    ) -> WorkerState:
        """known_pictures, new_pictures: since the start; see `predictor.ImageCache`."""
        now = self._clock_s()
        for window in (self._latencies, self._batches):
            while window and window[0][0] < now - WINDOW_S:
                window.popleft()
        seconds = max(1.0, min(WINDOW_S, now - self._started_s))
        latencies = np.frombuffer(b"".join(ms for _, ms in self._latencies), np.float32)
        p50, p95, p99 = np.percentile(latencies, [50, 95, 99]).tolist() if len(latencies) else (0.0, 0.0, 0.0)
        items = sum(batch[1] for batch in self._batches)
        padded = sum(batch[3] for batch in self._batches)
        return WorkerState(
            name=self.name,
            model=self.model,
            engine=self.engine,
            started_at=self.started_at,
            updated_at=datetime.now(UTC),
            posts_per_s=len(latencies) / seconds,
            latency_p50_ms=p50,
            latency_p95_ms=p95,
            latency_p99_ms=p99,
            batch_size_mean=items / len(self._batches) if self._batches else 0.0,
            pad_waste=1 - sum(batch[2] for batch in self._batches) / padded if padded else 0.0,
            queue_age_ms=queue_age_s * 1000,
            engine_busy_share=min(1.0, sum(batch[4] for batch in self._batches) / seconds),
            lag=lag,
            known_pictures=self._known_pictures(now, known_pictures, new_pictures),
            behind_s=behind_s,
            sample=sample,
        )

    def _known_pictures(self, now: float, known: int, new: int) -> float | None:
        """Share of those of the last WINDOW_S seconds."""
        self._pictures.append((now, known, known + new))
        while len(self._pictures) > 1 and self._pictures[1][0] <= now - WINDOW_S:
            self._pictures.popleft()
        _, known_before, seen_before = self._pictures[0]
        seen = known + new - seen_before
        return (known - known_before) / seen if seen else None
