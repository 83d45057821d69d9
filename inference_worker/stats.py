"""A worker's own account of itself over the last minute."""

from __future__ import annotations

import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from inference_worker.batcher import Batch
from inference_worker.contract import WorkerState

WINDOW_S = 60.0


class Stats:
    """Counts what passes; `state` sums up the last WINDOW_S seconds. Called from one event loop."""

    def __init__(self, *, name: str, model: str, engine: str, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.name, self.model, self.engine = name, model, engine
        self.started_at = datetime.now(UTC)
        self.written = 0
        self._clock_s = clock_s
        self._started_s = clock_s()
        self._latencies: deque[tuple[float, array[float]]] = deque()  # (when, ms each): a minute may be 400,000 posts
        self._batches: deque[tuple[float, int, int, int, float]] = deque()  # (when, items, tokens, padded, busy s)

        self._pictures: deque[tuple[float, int, int]] = deque([(self._started_s, 0, 0)])  # (when, known, all so far)

    def batch_done(self, batch: Batch[Any], busy_s: float) -> None:
        self._batches.append((self._clock_s(), len(batch.items), batch.tokens, batch.padded_tokens, busy_s))

    def posts_written(self, latencies_ms: Sequence[float]) -> None:
        now = self._clock_s()
        self.written += len(latencies_ms)
        self._latencies.append((now, array("f", latencies_ms)))

    def state(
        self, *, queue_age_s: float, lag: int | None, known_pictures: int = 0, new_pictures: int = 0
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
        )

    def _known_pictures(self, now: float, known: int, new: int) -> float | None:
        """Share of those of the last WINDOW_S seconds."""
        self._pictures.append((now, known, known + new))
        while len(self._pictures) > 1 and self._pictures[1][0] <= now - WINDOW_S:
            self._pictures.popleft()
        _, known_before, seen_before = self._pictures[0]
        seen = known + new - seen_before
        return (known - known_before) / seen if seen else None
