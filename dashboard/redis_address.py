"""Where the store is, fit for a page or a log."""

from __future__ import annotations

from urllib.parse import urlsplit

from inference_worker.redis_access import is_cluster


def redis_address(url: str) -> str:
    """Host, port and database without user name and password; of a cluster, the nodes that are named."""
    parts = urlsplit(url)
    if is_cluster(url):
        return parts.netloc.rpartition("@")[2]
    if parts.scheme == "unix":
        return parts.path
    return f"{parts.hostname or 'localhost'}:{parts.port or 6379}{parts.path.rstrip('/')}"
