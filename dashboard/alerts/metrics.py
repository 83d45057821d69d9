"""The alert service's counts as Prometheus' metrics, and what is in Redis of its namespace as a whole.

Whatever all workers of a namespace share is told here: workers tell of themselves alone. A standby tells the same, so
take the maximum over instances.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from prometheus_client.metrics_core import Metric

from inference_worker.contract import Overview, Results, UnknownNamespace
from ingest.telemetry.endpoint import Check
from ingest.telemetry.families import counter, counters, gauge, gauges, moment

from . import history
from .delivery import Delivery

if TYPE_CHECKING:
    from .service import Watch


class _Stored(NamedTuple):
    """What Redis said last; overview: None before the first post."""

    overview: Overview | None
    active: int
    waiting: int


class AlertsMetrics:
    """See `telemetry.endpoint.Observed`. A standby is ready, too."""

    name = "alerts"

    def __init__(self, watch: Watch, delivery: Delivery) -> None:
        self._watch, self._delivery = watch, delivery
        self._stored: _Stored | None = None
        self.checks: Mapping[str, Check] = {"store": self._store}

    async def _store(self) -> None:
        """What Redis answers is what the metrics tell."""
        self._stored = None
        self._stored = await asyncio.to_thread(self._read)

    def _read(self) -> _Stored:
        redis, namespace = self._watch.redis, self._watch.settings.namespace
        active, waiting = history.active_alerts(redis, namespace), self._watch.ledger.waiting()
        try:
            overview = Results(redis, namespace).overview()
        except UnknownNamespace:
            return _Stored(None, len(active), waiting)
        return _Stored(overview, len(active), waiting)

    def told(self) -> Mapping[str, Any]:
        return {"namespace": self._watch.settings.namespace, "leading": self._watch.is_leading}

    def families(self) -> Iterator[Metric]:
        watch, delivery = self._watch, self._delivery
        yield gauge(
            "moodstream_alerts_leading", "1 where this instance evaluates, 0 on a standby", watch.is_leading or 0
        )
        yield gauge("moodstream_alerts_rules", "Rules in force", len(watch.rules.rules))
        yield counter(
            "moodstream_alerts_minutes_evaluated", "Closed minutes evaluated by this instance", watch.evaluated
        )
        told = "End of the last minute evaluated, by the namespace's clock"
        yield moment("moodstream_alerts_evaluated_until", told, watch.evaluated_until)
        told = "Refusals in a row of a sink"
        yield gauges("moodstream_alerts_sink_refusals", told, "sink", delivery.refusals)
        told = "Notifications a sink refused for good"
        yield counter("moodstream_alerts_notifications_given_up", told, delivery.given_up)
        if self._stored is not None:
            yield gauge("moodstream_alerts_active", "Alerts of the rules that are on", self._stored.active)
            told = "Notifications no sink has taken yet"
            yield gauge("moodstream_alerts_notifications_waiting", told, self._stored.waiting)
            if self._stored.overview is not None:
                yield from _of_namespace(self._stored.overview)


def _of_namespace(overview: Overview) -> Iterator[Metric]:
    told = "What became of the namespace's records, by all workers"
    yield counters("moodstream_alerts_namespace_records", told, "outcome", overview.counters)
    told = "The namespace's clock: latest event time scored"
    yield moment("moodstream_alerts_namespace_watermark", told, overview.watermark)
    yield gauge("moodstream_alerts_namespace_topics", "Topics seen", len(overview.topics))
    yield gauge("moodstream_alerts_namespace_workers", "Workers alive", len(overview.workers))
