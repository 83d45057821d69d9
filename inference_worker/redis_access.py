"""How one reaches a Redis that asks who is there: one URL holds all of it, from variables and files alone.

`redis.Redis.from_url` takes user, password and certificates in the URL, so nothing else of ours knows of them. What is
shown of that URL is `masked`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from ingest.tls import Refusal, TlsFiles, causes, secret, tls_refusal

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
_PASSWORD_REFUSED: Final = ("WRONGPASS", "invalid username-password", "invalid password", "Authentication required")


def redis_url(environ: Mapping[str, str]) -> str:
    """MOODSTREAM_REDIS with user, password and certificates of the other variables in it, which win over its own.

    Raises ValueError naming the variable and what would do.
    """
    url = environ.get(PREFIX) or DEFAULT_URL
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError(f"{PREFIX} is no address of a Redis: use redis://, rediss:// (TLS) or unix://")
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
    if found and scheme != "rediss":
        raise ValueError(
            f"{PREFIX}_…_FILE is set, but {PREFIX} begins with {scheme}://: begin it with rediss:// for TLS"
        )
    return found


def masked(url: str) -> str:
    """The URL without user, password and query, fit for a log."""
    return re.sub(r"//.*@", "//***@", url).partition("?")[0]


def redis_refusal(error: BaseException) -> Refusal | None:
    """What Redis refused, of an error that says so; None for one that says only that nothing was heard."""
    from redis.exceptions import AuthenticationError, NoPermissionError  # slow to load: not with settings

    if (of_tls := tls_refusal(error, PREFIX)) is not None:
        return of_tls
    for cause in causes(error):
        if isinstance(cause, NoPermissionError):
            return Refusal(f"the user lacks a right: {cause}", "grant it, as deploy/security/redis-acl.sh does")
        if isinstance(cause, AuthenticationError) or any(words in str(cause) for words in _PASSWORD_REFUSED):
            remedy = f"set {PREFIX}_USERNAME and {PREFIX}_PASSWORD_FILE to a user and password it knows"
            return Refusal("the user or password is not known", remedy)
    return None


def redis_trouble(error: BaseException, url: str) -> str:
    """One line that says what is amiss with the Redis at `url`, and how to mend it."""
    if (refused := redis_refusal(error)) is not None:
        return f"Redis at {masked(url)} refuses: {refused.problem}: {refused.remedy}"
    return f"Redis at {masked(url)} does not answer ({error}): start it, or set {PREFIX}"
