"""How ingest is, as it says itself at `GET /healthz`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import msgspec

_TIMEOUT_S: Final = 1.0
_BYTES_READ: Final = 1_000_000


class _State(msgspec.Struct, frozen=True):
    phase: str = ""
    detail: str = ""
    events: int = 0
    reconnects: int = 0
    lag_s: float | None = None
    gaps: list[str] = []
    skipped: dict[str, int] = {}


class _Report(msgspec.Struct, frozen=True):
    source: str = ""
    namespace: str = ""
    read: int = 0
    sent: int = 0
    waited_s: float = 0.0
    silent_s: float = 0.0
    skipped: dict[str, int] = {}
    failed: dict[str, int] = {}
    warnings: dict[str, int] = {}
    media: dict[str, int] = {}
    state: _State | None = None


class _Health(msgspec.Struct, frozen=True):
    status: str
    report: _Report | None = None


@dataclass(frozen=True, kw_only=True)
class SourceReport:
    """One ingest process. status: `ok`, `unreachable`, or what it says is wrong, in words."""

    address: str
    status: str
    detail: str = ""
    source: str = ""
    phase: str = ""
    read: int = 0
    sent: int = 0
    reconnects: int = 0
    lag_s: float | None = None
    gaps: tuple[str, ...] = ()
    skipped: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    media: dict[str, int] = field(default_factory=dict)

    @property
    def is_well(self) -> bool:
        return self.status == "ok"


def ask(address: str, transport: httpx.BaseTransport | None = None) -> SourceReport:
    """What the ingest process at host:port says; never raises for one that says nothing."""
    try:
        with httpx.Client(timeout=_TIMEOUT_S, transport=transport, trust_env=False) as client:
            answer = client.get(f"http://{address}/healthz")
        health = msgspec.json.decode(answer.content[:_BYTES_READ], type=_Health)
    except httpx.ConnectError:
        return SourceReport(address=address, status="unreachable", detail="nobody listens there: ended, or not started")
    except httpx.HTTPError as error:
        return SourceReport(address=address, status="unreachable", detail=type(error).__name__)
    except msgspec.MsgspecError:
        return SourceReport(address=address, status="unreachable", detail="answers, but not as ingest does")
    return _told(address, health)


def _told(address: str, health: _Health) -> SourceReport:
    report = health.report
    if report is None:
        return SourceReport(address=address, status=health.status)
    state = report.state or _State(phase="reading")
    skipped: dict[str, Any] = {**state.skipped}
    for reason, count in report.skipped.items():
        skipped[reason] = skipped.get(reason, 0) + count
    return SourceReport(
        address=address,
        status=health.status,
        detail=state.detail,
        source=report.source,
        phase=state.phase,
        read=report.read,
        sent=report.sent,
        reconnects=state.reconnects,
        lag_s=state.lag_s,
        gaps=tuple(state.gaps),
        skipped=skipped,
        failed=report.failed,
        media=report.media,
    )
