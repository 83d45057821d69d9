"""How a run goes, in one line now and then."""

from __future__ import annotations

import logging
import time
from typing import Final

from ingest.report import IngestReport

LOG_EVERY_S: Final = 10.0
SHOWN_REASONS: Final = 6
WAITED_TOO_MUCH: Final = 0.1
"""A share of the time held up by Kafka from which on it is said."""

log = logging.getLogger(__name__)


class ProgressLog:
    """Logs at the first report and then every LOG_EVERY_S; what is new about the source, as soon as it is."""

    def __init__(self) -> None:
        self._shown_at = float("-inf")
        self._before: IngestReport | None = None
        self._last_gap: str | None = None

    def show(self, report: IngestReport) -> None:
        self._tell_gaps(report)
        now = time.monotonic()
        if now - self._shown_at < LOG_EVERY_S:
            return
        log.info("%s", line_of(report, self._before))
        if (waited := _waited(report, self._before)) > WAITED_TOO_MUCH:
            log.warning("Kafka is slow: reading %s was held up %.0f %% of the time", report.source, 100 * waited)
        self._shown_at, self._before = now, report

    def _tell_gaps(self, report: IngestReport) -> None:
        if report.state is not None:
            gaps = list(report.state.gaps)  # the newest; the oldest are dropped where there are many
            new = gaps[gaps.index(self._last_gap) + 1 :] if self._last_gap in gaps else gaps
            for self._last_gap in new:
                log.warning("%s: lost for good: %s", report.source, self._last_gap)


def line_of(report: IngestReport, before: IngestReport | None) -> str:
    """Rates are since the report before."""
    seconds = _seconds(report, before)
    events = _events(report) - (_events(before) if before is not None else 0)
    sent = report.sent - (before.sent if before is not None else 0)
    parts = [f"{events / seconds:.1f} events/s", f"{sent / seconds:.1f} sent/s", f"read {report.read}"]
    if (state := report.state) is not None:
        lag = "" if state.lag_s is None else f", lag {state.lag_s:.1f} s"
        parts.insert(0, f"{state.phase} ({state.detail}){lag}" if state.detail else f"{state.phase}{lag}")
        parts.append(f"{state.reconnects} reconnects, {len(state.gaps)} gaps")
    skipped = report.skipped | (dict(report.state.skipped) if report.state is not None else {})
    parts += [
        f"{name} {_most(counts)}"
        for name, counts in (("skipped", skipped), ("failed", report.failed), ("pictures", report.media))
        if counts
    ]
    return f"{report.source}: {'; '.join(parts)}"


def _events(report: IngestReport) -> int:
    return report.state.events if report.state is not None else report.read


def _seconds(report: IngestReport, before: IngestReport | None) -> float:
    since = before.finished_at if before is not None else report.started_at
    return max((report.finished_at - since).total_seconds(), 0.001)


def _waited(report: IngestReport, before: IngestReport | None) -> float:
    """Share of the time since the report before."""
    return (report.waited_s - (before.waited_s if before is not None else 0.0)) / _seconds(report, before)


def _most(counts: dict[str, int]) -> str:
    most = sorted(counts.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{count} {reason}" for reason, count in most[:SHOWN_REASONS])
    return f"({shown}, …)" if len(most) > SHOWN_REASONS else f"({shown})"
