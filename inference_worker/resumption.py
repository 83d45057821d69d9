"""Where a worker takes a partition up: at what Kafka's group has committed, or earlier if Redis has less than that."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from faust.types import TP
from redis.exceptions import RedisError

from inference_worker.errors import StoreUnavailable
from inference_worker.marks import Standing
from inference_worker.stats import Stats
from inference_worker.store import Store

logger = logging.getLogger(__name__)

TIMEOUT_S: Final = 5.0
"""A rebalance does not wait any longer for Redis."""


class Resumption(NamedTuple):
    """offset: of the first record to read; again: how many from there on are committed; gap: how many before it are
    not in Redis, and no longer in Kafka; is_anew: mark and committed offset are of an older topic of this name."""

    offset: int
    again: int = 0
    gap: int = 0
    is_anew: bool = False

    @property
    def is_back(self) -> bool:
        """It is not at what the group has committed."""
        return bool(self.again or self.gap or self.is_anew)


def resumption(committed: int | None, begin: int, standings: Sequence[tuple[int | None, bool]]) -> Resumption:
    """Of one partition; committed, begin: offsets next to read, and of the first record Kafka has.

    standings: mark and whether there are results, by shard. Without a mark a shard has applied nothing; but one with
    results is of a version that made no marks, and is taken at the group's word.
    """
    if committed is None:
        return Resumption(begin)
    known = [mark + 1 if mark is not None else committed if has_results else 0 for mark, has_results in standings]
    wanted = min(committed, *known)
    offset = max(wanted, begin)
    return Resumption(offset, max(0, committed - offset), offset - wanted)


class Resuming:
    """Finds where to go on, and keeps Redis informed of how far it is. Its errors are told, not raised."""

    def __init__(self, store: Store, stats: Stats) -> None:
        self._store, self._stats = store, stats

    @property
    def topic(self) -> str | None:
        """Whose partitions were assigned last."""
        return self._store.marks.topic

    async def mark(self, committing: Mapping[TP, int]) -> bool:
        """Of offsets that are about to be committed; False if they must not be."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._store.mark({tp.partition: offset - 1 for tp, offset in committing.items()})
        except (RedisError, OSError, TimeoutError) as error:
            self._store.retries += 1
            logger.warning("Redis does not note what is applied (%s): nothing is committed", error)
            return False

    async def find(
        self, committed: Mapping[TP, int | None], begins: Mapping[TP, int], topic: str | None = None
    ) -> dict[TP, Resumption]:
        """Of every partition; at the committed offset while Redis is away, which is made up for when it is back.

        topic: Kafka's id of the one they are of, where known.
        """
        tps = sorted(committed)
        self._store.marks.topic = topic or self.topic
        try:
            async with asyncio.timeout(TIMEOUT_S):
                standings = await self._store.standing([tp.partition for tp in tps])
                found = _resumptions(tps, committed, begins, standings)
                gaps = sum(one.gap for one in found.values())
                await self._store.settle_gaps({tp.partition: one.offset - 1 for tp, one in found.items()}, gaps)
        except (StoreUnavailable, RedisError, OSError, TimeoutError) as error:
            self._store.marks.has_forgotten = True  # for all anybody knows
            logger.warning("Redis does not tell what is applied (%s): going on at what is committed", error)
            return {}
        self._tell(found)
        return found

    def _tell(self, found: Mapping[TP, Resumption]) -> None:
        if anew := sorted(tp for tp, one in found.items() if one.is_anew):
            told = (
                "topic %s was made anew: partitions %s are read from their beginning; what was not read before is gone"
            )
            logger.warning(told, anew[0].topic, ", ".join(str(tp.partition) for tp in anew))
        for tp, (offset, again, gap, _) in found.items():
            if again:
                logger.warning("partition %d: %d records from %d on are applied again", tp.partition, again, offset)
            if gap:
                told = "partition %d: %d records before %d are not in Redis, and Kafka no longer has them: raise its"
                logger.error(f"{told} retention.ms above the longest outage", tp.partition, gap, offset)
            self._stats.applied_again += again
            self._stats.gap += gap


def _resumptions(
    tps: Sequence[TP], committed: Mapping[TP, int | None], begins: Mapping[TP, int], standings: Sequence[Standing]
) -> dict[TP, Resumption]:
    found = {}
    for index, tp in enumerate(tps):
        if any(index in one.older for one in standings):
            found[tp] = Resumption(begins[tp], gap=begins[tp], is_anew=True)
        else:
            shards = [(one.marks[index], one.has_results) for one in standings]
            found[tp] = resumption(committed[tp], begins[tp], shards)
    return found
