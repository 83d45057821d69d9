"""A run's report as Prometheus' metrics: what ingest counts anyway, as of at most a second ago."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from prometheus_client.metrics_core import Metric

from ingest.health import Health
from ingest.report import IngestReport
from ingest.sources.live import Phase, SourceState
from ingest.telemetry.endpoint import Check, NotReady
from ingest.telemetry.families import counter, counters, gauge, gauges, info, moment


class IngestMetrics:
    """See `telemetry.endpoint.Observed`."""

    name = "ingest"

    def __init__(self, health: Health) -> None:
        self._health = health
        self.checks: Mapping[str, Check] = {"kafka": self._kafka, "source": self._source}

    async def _kafka(self) -> None:
        if problem := self._health.kafka_problem():
            raise NotReady(problem)

    async def _source(self) -> None:
        if problem := self._health.source_problem():
            raise NotReady(problem)

    def told(self) -> Mapping[str, Any]:
        return {"status": self._health.problem() or "ok", "report": self._health.report}

    def families(self) -> Iterator[Metric]:
        if (report := self._health.report) is None:
            return
        yield from _of_run(report)
        if report.state is not None:
            yield from _of_source(report.state)
        told = "When the cursor was last saved: a restart reads again what came after it"
        yield moment("moodstream_ingest_cursor_saved", told, report.cursor_saved_at)


def _of_run(report: IngestReport) -> Iterator[Metric]:
    labels = {"namespace": report.namespace, "source": report.source, "run": report.run}
    yield info("moodstream_ingest_run", "What is read, and where it goes", labels)
    yield counter("moodstream_ingest_items_read", "Items the source gave", report.read)
    yield counter("moodstream_ingest_records_sent", "Records Kafka acknowledged", report.sent)
    yield counter("moodstream_ingest_deletion_copies", "Records an author's deletion became beyond one", report.copies)
    yield counters("moodstream_ingest_items_skipped", "Items that made no record", "reason", report.skipped)
    yield counters("moodstream_ingest_records_failed", "Records Kafka refused", "reason", report.failed)
    yield counters("moodstream_ingest_warnings", "What was odd about records sent", "reason", report.warnings)
    yield counters("moodstream_ingest_pictures", "What became of pictures to be fetched", "outcome", report.media)
    yield counter("moodstream_ingest_kafka_wait_seconds", "Time reading was held up by Kafka", report.waited_s)
    told = "For how long Kafka has acknowledged nothing of what waits for that"
    yield gauge("moodstream_ingest_kafka_silence_seconds", told, report.silent_s)


def _of_source(state: SourceState) -> Iterator[Metric]:
    yield counter("moodstream_ingest_source_events", "Events a live source told of, items or not", state.events)
    yield counters("moodstream_ingest_source_events_skipped", "Events that are no items", "reason", state.skipped)
    yield counter("moodstream_ingest_source_reconnects", "Connections after the first", state.reconnects)
    yield counter("moodstream_ingest_source_rate_limits", "Answers that asked to wait (HTTP 429)", state.rate_limits)
    yield gauge("moodstream_ingest_source_gaps", "Stretches lost for good; the newest are told", len(state.gaps))
    yield gauge("moodstream_ingest_source_lag_seconds", "Age of the newest event when it came", state.lag_s)
    phases = {phase: float(phase == state.phase) for phase in get_args(Phase)}
    yield gauges("moodstream_ingest_source_phase", "1 for what a live source is doing now", "phase", phases)
