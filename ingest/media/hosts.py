"""How each media host is treated: a few requests at once, and a rest when it fails or asks for one."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

FAILURES: Final = 5
"""So many failures in a row, and the host is left alone for a while."""
FIRST_REST_S: Final = 30.0
MAX_REST_S: Final = 600.0
ASKED_REST_S: Final = 60.0
"""For a host that says it is asked too much, but not for how long to stay away."""
MAX_HOSTS: Final = 1024
"""More than any list of hosts names; one under which anybody may open others must not fill the memory."""


class Host:
    """One host: `slots` for requests at a time, and a circuit breaker.

    After a rest the host is tried again; if it fails still, the next rest is twice as long.
    """

    def __init__(self, at_once: int, clock: Callable[[], float]) -> None:
        self.slots = asyncio.Semaphore(at_once)
        self._clock = clock
        self._failures = 0
        self._rests = 0
        self._resting_until = 0.0

    @property
    def is_resting(self) -> bool:
        return self._clock() < self._resting_until

    def answered(self) -> None:
        self._failures = self._rests = 0

    def failed(self, rest_s: float | None = None) -> None:
        """rest_s: for how long the host itself asked to be left alone."""
        self._failures += 1
        if rest_s is not None:
            self._resting_until = max(self._resting_until, self._clock() + min(rest_s, MAX_REST_S))
        elif self._failures >= FAILURES and not self.is_resting:  # requests begun before the rest fail within it
            self._resting_until = self._clock() + min(MAX_REST_S, FIRST_REST_S * 2**self._rests)
            self._rests += 1


class Hosts:
    """The hosts asked of late."""

    def __init__(self, *, at_once: int, clock: Callable[[], float]) -> None:
        self._at_once, self._clock = at_once, clock
        self._hosts: OrderedDict[str, Host] = OrderedDict()

    def __getitem__(self, name: str) -> Host:
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = Host(self._at_once, self._clock)
            if len(self._hosts) > MAX_HOSTS:
                self._hosts.popitem(last=False)
        self._hosts.move_to_end(name)
        return host

    def resting(self) -> list[str]:
        return [name for name, host in self._hosts.items() if host.is_resting]
