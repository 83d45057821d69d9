"""Every record a replay sent, looked for among the results, and the results drained to files meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from deploy.errors import StackFailed
from inference_worker.contract import Results, UnknownNamespace
from inference_worker.redis_access import connect, masked, redis_refusal

if TYPE_CHECKING:
    from dashboard.parts import Parts
    from ingest.report import IngestReport

STALL_S: Final = 180.0
"""Longer than any pause that ends by itself: a killed worker's partitions are handed on after 60 s at most."""
POLL_S: Final = 0.25
ROWS_PER_PART: Final = 5_000
"""About 10 MB held at a time."""
CHANGED_LATER: Final = ("edits", "deletions", "forgotten")
"""Counters of what may concern a post after it was drained."""
SETTLED: Final = ("scored", "duplicates", "stale", "edits", "deletions", "dead_letters", "shed")
"""Counters a record ends in, each record in exactly one. `redelivered` is no end: the record was counted before."""

T = TypeVar("T")


def settled(counts: dict[str, int]) -> int:
    return sum(counts.get(name, 0) for name in SETTLED)


@contextmanager
def redis_needed(url: str, remedy: str = "go on with --resume") -> Iterator[None]:
    """Raises StackFailed when Redis is lost in the body; remedy: what to do once it is there again."""
    from redis.exceptions import RedisError  # slow to load: not at the command's start

    try:
        yield
    except RedisError as error:
        if (refused := redis_refusal(error)) is not None:
            raise StackFailed(f"Redis at {masked(url)} refuses: {refused.problem}: {refused.remedy}") from error
        raise StackFailed(f"Redis at {masked(url)} was lost on the way ({error}): start it and {remedy}") from error


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

    def check_drained(self, rows: int) -> None:
        """Raises StackFailed if there are fewer predictions than were scored and not deleted: a second replay into the
        namespace at the same time takes results away."""
        gone = self.counts.get("deletions", 0) + self.counts.get("forgotten", 0)
        missing = self.counts.get("scored", 0) - gone - rows
        if missing > 0:
            raise StackFailed(
                f"{missing} predictions of namespace {self.report.namespace!r} were drained by somebody else: "
                "let one replay at a time use a namespace, and replay anew into another --namespace"
            )

    def amiss(self, log_dir: Path, remedy: str) -> str:
        """Why it does not come out even, in one line; nothing if it does. remedy: how to go on."""
        read = f"of {self.report.read} posts"
        if self.lost < 0:
            return (
                f"{-self.lost} more results than there were posts to score: some are counted twice, so do not rely on "
                "these figures: see that nothing evicts keys from Redis (maxmemory-policy noeviction) and that nobody "
                "else sends to this namespace, then replay anew into another --namespace"
            )
        refused = sum(self.report.failed.values())
        found = []
        if refused:
            why = ", ".join(f"{count} x {reason}" for reason, count in sorted(self.report.failed.items()))
            found.append(
                f"{refused} {read} were refused by Kafka ({why}): let it take records of 1 MiB (message.max.bytes); "
                "what is larger cannot be replayed, so leave it out of the archive"
            )
        if self.lost > refused:
            found.append(
                f"{self.lost - refused} {read} are unaccounted for: nothing was scored for {STALL_S:.0f} s; see the "
                f"workers' logs in {log_dir}, then {remedy}"
            )
        return "; ".join(found)

    def withdrawn(self, rows: int) -> int:
        """Posts and revisions that are not among the `rows` to judge: superseded by a later revision, deleted, or of an
        author who was to be forgotten. (How many of them were scored before depends on how fast that went.)"""
        return max(0, sum(self.counts.get(name, 0) for name in ("scored", "edits", "stale")) - rows)

    def left_out(self) -> list[str]:
        """What was read and makes no post, a line for each reason with the first place of it."""
        places = self.report.samples
        return [
            f"left out: {count} x {reason}" + (f", first {places[reason][0]}" if places.get(reason) else "")
            for reason, count in sorted(self.report.skipped.items(), key=lambda one: (-one[1], one[0]))
        ]

    def as_dict(self, rows: int) -> dict[str, Any]:
        """For result.json; rows: predictions that are judged. What was read is those, and duplicates, withdrawn,
        deletions, dead letters, shed, skipped and lost."""
        found = settled(self.counts)
        return {
            "posts_read": self.report.read,
            "duplicates": self.counts.get("duplicates", 0),
            "predictions": self.counts.get("scored", 0) + self.counts.get("edits", 0),
            "withdrawn": self.withdrawn(rows),
            "deletions": self.counts.get("deletions", 0) - self.report.copies,
            "lost": self.lost,
            "dead_letters": self.counts.get("dead_letters", 0),
            "shed": self.counts.get("shed", 0),
            "redelivered": self.counts.get("redelivered", 0),
            "skipped": self.report.skipped,
            "failed": self.report.failed,
            "warnings": self.report.warnings,
            "samples": [
                {"reason": reason, "item": item} for reason, items in self.report.samples.items() for item in items
            ],
            "seconds": round(self.seconds, 3),
            "throughput_posts_per_s": round(found / self.seconds, 1) if self.seconds else None,
            "namespace": self.report.namespace,
            "run": self.report.run,
        }


