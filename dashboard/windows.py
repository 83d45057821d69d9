"""Which stretch of a namespace's clock a view covers, and in which bins it is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from inference_worker.contract import BUCKET_S, Level

from .errors import InvalidView

ALL_TIME: Final = "all"
WINDOWS: Final[dict[str, timedelta | None]] = {
    "10m": timedelta(minutes=10),
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "24h": timedelta(hours=24),
    ALL_TIME: None,
}
LABELS: Final = {"10m": "10 min", "1h": "1 hour", "6h": "6 hours", "24h": "24 hours", ALL_TIME: "All"}
BEFORE: Final = {
    "10m": "the 10 min before",
    "1h": "the hour before",
    "6h": "the 6 hours before",
    "24h": "the day before",
}
DEFAULTS: Final = {"live": "1h", "sample": "10m", "replay": ALL_TIME}


class Bins(NamedTuple):
    """Rollup level to read, and the width its buckets are joined into."""

    level: Level
    width_s: int


_LADDER: Final = (
    (timedelta(hours=2), Bins("minute", 60)),
    (timedelta(hours=13), Bins("minute", 300)),
    (timedelta(days=4), Bins("hour", 3600)),
    (timedelta(days=12), Bins("hour", 3 * 3600)),
    (timedelta(days=45), Bins("hour", 12 * 3600)),
    (timedelta(days=120), Bins("day", 86_400)),
    (timedelta(days=3 * 365), Bins("day", 7 * 86_400)),
)
"""At most about 150 bins: a line stays legible, a bin holds posts enough to mean something, a refresh is small."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A window placed on the clock: whole bins with start <= bin < end; the last one is still filling.

    before: start of the stretch of equal length it is compared with; None where nothing can lie before it.
    """

    window: str
    start: datetime
    end: datetime
    before: datetime | None
    bins: Bins

    @property
    def count(self) -> int:
        return int((self.end - self.start).total_seconds()) // self.bins.width_s

    @property
    def starts(self) -> list[datetime]:
        """Start of every bin."""
        return [self.start + timedelta(seconds=self.bins.width_s * number) for number in range(self.count)]

    @property
    def bin_label(self) -> str:
        """What one bin is: `per minute`, `per 6 hours`."""
        for width_s, unit in ((86_400, "day"), (3600, "hour"), (60, "minute")):
            if self.bins.width_s >= width_s:
                count = self.bins.width_s // width_s
                return f"per {unit}" if count == 1 else f"per {count} {unit}s"
        raise AssertionError("no bin is shorter than a minute")


def check_window(window: str) -> str:
    if window not in WINDOWS:
        raise InvalidView(f"window {window!r} is none of {', '.join(WINDOWS)}: choose one of these")
    return window


def bins_of(span: timedelta) -> Bins:
    """The finest bins that keep a span legible."""
    for longest, bins in _LADDER:
        if span <= longest:
            return bins
    return Bins("day", 28 * 86_400)


def frame(window: str, clock: datetime, first: datetime | None = None) -> Frame:
    """Place a window so that it ends with the bin `clock` falls into.

    first: earliest bucket there is, at the finest level known; only `all` needs it.
    """
    span = WINDOWS[check_window(window)]
    if span is None:
        bins = bins_of(clock - (first or clock))
        start = _floor(first or clock, bins.width_s)
        return Frame(window=window, start=start, end=_end(clock, bins), before=None, bins=bins)
    bins = bins_of(span)
    end = _end(clock, bins)
    return Frame(window=window, start=end - span, end=end, before=end - 2 * span, bins=bins)


def _end(clock: datetime, bins: Bins) -> datetime:
    return _floor(clock, bins.width_s) + timedelta(seconds=bins.width_s)


def _floor(at: datetime, width_s: int) -> datetime:
    seconds = int(at.timestamp())
    return datetime.fromtimestamp(seconds - seconds % width_s, UTC)


assert all(bins.width_s % BUCKET_S[bins.level] == 0 for _, bins in _LADDER)
