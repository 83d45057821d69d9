"""The clock of a replay: event time passes as fast as asked, stops while paused, and starts and ends where asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final

STEP_S: Final = 0.1
"""A pause counts after so long at most."""
LATE: Final = "late by the replay's clock"


class ReplayClock:
    """Lets event time pass `speed` times as fast as it did; None does not wait at all.

    start, end: event times the replay is of, from `start` up to but not including `end`; paused: asked now and then.
    read_before: so many items an earlier part of this replay has read; they pass at once, and the clock goes on from
    the last of them.
    Every wait is until a time reckoned from the first event, so that errors of waiting do not add up.
    """

    def __init__(
        self,
        speed: float | None = None,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        read_before: int = 0,
        paused: Callable[[], bool] = lambda: False,
    ) -> None:
        self._speed, self._start, self._end = speed, start, end
        self._read_before, self._paused = read_before, paused
        self._first: datetime | None = None
        self._latest: datetime | None = None
        self._began_s = self._looked_at_s = 0.0

    def covers(self, created_at: datetime) -> bool:
        """The event is of the stretch that is replayed."""
        return (self._start is None or created_at >= self._start) and (self._end is None or created_at < self._end)

    async def wait(self, created_at: datetime, number: int) -> bool:
        """Returns when item `number` of the archive is due, and whether it is late: earlier than one before it.

        At once for the first one and for late ones.
        """
        now_s = await self._unpaused()
        if self._speed is None:
            return False
        is_late = self._latest is not None and created_at < self._latest
        if not is_late:
            self._latest = created_at
        if self._first is None or number <= self._read_before:
            self._first, self._began_s = self._latest, now_s
            return is_late
        while not is_late:
            due_s = self._began_s + (created_at - self._first).total_seconds() / self._speed
            if due_s <= now_s:
                break
            await asyncio.sleep(min(due_s - now_s, STEP_S))
            now_s = await self._unpaused()
        return is_late

    async def _unpaused(self) -> float:
        """Now, once the replay is not paused; a pause takes no event time."""
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        if now_s - self._looked_at_s < STEP_S:
            return now_s
        while self._paused():  # noqa: ASYNC110  # a file is asked, which does not call back
            await asyncio.sleep(STEP_S)
        self._looked_at_s = loop.time()
        if self._looked_at_s - now_s >= STEP_S:
            self._began_s += self._looked_at_s - now_s
        return self._looked_at_s
