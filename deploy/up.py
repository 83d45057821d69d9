"""`moodstream up`: broker, store, worker, dashboard and a source on one machine, until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import webbrowser
from pathlib import Path

from deploy.archives import checked, ingest_settings_from_env, namespace_of, open_archive
from deploy.arguments import port, workers
from deploy.errors import Misuse
from deploy.local import LocalStack, Service, open_stack
from deploy.servers import is_free, until_ready
from deploy.settings import Settings
from deploy.signals import run_until_signalled
from ingest.arguments import column_of, speed_of

DASHBOARD_TIMEOUT_S = 60.0

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source",
        choices=("auto", "sample"),
        default="auto",
        help="where posts come from; auto is the bundled sample feed (default: %(default)s)",
    )
    parser.add_argument("--replay", type=Path, metavar="FILE", help="an archived feed instead of a source")
    parser.add_argument(
        "--map",
        nargs="+",
        action="extend",
        type=column_of,
        default=[],
        dest="column_map",
        metavar="FIELD=COLUMN",
        help="with --replay: columns of a CSV file, as `moodstream replay` takes them",
    )
    parser.add_argument(
        "--speed",
        type=speed_of,
        default=60.0,
        help="with --replay: times faster than life, or max (default: %(default)s)",
    )
    parser.add_argument("--port", type=port, default=8501, help="port of the dashboard (default: %(default)s)")
    parser.add_argument("--headless", action="store_true", help="do not open a browser")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep results and logs in DIR; without it `up` starts empty"
    )
    parser.add_argument("--workers", type=workers, default=1, help="number of worker processes (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    settings = Settings.from_env()
    if options.replay is not None and options.source != "auto":
        raise Misuse(f"--source {options.source} and --replay {options.replay}: give one of the two")
    if options.replay is not None:
        asked = argparse.Namespace(
            source=str(options.replay), speed=options.speed, split=None, column_map=options.column_map, topics=None
        )
        open_archive(asked, ingest_settings_from_env())
    elif options.column_map:
        raise Misuse("--map names the columns of --replay FILE: give that file too")
    if not is_free(options.port):
        raise Misuse(
            f"--port {options.port}: something listens there already; give another one, for example {options.port + 1}"
        )
    return run_until_signalled(up(options, settings), when_ended=0)


async def up(options: argparse.Namespace, settings: Settings) -> int:
    """Runs until it is cancelled; raises StackFailed if a part is beyond repair."""
    is_replay = options.replay is not None
    namespace = checked(settings.namespace or (namespace_of(options.replay) if is_replay else "sample"))
    named = {
        "MOODSTREAM_NAMESPACE": namespace,
        "MOODSTREAM_KIND": "replay" if is_replay else "sample",
        "MOODSTREAM_SOURCE": options.replay.name if is_replay else "sample",
    }
    async with open_stack(kafka=settings.kafka, redis=settings.redis, keep=options.keep) as stack:
        log.info("logs are in %s", stack.log_dir)
        dashboard = stack.run("dashboard", "dashboard", "--port", str(options.port), environment=named)
        for number in range(1, options.workers + 1):
            stack.run(f"worker-{number}", "inference_worker", environment=named)
        _start_source(stack, options, named)
        async with stack.watched():
            await _announce(dashboard, options, settings)
            await _first_results(stack.redis, namespace)
            await asyncio.Event().wait()
    return 0


def _start_source(stack: LocalStack, options: argparse.Namespace, named: dict[str, str]) -> None:
    if options.replay is None:
        log.info("source: the bundled sample feed")
        stack.run("ingest", "ingest", "sample", environment=named)
        return
    speed = "max" if options.speed is None else str(options.speed)
    columns = [f"{field}={column}" for field, column in options.column_map]
    given = [str(options.replay), "--speed", speed, *(["--map", *columns] if columns else [])]
    log.info("source: %s at speed %s", options.replay, speed)
    stack.run("ingest", "ingest", *given, environment=named, keep_running=False)


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
    from redis import Redis
    from redis.exceptions import RedisError

    from inference_worker.contract import Results, UnknownNamespace  # with redis: not at the command's start

    def scored() -> int:
        try:
            return results.counters().get("scored", 0)
        except (UnknownNamespace, RedisError):
            return 0

    with Redis.from_url(redis_url) as redis:
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
