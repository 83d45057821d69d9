"""When to ask for a post again, to see whether it was edited or deleted: soon at first, then ever less often."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

FIRST_S: Final = 300.0
LAST_S: Final = 48 * 3600.0
MAX_WATCHED: Final = 50_000


class Check(NamedTuple):
    """A post that is due; `round` counts how often it was asked for before."""

    due_at: float
    name: str
    round: int


class Rechecks:
    """Posts under watch: each is due after FIRST_S, then when it is twice as old, until it is LAST_S old.

    Beyond `limit` those asked for most often leave first; `dropped` counts them.
    """

    def __init__(self, limit: int = MAX_WATCHED) -> None:
        self._limit = limit
        # One queue a round: waits are alike in it, so what came first is due first.
        self._rounds: list[deque[Check]] = []
        while FIRST_S * (1 << len(self._rounds)) <= LAST_S:
            self._rounds.append(deque())
        self.dropped = 0

    def __len__(self) -> int:
        return sum(map(len, self._rounds))

    def watch(self, name: str, now: float) -> None:
        self._rounds[0].append(Check(now + FIRST_S, name, 0))
        while len(self) > self._limit:
            next(queue for queue in reversed(self._rounds) if queue).popleft()
            self.dropped += 1

    def due(self, now: float, count: int) -> list[Check]:
        """At most `count` that are due, no longer watched until given to `checked` or `failed`."""
        found: list[Check] = []
        for queue in self._rounds:
            while queue and queue[0].due_at <= now and len(found) < count:
                found.append(queue.popleft())
        return found

    def checked(self, check: Check, now: float) -> None:
        """It is still there: due again when twice as old."""
        later = check.round + 1
        if later < len(self._rounds):
            self._rounds[later].append(Check(now + FIRST_S * (1 << check.round), check.name, later))

    def failed(self, check: Check) -> None:
        """Could not be asked: stays due."""
        self._rounds[check.round].appendleft(check)