class Ledger:
    """Follows one run in Redis, and drains the namespace's results into `parts`.

    found: records accounted for so far; idle_s: how long it waited in vain at the end, not part of the run.
    """

    def __init__(self, redis_url: str, namespace: str, parts: Parts) -> None:
        self.found = 0
        self.idle_s = 0.0
        self._redis_url = redis_url
        self._results = Results(connect(redis_url), namespace)
        self._parts = parts
        # One thread for all of it: the C library keeps an arena a thread, and each would grow to the size of a part.
        self._thread = ThreadPoolExecutor(1, "ledger")
        self._sent = 0
        self._is_final = False
        self._is_trimmed = False

    def expect(self, sent: int, *, final: bool = False) -> None:
        """So many records are in Kafka; `final` says that no more will come."""
        self._sent, self._is_final = sent, final

    async def workers(self) -> int:
        return len(await self._ask(self._results.workers))

    def model(self) -> str:
        return self._results.meta().model

    async def follow(self, run: str) -> dict[str, int]:
        """Returns the run's counters when all was sent and is settled, or nothing moves for STALL_S.

        Results of an earlier run into this namespace that nobody drained come along.
        """
        loop = asyncio.get_running_loop()
        moved_at = loop.time()
        before = 0
        while True:
            counts = await self._ask(lambda: self._look(run))
            now, self.found = loop.time(), settled(counts)
            moved = self.found + counts.get("redelivered", 0)  # what a resumed run sends again takes its time
            if moved != before or self.found >= self._sent:  # waiting for the source is no stall
                before, moved_at = moved, now
            if self._is_final and (self.found >= self._sent or now - moved_at >= STALL_S):
                self.idle_s = now - moved_at
                await self._ask(lambda: self._drain(at_least=1))
                return counts
            await asyncio.sleep(POLL_S)

    def withdrawn_of(self, counts: dict[str, int]) -> Callable[[Sequence[str]], set[str]]:
        """Which posts were deleted, for the merging of parts; it need not be asked where none can have been."""
        if not any(counts.get(name) for name in CHANGED_LATER):
            return lambda post_ids: set()
        return self._results.withdrawn

    async def _ask(self, question: Callable[[], T]) -> T:
        """In a thread. Raises StackFailed when Redis is lost."""
        with redis_needed(self._redis_url):
            return await asyncio.get_running_loop().run_in_executor(self._thread, question)

    def _look(self, run: str) -> dict[str, int]:
        try:
            counts = self._results.counters(run)
        except UnknownNamespace:
            return {}  # the worker has not written yet
        self._drain(at_least=ROWS_PER_PART)
        return counts

    def _drain(self, *, at_least: int) -> None:
        """Entries leave Redis only once their part is on the disk; what a crash left between the two leaves now."""
        shards = range(len(self._results.shards()))
        if not self._is_trimmed:
            for shard in shards:
                if (last_id := self._parts.last_id(shard)) is not None:
                    self._results.trim_results(shard, last_id)
            self._is_trimmed = True
        for shard in shards:
            while self._results.waiting_results(shard) >= at_least:
                entries = self._results.read_results(shard, ROWS_PER_PART)
                last_id = entries[-1][0]
                self._parts.write(shard, last_id, [prediction for _, prediction in entries])
                self._results.trim_results(shard, last_id)
