"""Is ingest well? `GET /healthz` says 200 or 503, and the report of the run as JSON; off unless asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec

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
        if self.report is None:
            return "starting"
        if self.report.silent_s > SILENCE_S:
            return f"Kafka has not acknowledged anything for {self.report.silent_s:.0f} s"
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
    from aiohttp import web  # 0.2 s of imports, for those who ask for it

    async def healthz(_: web.Request) -> web.Response:
        problem = health.problem()
        body = msgspec.json.encode({"status": problem or "ok", "report": health.report})
        return web.Response(status=503 if problem else 200, body=body, content_type="application/json")

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, *address).start()
        except OSError as error:
            host, port = address
            problem = f"MOODSTREAM_INGEST_HEALTH is {host}:{port}, where one cannot listen ({error.strerror})"
            raise BadSettings(f"{problem}: name another address, or unset it") from error
        yield
    finally:
        await runner.cleanup()
