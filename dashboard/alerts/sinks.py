"""Where notifications go: the log, and a webhook. A sink takes one notification or raises NotDelivered.

The webhook's address is the operator's own and may well be private, so no address is refused; redirects are not
followed, so that its server cannot send us, and what we say, elsewhere.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Protocol

import httpx
import msgspec

from .errors import NotDelivered
from .history import Alert
from .lives import Happening

TIMEOUT_S: Final = 10.0
MAX_RETRY_AFTER_S: Final = 3600.0
_TRY_AGAIN: Final = (408, 425, 429)

log = logging.getLogger(__name__)


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to tell one sink. id: the same however often it is sent, so that a receiver can drop repeats."""

    id: str
    sink: str
    happening: Happening
    alert: Alert


class Sink(Protocol):
    async def send(self, notification: Notification) -> None:
        """Raises NotDelivered."""


class LogSink:
    """A line in the service's log."""

    async def send(self, notification: Notification) -> None:
        alert = notification.alert
        at = alert.closed_at if notification.happening == "closed" and alert.closed_at else alert.opened_at
        log.warning(
            "alert %s at %s: %s: %r (strength %.1f) %s",
            notification.happening,
            f"{at:%Y-%m-%d %H:%M} UTC",
            alert.rule,
            alert.sentence,
            alert.strength,
            alert.link,
        )


class WebhookSink:
    """A POST of JSON; anything from 200 to 299 acknowledges it."""

    def __init__(self, client: httpx.AsyncClient, url: str, public_url: str = "") -> None:
        self.client, self.url, self.public_url = client, url, public_url

    async def send(self, notification: Notification) -> None:
        try:
            answer = await self.client.post(
                self.url,
                content=msgspec.json.encode(body_of(notification, self.public_url)),
                headers={"Content-Type": "application/json", "Idempotency-Key": _header(notification.id)},
                timeout=TIMEOUT_S,
                follow_redirects=False,
            )
        except httpx.TimeoutException as error:
            raise NotDelivered(f"no answer within {TIMEOUT_S:g} s", retry_after_s=0.0) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NotDelivered(type(error).__name__, retry_after_s=0.0) from error  # its message may hold the address
        if answer.is_success:
            return
        status = answer.status_code
        may_retry = status in _TRY_AGAIN or status >= 500
        raise NotDelivered(f"status {status}", retry_after_s=retry_after_s(answer) if may_retry else None)


def webhook_client() -> httpx.AsyncClient:
    """A client whose own log lines, which spell addresses out, are silenced."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    return httpx.AsyncClient(headers={"User-Agent": "moodstream-alerts"})


def body_of(notification: Notification, public_url: str) -> dict[str, Any]:
    """What a webhook receives: the alert's fields, `text` as chat tools show it, and the link in full."""
    alert = notification.alert
    link = f"{public_url}{alert.link}"
    return {
        "id": notification.id,
        "event": notification.happening,
        "text": f"{alert.rule} {notification.happening}: {alert.sentence} {link}",
        **msgspec.to_builtins(alert),
        "alert_id": alert.id,
        "minute": alert.opened_at,
        "link": link,
    } | {"id": notification.id}


def retry_after_s(answer: httpx.Response) -> float:
    """Seconds the server asks to wait, given as a number or a date, at most an hour; 0 if it does not ask."""
    value = answer.headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            at = parsedate_to_datetime(value)
        except ValueError:
            return 0.0
        seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - datetime.now(UTC).timestamp()
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S) if seconds == seconds else 0.0


def _header(text: str) -> str:
    """Topic names may be of any script; headers may not."""
    return text.encode("ascii", "backslashreplace").decode()
