"""When was it posted? From a tweet id, or from the many ways a column may write a time."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final, NamedTuple

SNOWFLAKE_EPOCH_MS: Final = 1_288_834_974_657
FIRST_SNOWFLAKE: Final = 29_700_859_247
"""The first tweet id with a time in it, of 4 November 2010; smaller ids were counted up from 1."""
MAX_DIGITS: Final = 19
MAX_TIME_CHARS: Final = 64
MAX_ZONE_ERROR: Final = timedelta(hours=26)
"""No local time is further from UTC than this; an id and a column that differ by more are not of one tweet."""

_FORMATS: Final = (
    "%a %b %d %H:%M:%S %z %Y",  # X API v1.1
    "%m/%d/%Y %H:%M",
    "%m/%d/%Y %H:%M:%S",
    "%m/%d/%y %H:%M",
    "%Y/%m/%d %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%d.%m.%Y %H:%M:%S",
)


class EventTime(NamedTuple):
    """An event time, and what was odd about finding it."""

    at: datetime
    warning: str | None = None


def snowflake_time(tweet_id: str) -> datetime | None:
    """UTC time inside a tweet id; None for ids from before November 2010 and for what is no tweet id."""
    digits = tweet_id.strip().strip("'\"")
    if (
        not (digits.isascii() and digits.isdigit() and len(digits) <= MAX_DIGITS)
        or not FIRST_SNOWFLAKE <= int(digits) < 1 << 63
    ):
        return None
    at = datetime.fromtimestamp(((int(digits) >> 22) + SNOWFLAKE_EPOCH_MS) / 1000, UTC)
    return at if at <= datetime.now(UTC) + timedelta(days=1) else None


@lru_cache(maxsize=8192)  # archives are sorted more or less, and often to the minute: their times repeat
def parse_time(text: str) -> datetime | None:
    """A time in ISO 8601, epoch seconds or milliseconds, RFC 2822 or a common local form; naive if it names no zone."""
    text = text.strip()
    with suppress(ValueError, OverflowError, OSError):
        return _epoch_time(float(text))
    with suppress(ValueError):
        return datetime.fromisoformat(text)
    for form in _FORMATS:
        with suppress(ValueError):
            return datetime.strptime(text, form)  # noqa: DTZ007  # a local time stays naive, event_time() says so
    with suppress(ValueError, TypeError):
        return parsedate_to_datetime(text)
    return None


def event_time(tweet_id: str, column: str | None) -> EventTime | None:
    """The time in the id wins over the column's, which may be local; None if neither tells a time."""
    from_id = snowflake_time(tweet_id)
    from_column = parse_time(column) if column and len(column) <= MAX_TIME_CHARS else None
    if from_column is None:
        return EventTime(from_id) if from_id else None
    zoned = from_column if from_column.tzinfo else from_column.replace(tzinfo=UTC)
    if from_id is not None and abs(from_id - zoned) <= MAX_ZONE_ERROR:
        return EventTime(from_id)
    warning = None if from_column.tzinfo else "time without a zone taken as UTC"
    try:
        return EventTime(zoned.astimezone(UTC), warning)
    except OverflowError:  # the year 1 or 9999, which its zone pushes out of the calendar
        return EventTime(from_id) if from_id else None


def _epoch_time(number: float) -> datetime:
    """Raises ValueError for numbers that are no time since 1980 in seconds or milliseconds."""
    seconds = number / 1000 if number > 1e11 else number
    if not 315_532_800 <= seconds < 1e11:
        raise ValueError("not an epoch time")
    return datetime.fromtimestamp(seconds, UTC)
