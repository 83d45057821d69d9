"""Is ingest well? What it says at `/healthz`, `/readyz` and `/metrics`; off unless asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from ingest.errors import BadSettings
from ingest.report import IngestReport

SILENCE_S: Final = 15.0
"""Kafka acknowledges within milliseconds; a broker that takes over needs a few seconds."""


class Health:
    """What is known of the run, kept up to date by whoever runs it."""

    def __init__(self) -> None:
        self.report: IngestReport | None = None

    def problem(self) -> str | None:
        """None if all is well."""
        return self.kafka_problem() or self.source_problem()

    def kafka_problem(self) -> str | None:
        if self.report is None:
            return "starting"
        if self.report.silent_s > SILENCE_S:
            return f"Kafka has not acknowledged anything for {self.report.silent_s:.0f} s"
        return None

    def source_problem(self) -> str | None:
        if self.report is None:
            return "starting"
        state = self.report.state
        if state is not None and state.phase != "live":
            return f"{self.report.source} is {state.phase}: {state.detail}"
        return None


@asynccontextmanager
async def serve_health(health: Health, address: tuple[str, int] | None) -> AsyncIterator[None]:
    """Answers at (host, port) while the body runs. Raises BadSettings if nobody can listen there."""
    if address is None:
        yield
        return
    from ingest.metrics import IngestMetrics  # 0.2 s of imports, for those who ask for it
    from ingest.telemetry.endpoint import CannotListen, serve

    try:
        async with serve(IngestMetrics(health), address, variable="MOODSTREAM_INGEST_HEALTH"):
            yield
    except CannotListen as error:
        raise BadSettings(str(error)) from error
