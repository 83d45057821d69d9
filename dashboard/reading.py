"""How numbers and times are written for one reader: their language's marks, their time zone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from .errors import InvalidView

_MINUS: Final = "\N{MINUS SIGN}"
_THIN: Final = "\N{NARROW NO-BREAK SPACE}"


class Marks(NamedTuple):
    """What separates thousands and decimals."""

    thousands: str
    decimal: str


NUMBERS: Final = {"en": Marks(",", "."), "de": Marks(".", ","), "fr": Marks(_THIN, ",")}
"""By the link's word for them; `en` needs none."""
NUMBER_LABELS: Final = {name: f"1{marks.thousands}234{marks.decimal}5" for name, marks in NUMBERS.items()}
UTC_NAME: Final = "UTC"


@lru_cache(maxsize=1)
def zones() -> tuple[str, ...]:
    """All IANA names, UTC first."""
    return (UTC_NAME, *sorted(available_timezones() - {UTC_NAME}))


@dataclass(frozen=True)
class Reading:
    """Writes what a page shows. Hashable, so that a spec of a chart is built once for each."""

    zone: str = UTC_NAME
    numbers: str = "en"

    def __post_init__(self) -> None:
        """Raises InvalidView for a zone or a way of numbers nobody knows."""
        if self.numbers not in NUMBERS:
            raise InvalidView(f"numbers {self.numbers!r} are none of {', '.join(NUMBERS)}: choose one of these")
        if self.zone not in zones():
            raise InvalidView(f"zone {self.zone!r} is no IANA time zone: name one such as Europe/Berlin")

    @property
    def marks(self) -> Marks:
        return NUMBERS[self.numbers]

    def number(self, value: float, decimals: int = 0) -> str:
        """`1,234.5`, with this reader's marks."""
        plain = f"{value:,.{decimals}f}".replace("-", _MINUS)
        return plain.translate({ord(","): self.marks.thousands, ord("."): self.marks.decimal})

    def signed(self, value: float) -> str:
        """Two decimals with a sign, a true minus, and no sign at zero."""
        sign = "+" if round(value, 2) > 0 else ""
        return sign + self.number(round(value, 2) or 0.0, 2)

    def compact(self, count: float) -> str:
        """1234 → `1,234`; 45678 → `45.7k`."""
        if count < 10_000:
            return self.number(count)
        return f"{self.number(count / 1000, 1)}k" if count < 1_000_000 else f"{self.number(count / 1_000_000, 1)}M"

    def percent(self, part: float, whole: float) -> str:
        """`12 %`; one decimal below 10 %, so that rare things do not read as none."""
        if not whole:
            return "\N{EN DASH}"
        share = 100 * part / whole
        return f"{self.number(share, int(0 < share < 10))} %"

    def latency(self, milliseconds: float) -> str:
        if milliseconds < 1000:
            return f"{self.number(milliseconds)} ms"
        return f"{self.number(milliseconds / 1000, 1)} s"

    def at(self, moment: datetime) -> datetime:
        """The same moment on this reader's clock."""
        return moment.astimezone(ZoneInfo(self.zone))

    def clock_time(self, moment: datetime) -> str:
        return f"{self.at(moment):%-d %b %Y, %H:%M} {self.zone_label(moment)}"

    def zone_label(self, moment: datetime) -> str:
        """`UTC`, `CEST`; `+03` where a zone has no letters of its own."""
        return self.at(moment).tzname() or self.zone


PLAIN: Final = Reading()


def duration(span: timedelta) -> str:
    """`12 s`, `4 min`, `3 h`, `2 d`."""
    seconds = max(int(span.total_seconds()), 0)
    for limit, unit, name in ((100, 1, "s"), (100 * 60, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds // unit} {name}"
    return f"{seconds // 86_400} d"


def iso(moment: datetime) -> str:
    """A moment as links carry it: ISO 8601 in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def moment_of(text: str, name: str) -> datetime:
    """What a link's `from` or `to` says. Raises InvalidView."""
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidView(f"{name} {text!r} is no time: write it as 2026-05-04T12:30:00Z") from error
