"""The variables by which a service is asked to tell of itself. Each reader raises ValueError: name, value, remedy."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from ingest.telemetry.logs import FORMS


def log_form(environ: Mapping[str, str]) -> str:
    """MOODSTREAM_LOG."""
    value = environ.get("MOODSTREAM_LOG", FORMS[0])
    if value not in FORMS:
        raise ValueError(f"MOODSTREAM_LOG is {value!r}: use {' or '.join(FORMS)}")
    return value


def health_address(environ: Mapping[str, str], name: str, *, example: int) -> tuple[str, int] | None:
    """Where a service answers /healthz, /readyz and /metrics; None for nowhere. example: a port to suggest."""
    if not (value := environ.get(name)):
        return None
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65_535:
        raise ValueError(f"{name} is {value!r}: use host:port, for example 127.0.0.1:{example}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def collector(environ: Mapping[str, str]) -> str | None:
    """MOODSTREAM_TRACES: URL of an OTLP/HTTP collector; None where nothing is traced."""
    value = environ.get("MOODSTREAM_TRACES") or None
    if value is not None and not _is_web_address(value):
        raise ValueError(f"MOODSTREAM_TRACES is {value!r}: use a URL, for example http://127.0.0.1:4318/v1/traces")
    return value


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False
