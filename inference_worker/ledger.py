"""Acknowledges Kafka records strictly in order: per partition, only the contiguous prefix that is done.

faust commits past an un-acknowledged record when a later one is acknowledged first, so nothing is ever
acknowledged out of order here, and a record that cannot be scored is set aside and then acknowledged too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

Partition = tuple[str, int]
"""Topic and partition number."""


class Ticket:
    """One record's place in the ledger."""

    __slots__ = ("acknowledge", "is_done", "is_revoked", "offset", "partition", "sent_at_s")

    def __init__(
        self, partition: Partition, offset: int, acknowledge: Callable[[], object], sent_at_s: float | None = None
    ) -> None:
        self.partition = partition
        self.sent_at_s = sent_at_s
        self.offset = offset
        self.acknowledge = acknowledge
        self.is_done = False
        self.is_revoked = False


class Ledger:
    """The records being worked on, in the order Kafka delivered them.

    Not thread-safe: all calls come from the worker's event loop.
    """

    def __init__(self) -> None:
        self._open: dict[Partition, deque[Ticket]] = {}
        self.acknowledged = 0
        self.revocations = 0

    def __len__(self) -> int:
        """Records entered and not yet acknowledged."""
        return sum(map(len, self._open.values()))

    def waiting_in(self, partition: Partition) -> int:
        """Records of one partition, entered and not yet acknowledged."""
        return len(self._open.get(partition, ()))

    def oldest_s(self, partition: Partition) -> float | None:
        """When the first record of a partition that is not acknowledged was sent to Kafka; None if none is open."""
        tickets = self._open.get(partition)
        return tickets[0].sent_at_s if tickets else None

    def enter(
        self,
        partition: Partition,
        offset: int,
        acknowledge: Callable[[], object],
        sent_at_s: float | None = None,
    ) -> Ticket:
        """Notes a delivered record; `acknowledge` is called once, when it and all before it are done.

        A partition that starts again at an earlier offset (its topic was recreated, say) is a new one: what is open
        of the old one will not be acknowledged.
        """
        tickets = self._open.setdefault(partition, deque())
        if tickets and offset <= tickets[-1].offset:
            self.revoke([partition])
            tickets = self._open[partition] = deque()
        ticket = Ticket(partition, offset, acknowledge, sent_at_s)
        tickets.append(ticket)
        return ticket

    def settle(self, settled: Iterable[Ticket]) -> int:
        """Marks records done and acknowledges every prefix that is now complete; returns how many.

        Records of a revoked partition are never acknowledged, also when the partition has come back meanwhile.
        """
        partitions = set()
        for ticket in settled:
            ticket.is_done = True
            if not ticket.is_revoked:
                partitions.add(ticket.partition)
        released = 0
        for partition in partitions:
            tickets = self._open[partition]
            while tickets and tickets[0].is_done:
                tickets.popleft().acknowledge()
                released += 1
        self.acknowledged += released
        return released

    def revoke(self, partitions: Iterable[Partition]) -> int:
        """Forgets partitions this worker lost; returns how many records were still open in them."""
        dropped = 0
        self.revocations += 1
        for partition in partitions:
            for ticket in self._open.pop(partition, ()):
                ticket.is_revoked = True
                dropped += 1
        return dropped
