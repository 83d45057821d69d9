"""`moodstream up`: broker, store, worker, dashboard and a source on one machine, until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import webbrowser
from dataclasses import replace
from pathlib import Path

from dashboard.settings import Settings as DashboardSettings
from dashboard.settings import check_login, secrets_files
from deploy.archives import checked, ingest_settings_from_env, namespace_of, open_archive
from deploy.arguments import port, workers
from deploy.errors import Misuse
from deploy.local import LocalStack, Service, open_stack
from deploy.memory import Feed, bounded_memory
from deploy.probing import jetstream_answers
from deploy.servers import free_port, is_free, until_ready
from deploy.settings import Settings
from deploy.signals import run_until_signalled
from inference_worker.redis_access import connect, masked
from ingest.arguments import Request, add_column_map, add_live_arguments, speed_of
from ingest.sources.live import LIVE

DASHBOARD_TIMEOUT_S = 60.0
ENDLESS = ("sample", *LIVE)

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source",
        default="auto",
        metavar="SOURCE",
        help=f"where posts come from: {', '.join(ENDLESS)}, or an archived FILE; auto is bluesky where it answers, "
        "else the bundled sample feed (default: %(default)s)",
    )
    parser.add_argument("--replay", type=Path, metavar="FILE", help="an archived feed instead of a source")
    add_column_map(parser)
    parser.add_argument(
        "--speed",
        type=speed_of,
        default=60.0,
        help="of an archived feed: times faster than life, or max (default: %(default)s)",
    )
    add_live_arguments(parser)
    parser.add_argument("--port", type=port, default=8501, help="port of the dashboard (default: %(default)s)")
    parser.add_argument("--headless", action="store_true", help="do not open a browser")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep results and logs in DIR; without it `up` starts empty"
    )
    parser.add_argument("--workers", type=workers, default=1, help="number of worker processes (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    settings = Settings.from_env()
    _check_dashboard()
    request = _request(options)
    if request is not None:
        _check(request)
    if not is_free(options.port):
        raise Misuse(
            f"--port {options.port}: something listens there already; give another one, for example {options.port + 1}"
        )
    return run_until_signalled(up(options, settings, request), when_ended=0)


def _request(options: argparse.Namespace) -> Request | None:
    """What to ask of ingest; None if that is found out only once it is tried (auto)."""
    if options.replay is not None and options.source != "auto":
        raise Misuse(f"--source {options.source} and --replay {options.replay}: give one of the two")
    source = str(options.replay) if options.replay is not None else options.source
    if source in ("auto", "sample") and options.column_map:
        raise Misuse("--map names the columns of --replay FILE: give that file too")
    if source == "auto":
        if options.hosts or options.channels or options.keep_all:
            raise Misuse("--host, --channel and --all are of one live source: name it, for example --source bluesky")
        return None
    is_archive = source not in ENDLESS
    return Request(
        source=source,
        column_map=dict(options.column_map),
        speed=options.speed if is_archive else None,
        hosts=tuple(options.hosts),
        channels=tuple(options.channels),
        keep_all=options.keep_all,
    )


def _check_dashboard() -> None:
    """Raises Misuse before anything is started, if the dashboard could not be."""
    try:
        if DashboardSettings.from_env().auth == "oidc":
            check_login(secrets_files())
    except ValueError as error:
        raise Misuse(str(error)) from error


def _check(request: Request) -> None:
    """Raises Misuse before anything is started: ingest itself would say it in a log file only."""
    settings = ingest_settings_from_env()
    if request.source not in ENDLESS:
        open_archive(request, settings)
        return
    from ingest.opening import open_asked

    open_asked(request, replace(settings, state_dir=None, cursor_dir=None))  # they are not this process's


async def up(options: argparse.Namespace, settings: Settings, request: Request | None) -> int:
    """Runs until it is cancelled; raises StackFailed if a part is beyond repair."""
    choosing = asyncio.create_task(_live_or_sample()) if request is None else None
    try:
        async with open_stack(settings, keep=options.keep) as stack:
            if choosing is not None:
                request = await choosing
            assert request is not None
            await _run_services(stack, options, settings, request)
    finally:
        if choosing is not None:
            choosing.cancel()
    return 0


async def _run_services(stack: LocalStack, options: argparse.Namespace, settings: Settings, request: Request) -> None:
    is_replay = request.source not in ENDLESS
    kind = "live" if request.is_live else "replay" if is_replay else "sample"
    namespace = checked(settings.namespace or (namespace_of(Path(request.source)) if is_replay else kind))
    named = {
        "MOODSTREAM_NAMESPACE": namespace,
        "MOODSTREAM_KIND": kind,
        "MOODSTREAM_SOURCE": Path(request.source).name,
        # Where ingest says how it is, and where the dashboard asks.
        "MOODSTREAM_INGEST_HEALTH": settings.ingest_health or f"127.0.0.1:{free_port()}",
    }
    log.info("logs are in %s", stack.log_dir)
    if stack.broker is not None or stack.store is not None:  # with these other commands look into it
        reached = "MOODSTREAM_KAFKA=%s MOODSTREAM_REDIS=%s MOODSTREAM_NAMESPACE=%s"
        log.info(reached, stack.kafka, masked(stack.redis), namespace)
    dashboard = stack.run("dashboard", "dashboard", "--port", str(options.port), environment=named)
    stack.run("alerts", "dashboard.alerts", environment=named)
    worker_services = [
        stack.run(f"worker-{number}", "inference_worker", environment=named | _worker_health(settings, number))
        for number in range(1, options.workers + 1)
    ]
    ingest = stack.run(
        "ingest",
        "ingest",
        *request.command_line(),
        environment=named | _cursors(stack, options.keep),
        keep_running=not is_replay,
    )
    of_ingest = replace(
        ingest_settings_from_env(), kafka=stack.kafka, kafka_access=stack.kafka_access, namespace=namespace
    )
    feed = None if is_replay else Feed(stack, ingest, worker_services, of_ingest)  # an archive is not begun twice
    async with stack.watched(), bounded_memory(stack.broker, settings.broker_max_mb, feed):
        await _announce(dashboard, options, settings)
        await _first_results(stack.redis, namespace)
        await asyncio.Event().wait()


async def _live_or_sample() -> Request:
    """While broker and store start, so that it takes no time where there is an answer."""
    from ingest.sources.bluesky import PUBLIC_HOSTS

    if await jetstream_answers(PUBLIC_HOSTS):
        log.info("source: Bluesky, live (--source sample shows the bundled feed)")
        return Request(source="bluesky")
    log.info("source: the bundled sample feed, as no public Bluesky server can be reached from here")
    return Request(source="sample")


def _worker_health(settings: Settings, number: int) -> dict[str, str]:
    """Several workers of one machine answer at ports in a row."""
    if settings.worker_health is None:
        return {}
    host, _, first = settings.worker_health.rpartition(":")
    if not first.isdecimal():
        raise Misuse(f"MOODSTREAM_WORKER_HEALTH={settings.worker_health!r}: use host:port, for example 127.0.0.1:9102")
    return {"MOODSTREAM_WORKER_HEALTH": f"{host}:{int(first) + number - 1}"}


def _cursors(stack: LocalStack, keep: Path | None) -> dict[str, str]:
    """Cursors live as long as the store: an empty one starts with what is said now."""
    if stack.store is None:
        return {}
    folder = keep.resolve() if keep is not None else stack.log_dir
    return {"MOODSTREAM_CURSORS": str(folder / "cursors")}


async def _announce(dashboard: Service, options: argparse.Namespace, settings: Settings) -> None:
    """Says where the dashboard is as soon as it answers, and shows it."""
    url = f"http://localhost:{options.port}"
    await until_ready(dashboard.child, lambda: page_answers(options.port), DASHBOARD_TIMEOUT_S)
    sys.stdout.write(f"Moodstream is running: {url} (Ctrl-C stops everything)\n")
    sys.stdout.flush()
    if not options.headless and settings.has_display:
        await asyncio.to_thread(webbrowser.open, url)


async def _first_results(redis_url: str, namespace: str) -> None:
    """Says when the first post is scored: the page has numbers from then on."""
    from redis.exceptions import RedisError  # slow to load: not at the command's start

    from inference_worker.contract import Results, UnknownNamespace  # with redis: not at the command's start

    def scored() -> int:
        try:
            return results.counters().get("scored", 0)
        except (UnknownNamespace, RedisError):
            return 0

    with connect(redis_url) as redis:
        results = Results(redis, namespace)
        while not await asyncio.to_thread(scored):  # noqa: ASYNC110  # Redis does not call back
            await asyncio.sleep(0.2)
    log.info("the first posts are scored")


async def page_answers(port: int) -> bool:
    """The dashboard's own health check says ok."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /_stcore/health HTTP/1.0\r\nHost: localhost\r\n\r\n")
        status = await asyncio.wait_for(reader.readline(), 5)
        writer.close()
    except (OSError, TimeoutError):
        return False
    return b" 200 " in status
