"""Log lines on stderr: plain for people, or one JSON object a line for machines (`MOODSTREAM_LOG=json`).

A line that is about one post says so by `extra=about(post_id)`, which plain lines leave out.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

FORMS: Final = ("plain", "json")
REPEATED_AFTER_S: Final = 5.0


def about(post_id: str | None) -> dict[str, Any]:
    """For the `extra` of a log call."""
    return {"post": post_id}


def configure(form: str, *, plain: str) -> None:
    """plain: the format of plain lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else logging.Formatter(plain))
    handler.addFilter(Seldom("aiokafka"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class Seldom(logging.Filter):
    """Of one library, what it says again before REPEATED_AFTER_S have passed is left out.

    A Kafka client tells in five lines, ten times a second, that its broker is away.
    """

    def __init__(self, library: str) -> None:
        super().__init__(library)
        self._told_at_s: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not super().filter(record):
            return True
        said = (record.name, str(record.msg))
        if record.created - self._told_at_s.get(said, 0.0) < REPEATED_AFTER_S:
            return False
        self._told_at_s[said] = record.created
        return True


class JsonLines(logging.Formatter):
    """time (UTC), level, logger, message; post and exception where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (post := getattr(record, "post", None)) is not None:
            line["post"] = post
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()
