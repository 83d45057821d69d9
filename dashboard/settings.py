"""Settings of the dashboard, from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True, kw_only=True)
class Settings:
    """redis_url: where results are read; namespace: shown when the link names none; refresh_s: pace of live parts."""

    redis_url: str = field(default="redis://localhost:6379/0", repr=False)
    namespace: str = "live"
    refresh_s: float = 2.0

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Raises ValueError if MOODSTREAM_REFRESH_S is not a number of at least 0.5."""
        return cls(
            redis_url=environ.get("MOODSTREAM_REDIS", cls.redis_url),
            namespace=environ.get("MOODSTREAM_NAMESPACE", cls.namespace),
            refresh_s=_refresh_s(environ.get("MOODSTREAM_REFRESH_S", str(cls.refresh_s))),
        )

    @property
    def redis_address(self) -> str:
        """Host, port and database without user name and password: fit for a page or a log."""
        parts = urlsplit(self.redis_url)
        if parts.scheme == "unix":
            return parts.path
        return f"{parts.hostname or 'localhost'}:{parts.port or 6379}{parts.path.rstrip('/')}"


def _refresh_s(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0.5 <= seconds <= 3600:
        raise ValueError(f"MOODSTREAM_REFRESH_S is {value!r}: give seconds from 0.5 to 3600")
    return seconds
