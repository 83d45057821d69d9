"""A replay's way through the pipeline: servers, workers, the archive by its clock, and every record looked for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dashboard.runs import PARTS_FOLDER, STORE_FOLDER
from deploy.accounting import Account, Ledger, redis_needed
from deploy.archives import open_archive
from deploy.conclusion import conclude, report_with_pictures
from deploy.errors import StackFailed
from deploy.local import LocalStack, open_stack
from deploy.progress import Progress
from deploy.settings import Settings
from deploy.undertaking import Undertaking
from ingest.arguments import Request
from ingest.authors import kept_key

if TYPE_CHECKING:
    from dashboard.parts import Parts
    from ingest.report import IngestReport
    from ingest.settings import Settings as IngestSettings

READY_TIMEOUT_S: Final = 120.0
SHOW_EVERY_S: Final = 0.5

log = logging.getLogger(__name__)


class Passage(NamedTuple):
    """One that came to its end: what became of every record, and the result."""

    account: Account
    result: dict[str, Any]


async def pass_through(undertaking: Undertaking, settings: Settings, ingest_settings: IngestSettings) -> Passage:
    """Starts the undertaking once servers and namespace are there, and ends it when all is scored and judged.

    Raises Misuse, DeployError and IngestError as their parts do.
    """
    undertaking.check_room()
    keep, remedy = undertaking.folder / STORE_FOLDER, undertaking.resumption
    async with (
        open_stack(settings, keep=keep, remedy=remedy) as stack,
        _namespace_of(undertaking, stack),
    ):
        undertaking.start()
        _start_workers(stack, undertaking)
        parts = _parts(undertaking)
        ledger = Ledger(stack.redis, undertaking.run.namespace, parts)
        async with stack.watched():
            account = await _measure(stack, undertaking, ingest_settings, ledger)
        restarts = sum(service.restarts for service in stack.services)
        await stack.stop_services()  # evaluation may have their memory
        with redis_needed(stack.redis):
            result = await asyncio.to_thread(conclude, undertaking, account, ledger, parts, restarts=restarts)
        problem = account.amiss(stack.log_dir, remedy)
        if problem:
            log.error("%s", problem)
        undertaking.end("failed" if problem else "done", error=problem)
        await asyncio.to_thread(report_with_pictures, undertaking, stack.redis)
    return Passage(account, result)


def _namespace_of(undertaking: Undertaking, stack: LocalStack) -> AbstractAsyncContextManager[None]:
    """An embedded store is the folder's own, and so is what is in it."""
    if stack.store is not None:
        return nullcontext()
    from deploy.claim import claimed  # with redis: not at the command's start

    return claimed(stack.redis, undertaking.run)


def _start_workers(stack: LocalStack, undertaking: Undertaking) -> None:
    named = {
        **undertaking.variables,
        "MOODSTREAM_NAMESPACE": undertaking.run.namespace,
        "MOODSTREAM_KIND": "replay",
        "MOODSTREAM_SOURCE": Path(undertaking.options.source).name,
    }
    for number in range(1, undertaking.options.workers + 1):
        stack.run(f"worker-{number}", "inference_worker", environment=named)


def _parts(undertaking: Undertaking) -> Parts:
    from dashboard.parts import Parts  # pyarrow is slow to load

    return Parts(undertaking.folder / PARTS_FOLDER)


async def _measure(
    stack: LocalStack, undertaking: Undertaking, ingest_settings: IngestSettings, ledger: Ledger
) -> Account:
    """Ingests and waits until every record sent is accounted for, draining the results meanwhile."""
    run, loop = undertaking.run, asyncio.get_running_loop()
    await _workers_ready(ledger, undertaking.options.workers)
    log.info("replaying %s into namespace %s, run %s", undertaking.options.source, run.namespace, run.run)
    began = loop.time()
    try:
        async with asyncio.TaskGroup() as group, _shown(undertaking, ledger):
            counting = group.create_task(ledger.follow(run.run))  # when it fails, so does what is being sent
            sent = await _send(undertaking, _as_begun(undertaking, ingest_settings, stack), ledger)
            undertaking.note(read=sent.read, settled=ledger.found, archive_format=sent.format)
            ledger.expect(sent.sent, final=True)
            counts = await counting
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    undertaking.note(read=sent.read, settled=ledger.found)
    return Account(report=sent, counts=counts, seconds=loop.time() - began - ledger.idle_s)


def _as_begun(undertaking: Undertaking, settings: IngestSettings, stack: LocalStack) -> IngestSettings:
    """Ingest's settings as the replay was begun with, on the servers it has now."""
    return replace(
        settings,
        namespace=undertaking.run.namespace,
        partitions=int(undertaking.run.variables["MOODSTREAM_PARTITIONS"]),
        kafka=stack.kafka,
        kafka_access=stack.kafka_access,
        idempotence=settings.idempotence and stack.broker is None,
        # An author's deletion must find what was sent before an interruption.
        author_key=settings.author_key if settings.is_author_key_given else kept_key(undertaking.folder),
    )


async def _send(undertaking: Undertaking, settings: IngestSettings, ledger: Ledger) -> IngestReport:
    """The archive to Kafka, by the replay's clock."""
    from ingest.clock import ReplayClock
    from ingest.service import ingest

    options, run = undertaking.options, undertaking.run
    archive = open_archive(Request.of(options), settings)
    clock = ReplayClock(
        options.speed, start=options.start, end=options.end, read_before=run.read, paused=undertaking.is_paused
    )

    def note(report: IngestReport) -> None:
        ledger.expect(report.sent)
        undertaking.left_out = sum(report.skipped.values()) + sum(report.failed.values())
        undertaking.note(read=report.read, settled=ledger.found)

    return await ingest(
        archive.source,
        settings,
        topics=archive.topics,
        clock=clock,
        limit=options.limit,
        run=run.run,
        began_ms=undertaking.began_ms,
        on_progress=note,
    )


@asynccontextmanager
async def _shown(undertaking: Undertaking, ledger: Ledger) -> AsyncIterator[None]:
    """Shows progress while the body runs, and notes it in the folder."""

    async def show(progress: Progress) -> None:
        while True:
            undertaking.note(read=undertaking.run.read, settled=ledger.found)
            done = ledger.found + undertaking.left_out
            progress.show(done, read=undertaking.run.read, is_paused=undertaking.is_paused())
            await asyncio.sleep(SHOW_EVERY_S)

    with Progress(undertaking.run.expected) as progress:
        showing = asyncio.create_task(show(progress))
        try:
            yield
        finally:
            showing.cancel()
            await asyncio.wait({showing})


async def _workers_ready(ledger: Ledger, workers: int) -> None:
    log.info("waiting for %s", "the worker" if workers == 1 else f"{workers} workers")
    deadline = asyncio.get_running_loop().time() + READY_TIMEOUT_S
    while await ledger.workers() < workers:  # noqa: ASYNC110  # they report to Redis, which does not call back
        if asyncio.get_running_loop().time() > deadline:
            raise StackFailed(f"no {workers} ready workers within {READY_TIMEOUT_S:.0f} s: see their logs")
        await asyncio.sleep(0.1)
