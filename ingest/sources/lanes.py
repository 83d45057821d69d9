"""Several connections or feeds read side by side: one sequence of items, one cursor, one state."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from ingest.errors import BadCredentials, SourceUnreachable
from ingest.sources.items import Draft, Item
from ingest.sources.live import Backoff, Phase, SourceState
from ingest.sources.patient_http import TryAgain

MAX_WAITING: Final = 256
"""Items read ahead of the service; beyond it nothing more is read, and the upstream feels it."""
FIRST_ATTEMPTS: Final = 6
"""So often every lane tries before an upstream that was never reached is given up."""
MAX_GAPS: Final = 100
STEADY_S: Final = 60.0
"""A connection that held so long, or gave an item, was a good one: the waits begin anew after it."""

Sleep = Callable[[float], Awaitable[None]]


class _Entry(NamedTuple):
    lane: Lane
    position: Any
    item: Item | None


class Lane:
    """One connection or feed, as the code reading it sees it.

    position: behind the item put last; JSON. phase, detail: how it is, for a person.
    """

    def __init__(self, lanes: Lanes, name: str, position: Any) -> None:
        self.name, self.position = name, position
        self.phase: Phase = "connecting"
        self.detail = ""
        self.failures = 0
        self.is_reached = False
        self.has_answered = False
        self._lanes = lanes
        self._is_lost = False
        self._has_read = False
        self._live_at = 0.0

    async def put(self, item: Item | None, position: Any = None) -> None:
        """Hands an item on, waiting while the service is behind; None moves the position alone."""
        if position is not None:
            self.position = position
        self._has_read = self._has_read or item is not None
        await self._lanes.queue.put(_Entry(self, position, item))

    def answered(self) -> None:
        """The upstream took a connection."""
        if self._is_lost:
            self._lanes.state.reconnects += 1
        self.is_reached, self.has_answered, self._is_lost = True, True, False

    def live(self, detail: str) -> None:
        """What comes from now on is of now."""
        self._live_at = asyncio.get_running_loop().time()
        self.say("live", detail)

    def say(self, phase: Phase, detail: str) -> None:
        self.phase, self.detail = phase, detail
        self._lanes.tell()

    def lost(self) -> bool:
        """The connection is lost; was it a good one?"""
        was_steady = self.phase == "live" and asyncio.get_running_loop().time() - self._live_at >= STEADY_S
        was_good = was_steady or self._has_read
        self._has_read, self._is_lost = False, self.is_reached
        return was_good

    def gap(self, what: str) -> None:
        """Notes a stretch that could not be read."""
        gaps = self._lanes.state.gaps
        if (told := f"{self.name}: {what}") not in gaps:
            gaps.append(told)
            del gaps[:-MAX_GAPS]


Reader = Callable[[Lane], Awaitable[None]]
"""Reads a lane until there is a reason to read it anew; raises TryAgain if that needs a wait."""


class LaneEnded(Exception):
    """There is nothing more to read in this lane, ever; its text says why."""


class Lanes:
    """Reads all lanes at once, each with its own position and its own waits, and keeps `state` true."""

    def __init__(self, state: SourceState, *, backoff: Backoff, sleep: Sleep, cursor: str | None) -> None:
        self.state = state
        self.queue: asyncio.Queue[_Entry | Exception] = asyncio.Queue(MAX_WAITING)
        self._backoff, self._sleep = backoff, sleep
        self._positions = self._positions_in(cursor)
        self._lanes: list[Lane] = []

    @property
    def cursor(self) -> str | None:
        """Positions of all lanes behind the item yielded last."""
        return json.dumps(self._positions, separators=(",", ":")) if self._positions else None

    def _positions_in(self, cursor: str | None) -> dict[str, Any]:
        try:
            positions = json.loads(cursor) if cursor else {}
        except ValueError:
            positions = None
        if not isinstance(positions, dict):
            self.state.gaps.append("the position of the last run cannot be read: this run starts at now")
            return {}
        return positions

    async def read(self, readers: Mapping[str, Reader], *, aside: Reader | None = None) -> AsyncGenerator[Item, None]:
        """Items of all lanes as they come. `aside` reads beside them, and does not count for how the source is.

        Raises what a reader raises beside TryAgain (and BadCredentials, where the same were good before), and
        SourceUnreachable if no lane was reached or all have ended.
        """
        self.queue = asyncio.Queue(MAX_WAITING)
        self._positions = {name: position for name, position in self._positions.items() if name in readers}
        self._lanes = [Lane(self, name, self._positions.get(name)) for name in readers]
        self.tell()
        tasks = [asyncio.create_task(self._keep_reading(lane, readers[lane.name])) for lane in self._lanes]
        if aside is not None:
            tasks.append(asyncio.create_task(self._keep_reading(Lane(self, "aside", None), aside)))
        try:
            while True:
                entry = await self.queue.get()
                if isinstance(entry, Exception):
                    raise entry
                if entry.position is not None:
                    self._positions[entry.lane.name] = entry.position
                if entry.item is not None:
                    self._count(entry.item)
                    yield entry.item
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.state.phase = "stopped"

    def _count(self, item: Item) -> None:
        self.state.events += 1
        if isinstance(item, Draft) and not item.post.revision:
            created_at = item.post.original_created_at or item.post.created_at
            self.state.lag_s = (datetime.now(UTC) - created_at).total_seconds()

    async def _keep_reading(self, lane: Lane, reader: Reader) -> None:
        try:
            waits = self._backoff.waits()
            while True:
                try:
                    await reader(lane)
                    lane.failures = 0
                    continue
                except TryAgain as trouble:
                    problem, after_s = trouble.problem, trouble.after_s or 0.0
                    lane.is_reached = lane.is_reached or trouble.is_there
                    self.state.rate_limits += trouble.is_rate_limit
                except BadCredentials as refused:
                    if not self._was_let_in(lane):
                        raise
                    problem, after_s = str(refused), 0.0  # it may pass; if not, the remedy is told all the while
                if lane.lost():
                    waits, lane.failures = self._backoff.waits(), 0
                lane.failures += 1
                wait_s = max(next(waits), after_s)
                lane.say("waiting", f"{problem}, again in {wait_s:.0f} s")
                self._give_up_if_never_reached()
                await self._sleep(wait_s)
        except LaneEnded as end:
            lane.say("stopped", str(end))
            if all(other.phase == "stopped" for other in self._lanes):
                await self.queue.put(SourceUnreachable(f"nothing is left to read: {self.state.detail}"))
        except Exception as error:
            await self.queue.put(error)

    def _was_let_in(self, lane: Lane) -> bool:
        """Did the upstream take these credentials in this run? Those of the reader aside are every lane's."""
        return lane.has_answered or (lane not in self._lanes and any(other.has_answered for other in self._lanes))

    def _give_up_if_never_reached(self) -> None:
        if all(lane.failures >= FIRST_ATTEMPTS and not lane.is_reached for lane in self._lanes):
            what = "; ".join(f"{lane.name}: {lane.detail.partition(', again in')[0]}" for lane in self._lanes[:3])
            raise SourceUnreachable(
                f"tried {FIRST_ATTEMPTS} times without success ({what}): check the address and the network"
            )

    def tell(self) -> None:
        """Sums the lanes up in `state`."""
        phases = [lane.phase for lane in self._lanes]
        for phase in ("live", "waiting", "connecting", "stopped"):
            if phase in phases:
                self.state.phase = phase
                break
        troubles = [f"{lane.name}: {lane.detail or lane.phase}" for lane in self._lanes if lane.phase != "live"]
        well = phases.count("live")
        reading = f"{well} of {len(phases)} live" if len(phases) > 1 else "".join(lane.detail for lane in self._lanes)
        self.state.detail = "; ".join([reading, *troubles[:3]]) if len(phases) > 1 else reading
