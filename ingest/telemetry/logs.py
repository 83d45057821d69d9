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


def about(post_id: str | None) -> dict[str, Any]:
    """For the `extra` of a log call."""
    return {"post": post_id}


def configure(form: str, *, plain: str) -> None:
    """plain: the format of plain lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else logging.Formatter(plain))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


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
