"""How long after a fault all that had been told by then, in every partition, was counted in Redis."""

from __future__ import annotations

import asyncio
import statistics
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from inference_worker.contract import Keys

POLL_S: Final = 0.1


class Recoveries:
    """Waits for the last post told of each partition: an end-to-end measure, from the source to the store."""

    def __init__(self, redis_url: str, namespace: str) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self._redis: Any = Redis.from_url(redis_url, socket_timeout=2, socket_connect_timeout=2)
        self._keys = Keys(namespace, 0)
        self._waiting: list[asyncio.Task[None]] = []

    def begin(self, fault: str, post_ids: Iterable[str]) -> None:
        """A fault of that name happens now."""
        self._waiting.append(asyncio.create_task(self._until_counted(fault, [*post_ids])))

    async def finished(self, timeout_s: float) -> int:
        """How many faults were not recovered from in that time."""
        _, pending = await asyncio.wait(self._waiting, timeout=timeout_s) if self._waiting else (set(), set())
        for task in pending:
            task.cancel()
        await self._redis.aclose()
        return len(pending)

    def summary(self) -> dict[str, dict[str, float]]:
        return {
            fault: {
                "count": len(seconds),
                "median_s": round(statistics.median(seconds), 1),
                "max_s": round(max(seconds), 1),
            }
            for fault, seconds in sorted(self.seconds.items())
        }

    async def _until_counted(self, fault: str, post_ids: list[str]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        keys = [self._keys.receipt(post_id) for post_id in post_ids]
        while keys:
            await asyncio.sleep(POLL_S)
            try:
                receipts = await self._redis.mget(keys)
            except (RedisError, OSError):
                continue
            keys = [key for key, receipt in zip(keys, receipts, strict=True) if receipt is None]
        self.seconds[fault].append(loop.time() - began)
