"""What ingest says of itself, and what it means when it says nothing."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import httpx

from dashboard import sources
from deploy.servers import free_port
from ingest.health import Health, serve_health
from ingest.report import IngestReport
from ingest.sources.live import SourceState


def answering(content: bytes, status: int = 200) -> sources.SourceReport:
    transport = httpx.MockTransport(lambda _: httpx.Response(status, content=content))
    return sources.ask("ingest:8081", transport)


def test_report_of_a_running_ingest_is_told() -> None:
    port = free_port()
    health = Health()
    now = datetime.now(UTC)
    state = SourceState(phase="waiting", detail="HTTP 503, again in 10 s", reconnects=3, lag_s=4.5, gaps=["12:00 on"])
    health.report = IngestReport(
        run="run-1",
        namespace="live",
        source="bluesky",
        read=40,
        sent=30,
        skipped={"unmatched": 10},
        failed={},
        warnings={},
        started_at=now,
        finished_at=now,
        state=state,
    )

    async def asked() -> sources.SourceReport:
        async with serve_health(health, ("127.0.0.1", port)):
            return await asyncio.to_thread(sources.ask, f"127.0.0.1:{port}")

    report = asyncio.run(asked())
    assert (report.source, report.phase, report.read, report.sent, report.reconnects) == (
        "bluesky",
        "waiting",
        40,
        30,
        3,
    )
    assert report.status == "bluesky is waiting: HTTP 503, again in 10 s"
    assert not report.is_well
    assert report.gaps == ("12:00 on",)
    assert report.skipped == {"unmatched": 10}


def test_ingest_that_is_starting_says_so() -> None:
    report = answering(b'{"status": "starting", "report": null}', 503)
    assert (report.status, report.source) == ("starting", "")


def test_nobody_there_is_unreachable() -> None:
    report = sources.ask(f"127.0.0.1:{free_port()}")
    assert (report.status, report.detail) == ("unreachable", "nobody listens there: ended, or not started")


def test_another_server_is_unreachable() -> None:
    assert answering(b"<html>hello").status == "unreachable"
    assert answering(b"[1]").detail == "answers, but not as ingest does"
