"""Settings of the alert service, from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from dashboard.redis_address import redis_address
from inference_worker.contract import check_namespace
from inference_worker.redis_access import DEFAULT_URL, redis_url
from ingest.telemetry.variables import health_address, log_form

from .errors import BadSettings


@dataclass(frozen=True, kw_only=True)
class AlertSettings:
    """rules: file of the rules; webhook_url: where notifications go, a secret; grace_s: how long after its end a
    minute closes; quiet_after_s: a live namespace's clock follows the wall's at this distance when nobody posts;
    public_url: the dashboard's address, put before the links of notifications; health: where to answer /healthz,
    /readyz and /metrics, None for nowhere; log: form of log lines.
    """

    redis_url: str = field(default=DEFAULT_URL, repr=False)
    namespace: str = "live"
    rules: Path = Path("alerts.toml")
    webhook_url: str | None = field(default=None, repr=False)
    grace_s: float = 10.0
    quiet_after_s: float = 300.0
    public_url: str = ""
    health: tuple[str, int] | None = None
    log: str = "plain"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> AlertSettings:
        """Raises BadSettings."""
        try:
            namespace = check_namespace(environ.get("MOODSTREAM_NAMESPACE", cls.namespace))
        except ValueError as error:
            raise BadSettings(f"MOODSTREAM_NAMESPACE: {error}") from error
        try:
            redis = redis_url(environ)
            health = health_address(environ, "MOODSTREAM_ALERTS_HEALTH", example=9103)
            log = log_form(environ)
        except ValueError as error:
            raise BadSettings(str(error)) from error
        return cls(
            redis_url=redis,
            namespace=namespace,
            rules=rules_path(environ),
            webhook_url=_webhook_url(environ),
            grace_s=_seconds(environ, "MOODSTREAM_ALERTS_GRACE_S", cls.grace_s),
            quiet_after_s=_seconds(environ, "MOODSTREAM_ALERTS_QUIET_AFTER_S", cls.quiet_after_s),
            public_url=environ.get("MOODSTREAM_PUBLIC_URL", cls.public_url).rstrip("/"),
            health=health,
            log=log,
        )

    @property
    def redis_address(self) -> str:
        return redis_address(self.redis_url)


def rules_path(environ: Mapping[str, str] = os.environ) -> Path:
    """The file of rules; it need not exist."""
    return Path(environ.get("MOODSTREAM_ALERTS", AlertSettings.rules))


def _webhook_url(environ: Mapping[str, str]) -> str | None:
    """From the variable itself or from the file it names, as secrets are mounted."""
    url, name = environ.get("MOODSTREAM_WEBHOOK_URL"), environ.get("MOODSTREAM_WEBHOOK_URL_FILE")
    if url and name:
        raise BadSettings("MOODSTREAM_WEBHOOK_URL and MOODSTREAM_WEBHOOK_URL_FILE are both set: set one")
    if name:
        try:
            url = Path(name).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadSettings(f"MOODSTREAM_WEBHOOK_URL_FILE={name!r} cannot be read: {error}") from error
    if not url:
        return None
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_usable = False
    if not is_usable:
        raise BadSettings("MOODSTREAM_WEBHOOK_URL is no http or https address (not shown, as it is a secret): mend it")
    return url


def _seconds(environ: Mapping[str, str], name: str, default: float) -> float:
    value = environ.get(name, str(default))
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:
        raise BadSettings(f"{name} is {value!r}: give seconds from 0 to 3600")
    return seconds
