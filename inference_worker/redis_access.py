"""How one reaches Redis, one server or a cluster: one URL holds all of it, from variables and files alone.

User, password and certificates stand in the URL, as `redis.Redis.from_url` takes them, so nothing else of ours knows of
them; `redis-cluster://` and `rediss-cluster://` name some of a cluster's nodes. What is shown of that URL is `masked`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit, urlunsplit

from ingest.tls import Refusal, TlsFiles, causes, secret, tls_refusal

if TYPE_CHECKING:
    from redis import Redis
    from redis.asyncio import Redis as AsyncRedis

PREFIX: Final = "MOODSTREAM_REDIS"
DEFAULT_URL: Final = "redis://localhost:6379/0"
VARIABLES: Final = (
    "MOODSTREAM_REDIS_USERNAME",
    "MOODSTREAM_REDIS_PASSWORD",
    "MOODSTREAM_REDIS_PASSWORD_FILE",
    "MOODSTREAM_REDIS_CA_FILE",
    "MOODSTREAM_REDIS_CERT_FILE",
    "MOODSTREAM_REDIS_KEY_FILE",
)
_CLUSTER: Final = {"redis-cluster": "redis", "rediss-cluster": "rediss"}
"""Schemes of a cluster → of each of its nodes."""
_PASSWORD_REFUSED: Final = ("WRONGPASS", "invalid username-password", "invalid password", "Authentication required")


def redis_url(environ: Mapping[str, str]) -> str:
    """MOODSTREAM_REDIS with user, password and certificates of the other variables in it, which win over its own.

    Raises ValueError naming the variable and what would do.
    """
    url = environ.get(PREFIX) or DEFAULT_URL
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss", "unix", *_CLUSTER):
        raise ValueError(
            f"{PREFIX} is no address of a Redis: use redis://, rediss:// (TLS), unix://, redis-cluster:// or "
            "rediss-cluster://"
        )
    if parts.scheme in _CLUSTER:
        _check_cluster(parts)
    username, password = environ.get(f"{PREFIX}_USERNAME", ""), secret(f"{PREFIX}_PASSWORD", environ)
    if username and not password:
        raise ValueError(
            f"{PREFIX}_USERNAME is set without a password: set {PREFIX}_PASSWORD or {PREFIX}_PASSWORD_FILE"
        )
    if password:
        place = parts.netloc.rpartition("@")[2]
        parts = parts._replace(netloc=f"{quote(username, safe='')}:{quote(password, safe='')}@{place}")
    files = _files(parts.scheme, environ)
    if files:
        parts = parts._replace(query=urlencode({**dict(parse_qsl(parts.query)), **files}))
    return urlunsplit(parts)


def _files(scheme: str, environ: Mapping[str, str]) -> dict[str, str]:
    """By redis-py's names for them."""
    files = TlsFiles.from_env(PREFIX, environ)
    given = {"ssl_ca_certs": files.ca, "ssl_certfile": files.cert, "ssl_keyfile": files.key}
    found = {name: str(path) for name, path in given.items() if path is not None}
    if found and scheme not in ("rediss", "rediss-cluster"):
        with_tls = scheme.replace("redis", "rediss") if scheme in _CLUSTER else "rediss"
        raise ValueError(
            f"{PREFIX}_…_FILE is set, but {PREFIX} begins with {scheme}://: begin it with {with_tls}:// for TLS"
        )
    return found


def _check_cluster(parts: SplitResult) -> None:
    if parts.path not in ("", "/", "/0"):
        raise ValueError(f"{PREFIX} names database {parts.path[1:]!r}: a cluster has 0 alone, so leave it out")
    try:
        places = [(node.hostname, node.port) for node in map(urlsplit, node_urls(urlunsplit(parts)))]
    except ValueError:  # a port that is no number
        places = [(None, None)]
    if not all(host for host, _ in places):
        place = parts.netloc.rpartition("@")[2]
        raise ValueError(f"{PREFIX} names nodes {place!r}: use HOST:PORT, or several, comma-separated")


def is_cluster(url: str) -> bool:
    return urlsplit(url).scheme in _CLUSTER


def node_urls(url: str) -> list[str]:
    """The URL of each node that a cluster's URL names."""
    parts = urlsplit(url)
    user, at, places = parts.netloc.rpartition("@")
    node = parts._replace(scheme=_CLUSTER[parts.scheme])
    return [urlunsplit(node._replace(netloc=f"{user}{at}{place}")) for place in places.split(",")]


def connect(url: str, **options: Any) -> Redis:
    """A client of the server, or of the cluster, at `url`; options as of `Redis.from_url`. Connects on first use."""
    if is_cluster(url):
        from inference_worker.redis_cluster import Cluster

        return cast("Redis", Cluster(url, options))
    from redis import Redis  # slow to load: not with settings

    return Redis.from_url(url, **options)


def connect_async(url: str, **options: Any) -> AsyncRedis:
    """The same for an event loop."""
    if is_cluster(url):
        from inference_worker.redis_cluster import AsyncCluster

        return cast("AsyncRedis", AsyncCluster(url, options))
    from redis.asyncio import Redis

    return Redis.from_url(url, **options)


async def reconnect(redis: AsyncRedis) -> None:
    """For when a server turned read-only: it was the master, and its name, or its slots, may lead elsewhere by now."""
    from redis.asyncio import Redis

    if isinstance(redis, Redis):
        await redis.connection_pool.disconnect(inuse_connections=False)
    else:  # a cluster, which asks for its masters anew at the next command
        await redis.aclose()


def masked(url: str) -> str:
    """The URL without user, password and query, fit for a log."""
    return re.sub(r"//.*@", "//***@", url).partition("?")[0]


def redis_refusal(error: BaseException) -> Refusal | None:
    """What Redis refused, of an error that says so; None for one that says only that nothing was heard."""
    from redis.exceptions import (  # slow to load: not with settings
        AuthenticationError,
        ClusterCrossSlotError,
        MovedError,
        NoPermissionError,
    )

    if (of_tls := tls_refusal(error, PREFIX)) is not None:
        return of_tls
    for cause in causes(error):
        if isinstance(cause, NoPermissionError):
            return Refusal(f"the user lacks a right: {cause}", "grant it, as deploy/security/redis-acl.sh does")
        if isinstance(cause, AuthenticationError) or any(words in str(cause) for words in _PASSWORD_REFUSED):
            remedy = f"set {PREFIX}_USERNAME and {PREFIX}_PASSWORD_FILE to a user and password it knows"
            return Refusal("the user or password is not known", remedy)
        if isinstance(cause, MovedError | ClusterCrossSlotError):
            return Refusal("it is a node of a cluster", f"begin {PREFIX} with redis-cluster:// or rediss-cluster://")
        if "Cluster mode is not enabled" in str(cause):
            return Refusal("it is no cluster", f"begin {PREFIX} with redis:// or rediss://")
    return None


def redis_trouble(error: BaseException, url: str) -> str:
    """One line that says what is amiss with the Redis at `url`, and how to mend it."""
    if (refused := redis_refusal(error)) is not None:
        return f"Redis at {masked(url)} refuses: {refused.problem}: {refused.remedy}"
    return f"Redis at {masked(url)} does not answer ({error}): start it, or set {PREFIX}"
