"""Where the records of a run go: to Kafka (`ingest.producer`) or into an archive (`ingest.recording.recorder`)."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from ingest.contract import Record
from ingest.producer import Settled


class Sink(Protocol):
    """sent: records that are safe there; failed: records refused, by reason; waited_s: how long `send` was held up;
    copies: records beyond the first that authors' deletions became, one per partition."""

    sent: int
    copies: int
    failed: Counter[str]
    waited_s: float

    @property
    def silent_s(self) -> float: ...

    async def send(self, record: Record, settled: Settled | None = None, *, number: int | None = None) -> None:
        """number: of the item in its archive, where the source is one."""

    async def flush(self) -> None: ...
