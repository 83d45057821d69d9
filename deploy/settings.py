"""Settings of the `moodstream` command: where Kafka and Redis are, if the user has them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`kafka`, `redis`: the user's own, None for the embedded ones; `namespace`: None lets the command choose.

    has_display: a browser would have a screen to open on.
    """

    kafka: str | None = None
    redis: str | None = None
    namespace: str | None = None
    has_display: bool = True

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        environ = os.environ if environ is None else environ
        return cls(
            kafka=environ.get("MOODSTREAM_KAFKA") or None,
            redis=environ.get("MOODSTREAM_REDIS") or None,
            namespace=environ.get("MOODSTREAM_NAMESPACE") or None,
            has_display=sys.platform != "linux" or "DISPLAY" in environ or "WAYLAND_DISPLAY" in environ,
        )

    def __repr__(self) -> str:
        redis = masked(self.redis) if self.redis else None
        return f"Settings(kafka={self.kafka!r}, redis={redis!r}, namespace={self.namespace!r})"


def masked(url: str) -> str:
    """The URL without user name and password, fit for a log."""
    return re.sub(r"//[^@/]*@", "//***@", url)
