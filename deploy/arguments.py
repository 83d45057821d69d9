"""Option types of the `moodstream` command; what does not fit is named with its value."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime


def port(text: str) -> int:
    """A TCP port one can listen on."""
    return _whole(text, 1, 65_535)


def workers(text: str) -> int:
    """A number of worker processes."""
    return _whole(text, 1, 64)


def limit(text: str) -> int:
    """How many to show."""
    return _whole(text, 1, 1_000_000)


def moment(text: str) -> datetime:
    """An ISO 8601 time; without an offset it is UTC."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no ISO 8601 time, for example 2013-04-15T18:49Z") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _whole(text: str, least: int, most: int) -> int:
    if not text.isdecimal() or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} to {most}")
    return int(text)
