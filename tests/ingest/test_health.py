"""What is told about a run: the line in the log, and the answer of the health endpoint."""

from __future__ import annotations

import logging
from collections import Counter
from datetime import timedelta
from typing import Any

import httpx
import msgspec
import pytest

from deploy.servers import free_port
from ingest.errors import BadSettings
from ingest.health import Health, serve_health
from ingest.progress import ProgressLog, line_of
from ingest.report import IngestReport
from ingest.sources.live import SourceState
from tests.ingest.conftest import NOON


def report(seconds: float = 10.0, **changes: Any) -> IngestReport:
    counts: dict[str, Any] = {"read": 0, "sent": 0, "skipped": {}, "failed": {}, "warnings": {}}
    times = {"started_at": NOON, "finished_at": NOON + timedelta(seconds=seconds)}
    return IngestReport(run="r", namespace="live", source="bluesky", **(counts | times | changes))


def live(**changes: Any) -> SourceState:
    return SourceState(**({"phase": "live", "detail": "connected to host"} | changes))


def test_the_line_tells_rates_lag_and_what_was_skipped() -> None:
    before = report(sent=10, state=live(events=100))
    state = live(events=600, lag_s=0.84, reconnects=2, gaps=["36 h"], skipped=Counter(like=400))
    now = report(20, read=100, sent=35, skipped={"no topic matches": 65}, media={"late": 2}, state=state)
    assert line_of(now, before) == (
        "bluesky: live (connected to host), lag 0.8 s; 50.0 events/s; 2.5 sent/s; read 100; 2 reconnects, 1 gaps; "
        "skipped (400 like, 65 no topic matches); pictures (2 late)"
    )


def test_a_source_that_is_not_live_has_a_line_too() -> None:
    assert line_of(report(read=40, sent=40), None) == "bluesky: 4.0 events/s; 4.0 sent/s; read 40"


def test_gaps_and_a_slow_kafka_are_said_aloud(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.progress.LOG_EVERY_S", 0.0)
    progress = ProgressLog()
    with caplog.at_level(logging.WARNING):
        progress.show(report(10, state=live()))
        progress.show(report(20, state=live(gaps=["2 h before the look-back"]), waited_s=4.0))
        progress.show(report(30, state=live(gaps=["2 h before the look-back"]), waited_s=4.0))
        progress.show(report(40, state=live(gaps=["2 h before the look-back", "a minute"]), waited_s=4.0))
        progress.show(report(50, state=live(gaps=["a minute", "another"]), waited_s=4.0))  # only the newest are kept
    assert [record.getMessage() for record in caplog.records] == [
        "bluesky: lost for good: 2 h before the look-back",
        "Kafka is slow: reading bluesky was held up 40 % of the time",
        "bluesky: lost for good: a minute",
        "bluesky: lost for good: another",
    ]


@pytest.mark.parametrize(
    ("known", "status", "said"),
    [
        (None, 503, "starting"),
        (report(state=live()), 200, "ok"),
        (report(state=live(phase="waiting", detail="HTTP 503, again in 10 s")), 503, "bluesky is waiting: HTTP 503"),
        (report(state=live(), silent_s=21.0), 503, "Kafka has not acknowledged anything for 21 s"),
        (report(), 200, "ok"),
    ],
)
async def test_health_is_told_with_the_whole_report(known: IngestReport | None, status: int, said: str) -> None:
    health, port = Health(), free_port()
    health.report = known
    async with (
        serve_health(health, ("127.0.0.1", port)),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        alive, ready = await client.get("/healthz"), await client.get("/readyz")
    body = alive.json()
    assert (alive.status_code, body["status"][: len(said)]) == (200, said)
    assert body["report"] == (msgspec.to_builtins(known) if known is not None else None)
    assert ready.status_code == status
    assert any(outcome.startswith(said) for outcome in ready.json()["checks"].values())


async def test_the_report_is_told_as_metrics() -> None:
    health, port = Health(), free_port()
    state = live(events=600, lag_s=0.84, reconnects=2, rate_limits=3, gaps=["36 h"], skipped=Counter(like=400))
    counts = {"skipped": {"no topic matches": 65}, "media": {"late": 2}, "waited_s": 1.5, "silent_s": 16.0}
    health.report = report(read=100, sent=35, state=state, cursor_saved_at=NOON, **counts)
    async with serve_health(health, ("127.0.0.1", port)), httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{port}/metrics")
    lines = [line for line in answer.text.splitlines() if line.startswith("moodstream_")]
    assert lines == [
        'moodstream_ingest_ready{check="kafka"} 0.0',
        'moodstream_ingest_ready{check="source"} 1.0',
        'moodstream_ingest_run_info{namespace="live",run="r",source="bluesky"} 1.0',
        "moodstream_ingest_items_read_total 100.0",
        "moodstream_ingest_records_sent_total 35.0",
        "moodstream_ingest_deletion_copies_total 0.0",
        'moodstream_ingest_items_skipped_total{reason="no topic matches"} 65.0',
        'moodstream_ingest_pictures_total{outcome="late"} 2.0',
        "moodstream_ingest_kafka_wait_seconds_total 1.5",
        "moodstream_ingest_kafka_silence_seconds 16.0",
        "moodstream_ingest_source_events_total 600.0",
        'moodstream_ingest_source_events_skipped_total{reason="like"} 400.0',
        "moodstream_ingest_source_reconnects_total 2.0",
        "moodstream_ingest_source_rate_limits_total 3.0",
        "moodstream_ingest_source_gaps 1.0",
        "moodstream_ingest_source_lag_seconds 0.84",
        'moodstream_ingest_source_phase{phase="connecting"} 0.0',
        'moodstream_ingest_source_phase{phase="live"} 1.0',
        'moodstream_ingest_source_phase{phase="waiting"} 0.0',
        'moodstream_ingest_source_phase{phase="stopped"} 0.0',
        "moodstream_ingest_cursor_saved_timestamp_seconds 1.77789603e+09",
    ]
    assert "process_resident_memory_bytes" in answer.text


async def test_an_address_in_use_is_named() -> None:
    port = free_port()
    async with serve_health(Health(), ("127.0.0.1", port)):
        with pytest.raises(BadSettings, match=f"MOODSTREAM_INGEST_HEALTH is 127.0.0.1:{port}"):
            async with serve_health(Health(), ("127.0.0.1", port)):
                pass
