"""What any service answers about itself, and how long it lets a check keep it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from deploy.servers import free_port
from ingest.telemetry import endpoint
from ingest.telemetry.endpoint import CannotListen, Check, NotReady, serve
from ingest.telemetry.families import counter, gauge, gauges, histogram


class Service:
    name = "test"

    def __init__(self, **checks: Check) -> None:
        self.checks: Mapping[str, Check] = checks

    def told(self) -> Mapping[str, Any]:
        return {"name": "a test"}

    def families(self) -> Iterator[Metric]:
        yield counter("moodstream_test_records", "Records", 3)
        yield gauge("moodstream_test_lag_seconds", "Lag", None)
        yield gauges("moodstream_test_offset", "Offset", "partition", {"0": 7, "1": None})
        yield histogram("moodstream_test_size_posts", "Size", [(1, 2), (float("inf"), 5)], 11)


async def fine() -> None:
    pass


async def refused() -> None:
    raise NotReady("the door is shut")


async def broken() -> None:
    raise ZeroDivisionError


async def hanging() -> None:
    await asyncio.Event().wait()


async def asked(service: Service, path: str, **headers: str) -> httpx.Response:
    port = free_port()
    async with serve(service, ("127.0.0.1", port), variable="MOODSTREAM_TEST"), httpx.AsyncClient() as client:
        return await client.get(f"http://127.0.0.1:{port}{path}", headers=headers)


async def test_a_service_that_cannot_work_is_alive_all_the_same() -> None:
    answer = await asked(Service(door=refused), "/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "name": "a test"})


async def test_ready_is_who_passes_every_check() -> None:
    answer = await asked(Service(one=fine, two=fine), "/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "checks": {"one": "ok", "two": "ok"}})


async def test_what_is_wrong_is_told_by_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "CHECK_TIMEOUT_S", 0.05)
    answer = await asked(Service(one=fine, door=refused, sums=broken, clock=hanging), "/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"] == {
        "one": "ok",
        "door": "the door is shut",
        "sums": "ZeroDivisionError",
        "clock": "no answer within 0.05 s",
    }


async def test_metrics_are_openmetrics_for_whoever_asks_for_it() -> None:
    answer = await asked(Service(one=fine, door=refused), "/metrics", Accept="application/openmetrics-text")
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.name.startswith("moodstream")
    }
    assert samples == {
        ("moodstream_test_ready", "one"): 1,
        ("moodstream_test_ready", "door"): 0,
        ("moodstream_test_records_total",): 3,
        ("moodstream_test_offset", "0"): 7,
        ("moodstream_test_size_posts_bucket", "1.0"): 2,
        ("moodstream_test_size_posts_bucket", "+Inf"): 5,
        ("moodstream_test_size_posts_count",): 5,
        ("moodstream_test_size_posts_sum",): 11,
    }


async def test_an_address_in_use_is_told_with_its_variable() -> None:
    address = ("127.0.0.1", free_port())
    async with serve(Service(), address, variable="MOODSTREAM_TEST"):
        with pytest.raises(CannotListen, match=f"MOODSTREAM_TEST is 127.0.0.1:{address[1]}, .*: name another"):
            async with serve(Service(), address, variable="MOODSTREAM_TEST"):
                pass
