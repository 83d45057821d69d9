"""From the outbox to the sinks: in order, until a sink acknowledges, and ever less often while it does not."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Mapping
from typing import Final

from .errors import NotDelivered
from .ledger import Ledger
from .sinks import Notification, Sink

BACKOFF_S: Final = (1.0, 300.0)
"""First and longest wait after a refusal; doubled each time, with jitter."""

log = logging.getLogger(__name__)


class Delivery:
    """Sends what waits. A sink that refuses holds up its own notifications only, so each sink keeps their order."""

    def __init__(self, ledger: Ledger, sinks: Mapping[str, Sink]) -> None:
        self.ledger, self.sinks = ledger, sinks
        self.refusals = dict.fromkeys(sinks, 0)
        self.not_before = dict.fromkeys(sinks, 0.0)
        self.given_up = 0

    async def send_waiting(self) -> int:
        """One round over the outbox; how many were acknowledged. Redis errors pass through."""
        waiting = await asyncio.to_thread(self.ledger.undelivered)
        sent = await asyncio.gather(
            *(self._send(name, [one for one in waiting if one.sink == name]) for name in self.sinks)
        )
        return sum(sent)

    async def _send(self, name: str, waiting: list[Notification]) -> int:
        sent = 0
        for notification in waiting:
            if time.monotonic() < self.not_before[name]:
                return sent
            try:
                await self.sinks[name].send(notification)
            except NotDelivered as error:
                if error.retry_after_s is not None:
                    self._hold_up(name, error)
                    return sent
                self.given_up += 1
                log.error("sink %s refuses alert %r for good (%s): given up", name, notification.alert.id, error)
            else:
                self.refusals[name] = 0
                sent += 1
            await asyncio.to_thread(self.ledger.delivered, notification)
        return sent

    def _hold_up(self, name: str, error: NotDelivered) -> None:
        first, longest = BACKOFF_S
        wait_s = min(first * 2 ** min(self.refusals[name], 20), longest) * random.uniform(0.5, 1.0)
        wait_s = max(wait_s, error.retry_after_s or 0.0)
        self.refusals[name] += 1
        self.not_before[name] = time.monotonic() + wait_s
        log.warning("sink %s did not take an alert (%s): again in %.1f s", name, error, wait_s)
