"""Where the store is, fit for a page or a log."""

from __future__ import annotations

from urllib.parse import urlsplit


def redis_address(url: str) -> str:
    """Host, port and database without user name and password."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    return f"{parts.hostname or 'localhost'}:{parts.port or 6379}{parts.path.rstrip('/')}"
