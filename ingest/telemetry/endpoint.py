"""`/healthz`, `/readyz` and `/metrics` of a service, for orchestrators and Prometheus; open only where asked for.

`/healthz`: the process is alive (200 as long as its event loop turns; restart it where nothing answers).
`/readyz`: it can do its work (200, else 503 and which check fails): give it none, but do not restart it for that.
`/metrics`: its own counts, read when asked; nothing is kept for this, and nothing is done while nobody asks.

Importing this takes 0.2 s (a web server, Prometheus' client): import it where an address is known.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import msgspec
from aiohttp import web
from prometheus_client import ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ingest.telemetry.families import gauges

CHECK_TIMEOUT_S: Final = 2.0
OK: Final = "ok"

Check = Callable[[], Awaitable[None]]
"""Returns where all is well; else raises, and the error's words are told."""

log = logging.getLogger(__name__)


class NotReady(Exception):
    """Why a service cannot do its work now."""


class CannotListen(Exception):
    """One line: the variable, the address, the remedy."""


class Observed(Protocol):
    """A service as it tells of itself. name: in its metrics' names; checks: what it needs for its work, by name."""

    @property
    def name(self) -> str: ...

    @property
    def checks(self) -> Mapping[str, Check]: ...

    def told(self) -> Mapping[str, Any]:
        """What `/healthz` says beside its status; of whatever msgspec makes JSON."""

    def families(self) -> Iterable[Metric]: ...


@asynccontextmanager
async def serve(service: Observed, address: tuple[str, int], *, variable: str) -> AsyncIterator[None]:
    """Answers at (host, port) while the body runs.

    variable: that named the address. Raises CannotListen.
    """
    endpoint = _Endpoint(service)
    app = web.Application()
    app.router.add_get("/healthz", endpoint.healthz)
    app.router.add_get("/readyz", endpoint.readyz)
    app.router.add_get("/metrics", endpoint.metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    host, port = address
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            problem = f"{variable} is {host}:{port}, where one cannot listen ({error.strerror})"
            raise CannotListen(f"{problem}: name another address, or unset it") from error
        log.info("health and metrics at http://%s:%d/metrics", host, port)
        yield
    finally:
        await runner.cleanup()


class _Endpoint:
    def __init__(self, service: Observed) -> None:
        self._service = service
        self._process = ProcessCollector(registry=None)

    async def healthz(self, _: web.Request) -> web.Response:
        return _json({"status": OK, **self._service.told()}, 200)

    async def readyz(self, _: web.Request) -> web.Response:
        outcomes = await _outcomes(self._service.checks)
        is_ready = all(outcome == OK for outcome in outcomes.values())
        return _json({"status": OK if is_ready else "not ready", "checks": outcomes}, 200 if is_ready else 503)

    async def metrics(self, request: web.Request) -> web.Response:
        outcomes = await _outcomes(self._service.checks)
        ready = gauges(
            f"moodstream_{self._service.name}_ready",
            "1 where a check of /readyz passes, else 0",
            "check",
            {name: float(outcome == OK) for name, outcome in outcomes.items()},
        )
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        families = _Families([ready, *self._service.families(), *self._process.collect()])
        return web.Response(body=encode(families), headers={"Content-Type": content_type})


class _Families(Collector):
    """What an encoder takes for a registry."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


async def _outcomes(checks: Mapping[str, Check]) -> dict[str, str]:
    """All at once, each `ok` or what is wrong."""
    outcomes = await asyncio.gather(*map(_outcome, checks.values()))
    return dict(zip(checks, outcomes, strict=True))


async def _outcome(check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await check()
    except TimeoutError:
        return f"no answer within {CHECK_TIMEOUT_S:g} s"
    except Exception as error:  # a probe tells what is wrong, whatever it is
        return str(error) or type(error).__name__
    return OK


def _json(body: Mapping[str, Any], status: int) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json")
