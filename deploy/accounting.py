"""Every record a replay sent, looked for among the results, and the results drained to a file meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from deploy.errors import StackFailed
from deploy.settings import masked
from inference_worker.contract import Results, UnknownNamespace

if TYPE_CHECKING:
    from dashboard.predictions import PredictionsFile
    from ingest.report import IngestReport

STALL_S: Final = 180.0
"""Longer than any pause that ends by itself: a killed worker's partitions are handed on after 60 s at most."""
POLL_S: Final = 0.25
TELL_S: Final = 2.0
SETTLED: Final = ("scored", "duplicates", "stale", "edits", "deletions", "dead_letters")
"""Counters a record ends in, each record in exactly one. `redelivered` is no end: the record was counted before."""

T = TypeVar("T")

log = logging.getLogger(__name__)


def settled(counts: dict[str, int]) -> int:
    return sum(counts.get(name, 0) for name in SETTLED)


@dataclass(frozen=True, kw_only=True)
class Account:
    """What was read, and where it ended. `seconds` from the first record sent to the last one accounted for."""

    report: IngestReport
    counts: dict[str, int]
    seconds: float

    @property
    def lost(self) -> int:
        """Read, not skipped with a reason, and found nowhere; below zero would mean counted twice."""
        return self.report.read + self.report.copies - sum(self.report.skipped.values()) - settled(self.counts)

    def as_dict(self) -> dict[str, Any]:
        found = settled(self.counts)
        return {
            "posts_read": self.report.read,
            "duplicates": self.counts.get("duplicates", 0),
            "predictions": self.counts.get("scored", 0) + self.counts.get("edits", 0),
            "lost": self.lost,
            "dead_letters": self.counts.get("dead_letters", 0),
            "redelivered": self.counts.get("redelivered", 0),
            "skipped": self.report.skipped,
            "failed": self.report.failed,
            "warnings": self.report.warnings,
            "seconds": round(self.seconds, 3),
            "throughput_posts_per_s": round(found / self.seconds, 1) if self.seconds else None,
            "namespace": self.report.namespace,
            "run": self.report.run,
        }


class Ledger:
    """Follows one run in Redis. `idle_s`: how long it waited in vain at the end, not part of the run."""

    def __init__(self, redis_url: str, namespace: str, predictions: Path) -> None:
        from redis import Redis  # slow to load, as pyarrow below: not at the command's start

        self.idle_s = 0.0
        self._redis_url = redis_url
        self._results = Results(Redis.from_url(redis_url), namespace)
        self._predictions = predictions
        self._sent = 0
        self._is_final = False

    def expect(self, sent: int, *, final: bool = False) -> None:
        """So many records are in Kafka; `final` says that no more will come."""
        self._sent, self._is_final = sent, final

    async def workers(self) -> int:
        return len(await self._ask(self._results.workers))

    def model(self) -> str:
        return self._results.meta().model

    async def follow(self, run: str) -> dict[str, int]:
        """Returns the run's counters when all was sent and is settled, or nothing moves for STALL_S.

        Results of an earlier run into this namespace that nobody drained come along into the file.
        """
        from dashboard.predictions import PredictionsFile

        loop = asyncio.get_running_loop()
        moved_at = told_at = loop.time()
        before = told = 0
        with PredictionsFile(self._predictions) as file:
            while True:
                counts = await self._ask(lambda: self._look(run, file))
                now, found = loop.time(), settled(counts)
                if found != before or found >= self._sent:  # waiting for the source is no stall
                    before, moved_at = found, now
                if now - told_at >= TELL_S:
                    log.info(
                        "%d of %d sent are scored, %.0f posts/s", found, self._sent, (found - told) / (now - told_at)
                    )
                    told, told_at = found, now
                if self._is_final and (found >= self._sent or now - moved_at >= STALL_S):
                    self.idle_s = now - moved_at
                    await self._ask(lambda: self._drain(file))
                    return counts
                await asyncio.sleep(POLL_S)

    async def _ask(self, question: Callable[[], T]) -> T:
        """In a thread. Raises StackFailed when Redis is lost: what was drained last may then be in the file twice."""
        from redis.exceptions import RedisError

        try:
            return await asyncio.to_thread(question)
        except RedisError as error:
            raise StackFailed(
                f"Redis at {masked(self._redis_url)} was lost on the way ({error}): replay again"
            ) from error

    def _look(self, run: str, file: PredictionsFile) -> dict[str, int]:
        try:
            counts = self._results.counters(run)
        except UnknownNamespace:
            return {}  # the worker has not written yet
        self._drain(file)
        return counts

    def _drain(self, file: PredictionsFile) -> None:
        for prediction in self._results.drain_results():
            file.write(prediction)
