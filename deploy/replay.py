"""`moodstream replay`: an archived feed through the whole pipeline, every post accounted for, and how right it was.

Ends by itself. Exit code 1 if posts were lost; the last line on stdout is then, too, one JSON object with --json.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from deploy.accounting import STALL_S, Account, Ledger
from deploy.archives import Archive, checked, ingest_settings_from_env, namespace_of, open_archive
from deploy.arguments import workers
from deploy.errors import Misuse, StackFailed
from deploy.local import LocalStack, open_stack
from deploy.settings import Settings
from deploy.signals import run_until_signalled
from ingest.arguments import Request
from ingest.arguments import add_arguments as add_ingest_arguments

if TYPE_CHECKING:
    from dashboard.evaluation import Evaluation
    from ingest.settings import Settings as IngestSettings

READY_TIMEOUT_S = 120.0
INTERRUPTED = 130
"""Exit code of a replay that was ended before it was through."""

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_ingest_arguments(parser)
    parser.add_argument("--namespace", metavar="NS", help="where results go (default: the file's name and the time)")
    parser.add_argument("--report", type=Path, metavar="DIR", help="folder for predictions.parquet and result.json")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep the embedded store's contents and the logs in DIR"
    )
    parser.add_argument("--workers", type=workers, default=1, help="number of worker processes (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    settings, ingest_settings = Settings.from_env(), ingest_settings_from_env()
    archive = open_archive(Request.of(options), ingest_settings)
    namespace = checked(options.namespace or _new_namespace(Path(options.source)))
    ingest_settings = replace(ingest_settings, namespace=namespace)
    return run_until_signalled(_replay(options, settings, ingest_settings, archive), when_ended=INTERRUPTED)


def _new_namespace(archive: Path) -> str:
    return f"{namespace_of(archive)}-{datetime.now(UTC):%Y%m%dt%H%M%S}"


async def _replay(
    options: argparse.Namespace, settings: Settings, ingest_settings: IngestSettings, archive: Archive
) -> int:
    report_dir = _report_folder(options.report)
    async with open_stack(kafka=settings.kafka, redis=settings.redis, keep=options.keep) as stack:
        named = {
            "MOODSTREAM_NAMESPACE": ingest_settings.namespace,
            "MOODSTREAM_KIND": "replay",
            "MOODSTREAM_SOURCE": Path(options.source).name,
        }
        for number in range(1, options.workers + 1):
            stack.run(f"worker-{number}", "inference_worker", environment=named)
        async with stack.watched():
            ledger = Ledger(stack.redis, ingest_settings.namespace, report_dir / "predictions.parquet")
            account = await _measure(stack, options, ingest_settings, archive, ledger)
        restarts = sum(service.restarts for service in stack.services)
        if account.lost:
            stack.keeps_logs = True
            log.error("%s", _explain(account, stack))
        result = await asyncio.to_thread(_result, account, report_dir, ledger.model(), restarts)
    _tell(result, report_dir, as_json=options.json)
    return 1 if account.lost else 0


async def _measure(
    stack: LocalStack,
    options: argparse.Namespace,
    ingest_settings: IngestSettings,
    archive: Archive,
    ledger: Ledger,
) -> Account:
    """Ingests and waits until every record sent is accounted for, draining the results meanwhile."""
    from ingest.report import new_run
    from ingest.service import ingest

    ingest_settings = replace(
        ingest_settings, kafka=stack.kafka, idempotence=ingest_settings.idempotence and stack.broker is None
    )
    await _workers_ready(ledger, options.workers)
    run = new_run()
    log.info("replaying %s into namespace %s, run %s", options.source, ingest_settings.namespace, run)
    began = asyncio.get_running_loop().time()
    counting = asyncio.create_task(ledger.follow(run))
    try:
        sent = await ingest(
            archive.source,
            ingest_settings,
            topics=archive.topics,
            speed=options.speed,
            limit=options.limit,
            run=run,
            on_progress=lambda report: ledger.expect(report.sent),
        )
        ledger.expect(sent.sent, final=True)
        counts = await counting
    finally:
        counting.cancel()
    return Account(report=sent, counts=counts, seconds=asyncio.get_running_loop().time() - began - ledger.idle_s)


async def _workers_ready(ledger: Ledger, workers: int) -> None:
    log.info("waiting for %s", "the worker" if workers == 1 else f"{workers} workers")
    deadline = asyncio.get_running_loop().time() + READY_TIMEOUT_S
    while await ledger.workers() < workers:  # noqa: ASYNC110  # they report to Redis, which does not call back
        if asyncio.get_running_loop().time() > deadline:
            raise StackFailed(f"no {workers} ready workers within {READY_TIMEOUT_S:.0f} s: see their logs")
        await asyncio.sleep(0.1)


def _report_folder(chosen: Path | None) -> Path:
    if chosen is None:
        return Path(tempfile.mkdtemp(prefix="moodstream-replay-"))
    try:
        chosen.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Misuse(f"--report {chosen}: {error.strerror}: name a folder that can be written to") from error
    return chosen


def _result(account: Account, report_dir: Path, model: str, restarts: int) -> dict[str, Any]:
    from dashboard.evaluation import evaluate

    judged = evaluate(report_dir / "predictions.parquet")
    result = {**account.as_dict(), "worker_restarts": restarts, **_judgement(judged), "model": model}
    result["report"] = str(report_dir.resolve())
    (report_dir / "result.json").write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2))
    return result


def _judgement(judged: Evaluation) -> dict[str, Any]:
    kept: dict[str, Any] = msgspec.to_builtins(judged)
    del kept["posts"]
    return kept


def _explain(account: Account, stack: LocalStack) -> str:
    return (
        f"{account.lost} of {account.report.read} posts are unaccounted for: nothing was scored for {STALL_S:.0f} s; "
        f"the workers' logs are in {stack.log_dir}"
    )


def _tell(result: dict[str, Any], report_dir: Path, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
        return
    shown = (
        "posts_read",
        "duplicates",
        "predictions",
        "lost",
        "dead_letters",
        "throughput_posts_per_s",
        "accuracy",
        "macro_f1",
    )
    for name in shown:
        sys.stdout.write(f"{name:24}{result[name]}\n")
    sys.stdout.write(f"{'all of it':24}{report_dir / 'result.json'}\n")
