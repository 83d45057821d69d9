"""Which stretch of a namespace's clock a view covers, and in which bins it is drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from inference_worker.contract import BUCKET_S, Level

from .errors import InvalidView
from .reading import UTC_NAME

ALL_TIME: Final = "all"
WINDOWS: Final[dict[str, timedelta | None]] = {
    "10m": timedelta(minutes=10),
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    ALL_TIME: None,
}
LABELS: Final = {
    "10m": "10 min",
    "1h": "1 hour",
    "6h": "6 hours",
    "24h": "24 hours",
    "7d": "7 days",
    ALL_TIME: "All",
}
BEFORE: Final = {
    "10m": "the 10 min before",
    "1h": "the hour before",
    "6h": "the 6 hours before",
    "24h": "the day before",
    "7d": "the week before",
}
SAME: Final = {
    "10m": "the same 10 min yesterday",
    "1h": "the same hour yesterday",
    "6h": "the same 6 hours yesterday",
    "24h": "the same day last week",
}
"""A second stretch to compare with: moods have a daily and a weekly tide."""
CHOSEN: Final = "chosen"
"""The window of a frame that a link's `from` and `to` give."""
DEFAULTS: Final = {"live": "1h", "sample": "10m", "replay": ALL_TIME}


class Bins(NamedTuple):
    """Rollup level to read, and the width its buckets are joined into."""

    level: Level
    width_s: int

    @property
    def buckets(self) -> int:
        """So many of the rollup's buckets make a bin."""
        return self.width_s // BUCKET_S[self.level]


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
_LOCAL_S: Final = range(3 * 3600, 86_400 + 1)
"""Widths of bins that begin with a reader's day: longer ones are of UTC's days, shorter ones begin with an hour."""
_LONGEST: Final = timedelta(days=21 * 365)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A window placed on the clock: whole bins with start <= bin < end; the last one is still filling.

    before, same: starts of the stretches of equal length it is compared with, just before it and a tide before it;
    None where there is none. zone: whose days the bins begin with; one may be an hour longer or shorter there.
    """

    window: str
    start: datetime
    end: datetime
    before: datetime | None
    bins: Bins
    same: datetime | None = None
    zone: str = UTC_NAME

    @property
    def count(self) -> int:
        return len(self.starts)

    def filled(self, clock: datetime) -> float:
        """Share of the stretch the clock has passed: less than all of it, as the last bin still fills."""
        return min(max((clock - self.start) / (self.end - self.start), 0.01), 1.0)

    @cached_property
    def starts(self) -> list[datetime]:
        """Start of every bin."""
        return _starts(self.start, self.end, self.bins.width_s, self.zone)

    @property
    def ends(self) -> list[datetime]:
        """End of every bin."""
        return [*self.starts[1:], self.end]

    @property
    def edges(self) -> list[int]:
        """First of the rollup's buckets of every bin, counted from the start."""
        bucket = timedelta(seconds=BUCKET_S[self.bins.level])
        return [(start - self.start) // bucket for start in self.starts]

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


def zone_of(window: str, zone: str) -> str:
    """The zone itself if the window's bins may begin with its days, else UTC: readers of all zones share a picture."""
    span = WINDOWS.get(window)
    return zone if span is None or bins_of(span).width_s in _LOCAL_S else UTC_NAME


def frame(window: str, clock: datetime, first: datetime | None = None, zone: str = UTC_NAME) -> Frame:
    """Place a window so that it ends with the bin `clock` falls into.

    first: earliest bucket there is, at the finest level known; only `all` needs it.
    """
    span = WINDOWS[check_window(window)]
    if span is None:
        return _covering(window, first or clock, clock, bins_of(clock - (first or clock)), zone)
    placed = _covering(window, clock, clock, bins_of(span), zone)
    end = placed.end
    tide = timedelta(days=7 if window == "24h" else 1)
    same = end - span - tide if window in SAME else None
    return replace(placed, start=end - span, before=end - 2 * span, same=same)


def between(start: datetime, end: datetime, zone: str = UTC_NAME) -> Frame:
    """The whole bins that cover start <= time < end. Raises InvalidView."""
    if not timedelta(0) < end - start <= _LONGEST:
        raise InvalidView(f"from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}: end later, by at most 21 years")
    return _covering(CHOSEN, start, end - timedelta(microseconds=1), bins_of(end - start), zone)


def _covering(window: str, first: datetime, last: datetime, bins: Bins, zone: str) -> Frame:
    """From the bin one moment falls into to the bin another does: bins of the zone's days where the rollups allow.

    They do not where a day begins between two hours, as a zone's at half past, and not for bins of several days.
    """
    if zone != UTC_NAME and bins.width_s in _LOCAL_S:
        day = timedelta(days=1)
        begin, end = _local_floor(first, bins.width_s, zone), _local_floor(last + day, bins.width_s, zone) + day
        starts = _starts(begin, end, bins.width_s, zone)
        if all(start.timestamp() % BUCKET_S["hour"] == 0 for start in starts):
            after = next(start for start in starts if start > last)
            hours = Bins("hour", bins.width_s)
            return Frame(window=window, start=begin, end=after, before=None, bins=hours, zone=zone)
    end = _floor(last, bins.width_s) + timedelta(seconds=bins.width_s)
    return Frame(window=window, start=_floor(first, bins.width_s), end=end, before=None, bins=bins)


def _starts(start: datetime, end: datetime, width_s: int, zone: str) -> list[datetime]:
    """Where bins begin, from one moment to another, the first at once; in a zone by its walls' clocks."""
    width = timedelta(seconds=width_s)
    if zone == UTC_NAME:
        return [start + width * number for number in range((end - start) // width)]
    found, wall = [start], _local_floor(start, width_s, zone).astimezone(ZoneInfo(zone))
    while (at := wall.astimezone(UTC)) < end:
        if at > found[-1]:  # the clock may skip a bin whole, as Samoa's skipped a day
            found.append(at)
        wall += width  # on the wall, whatever hours that takes
    return found


def _local_floor(at: datetime, width_s: int, zone: str) -> datetime:
    """Start of the bin a moment falls into, counted from the zone's midnight."""
    local = at.astimezone(ZoneInfo(zone))
    hours = width_s // 3600
    start = local.replace(hour=local.hour // hours * hours, minute=0, second=0, microsecond=0, fold=0)
    return start.astimezone(UTC)


def _floor(at: datetime, width_s: int) -> datetime:
    seconds = int(at.timestamp())
    return datetime.fromtimestamp(seconds - seconds % width_s, UTC)


assert all(bins.width_s % BUCKET_S[bins.level] == 0 for _, bins in _LADDER)
