"""How long a server asks to be left alone, in the ways servers say it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

MAX_RETRY_AFTER_S: Final = 3600.0
EPOCH_S: Final = 1e9
"""A larger number is no wait but a time, in seconds since 1970."""


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds the server asks to wait, as a number, a time or a date, at most an hour; None if it does not ask."""
    for name in ("retry-after", "x-ratelimit-reset"):
        if value := headers.get(name):
            seconds = _seconds_until(value)
            if seconds is not None:
                return min(max(0.0, seconds), MAX_RETRY_AFTER_S)
    return None


def _seconds_until(value: str) -> float | None:
    with suppress(ValueError):
        seconds = float(value)
        if seconds > EPOCH_S:
            seconds -= datetime.now(UTC).timestamp()
        return seconds if seconds == seconds else None
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        with suppress(ValueError, TypeError):
            at = parse(value)
            return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds()
    return None
