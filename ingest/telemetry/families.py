"""Prometheus families in one naming scheme: `moodstream_<service>_<what>_<unit>`, counters with `_total`.

Services keep their own counts; these are made of them when somebody asks. Base units: seconds, bytes, plain ratios.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

Buckets = Iterable[tuple[float, int]]
"""Upper bounds in rising order, and how many were at most that; the last bound is infinite."""


def counter(name: str, told: str, value: float) -> Metric:
    """What only ever grows while the process lives; `_total` is added."""
    return CounterMetricFamily(name, told, value=value)


def counters(name: str, told: str, label: str, values: Mapping[str, float]) -> Metric:
    """One for each value of a label."""
    family = CounterMetricFamily(name, told, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family


def gauge(name: str, told: str, value: float | None) -> Metric:
    """What goes up and down; None, for what is not known, leaves a family without a sample."""
    family = GaugeMetricFamily(name, told, labels=())
    if value is not None:
        family.add_metric((), value)
    return family


def moment(name: str, told: str, at: datetime | None) -> Metric:
    """When something was: whoever wants its age subtracts it from now."""
    return gauge(f"{name}_timestamp_seconds", told, None if at is None else at.timestamp())


def gauges(name: str, told: str, label: str, values: Mapping[str, float | None]) -> Metric:
    """One for each value of a label, as far as it is known."""
    family = GaugeMetricFamily(name, told, labels=(label,))
    for key, value in values.items():
        if value is not None:
            family.add_metric((key,), value)
    return family


def info(name: str, told: str, labels: Mapping[str, str]) -> Metric:
    """Facts in words, as labels of a gauge that is 1."""
    family = GaugeMetricFamily(f"{name}_info", told, labels=tuple(labels))
    family.add_metric(tuple(labels.values()), 1)
    return family


def histograms(name: str, told: str, label: str, values: Mapping[str, tuple[Buckets, float]]) -> Metric:
    """One for each value of a label: its buckets, and the sum of all that was observed."""
    family = HistogramMetricFamily(name, told, labels=(label,))
    for key, (buckets, total) in values.items():
        family.add_metric((key,), _named(buckets), total)
    return family


def histogram(name: str, told: str, buckets: Buckets, total: float) -> Metric:
    family = HistogramMetricFamily(name, told, labels=())
    family.add_metric((), _named(buckets), total)
    return family


def _named(buckets: Buckets) -> list[tuple[str, float]]:
    return [("+Inf" if math.isinf(bound) else str(float(bound)), count) for bound, count in buckets]
