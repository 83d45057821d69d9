"""What all live sources share: how they say how they are, when they try again, and where their secrets come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

import msgspec

from ingest.errors import BadCredentials

LIVE: Final = ("bluesky", "x", "mastodon", "reddit", "rss")
"""Names of the sources without end; `bluesky` is opened by `open_bluesky` of ingest.sources.bluesky, and so on."""

Phase = Literal["connecting", "live", "waiting", "stopped"]

UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError)
"""What bytes from outside raise on being read: wrong, not UTF-8, nested a thousand deep, dates out of the calendar."""
MAX_AGE: Final = timedelta(hours=48)
MAX_AHEAD: Final = timedelta(minutes=5)


@dataclass(slots=True)
class SourceState:
    """How a live source is: `detail` is one line for a person ("connected to host", "HTTP 503, again in 10 s").

    lag_s: age of the newest event when it came; reconnects: connections after the first; rate_limits: answers that we
    ask too often; gaps: stretches the upstream could not give again, in words; skipped: events that make no item of
    their own, by reason (likes, heartbeats).
    """

    phase: Phase = "connecting"
    detail: str = ""
    events: int = 0
    reconnects: int = 0
    rate_limits: int = 0
    lag_s: float | None = None
    gaps: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Seconds to wait before each attempt after the first: `first`, then + `step` or x `factor`, up to `ceiling`."""

    first: float
    ceiling: float
    factor: float = 1.0
    step: float = 0.0

    def waits(self) -> Iterator[float]:
        wait = self.first
        while True:
            yield wait
            wait = min(self.ceiling, wait * self.factor + self.step)


def clamped(created_at: datetime, ingested_at: datetime) -> tuple[datetime, datetime | None]:
    """Event time within [ingested - 48 h, + 5 min], and the original where it was outside: authors set their clocks."""
    at = min(max(created_at, ingested_at - MAX_AGE), ingested_at + MAX_AHEAD)
    if at == created_at:
        return at, None
    try:
        return at, created_at.astimezone(UTC)
    except OverflowError:  # the year 1 or 9999, which its zone pushes out of the calendar
        return at, created_at.replace(tzinfo=UTC)


def secret(environ: Mapping[str, str], name: str, *, where: str) -> str:
    """A credential from the variable `name`, or from the file that `name`_FILE names; `where` says how to get one.

    Raises BadCredentials naming the variables, never a value.
    """
    value = environ.get(name, "").strip()
    if not value and (file := environ.get(f"{name}_FILE")):
        try:
            value = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadCredentials(f"{name}_FILE names {file}, which cannot be read ({error}): {where}") from error
    if not value:
        raise BadCredentials(f"{name} is not set: {where}, then set {name} or let {name}_FILE name a file with it")
    return value
