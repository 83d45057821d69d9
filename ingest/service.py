"""One source to Kafka, from opening the producer to the report; with every item accounted for."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from ingest.archive_run import ArchiveRun
from ingest.clock import ReplayClock
from ingest.cursors import CursorFile
from ingest.errors import BadSettings, BadTopics, BrokerUnreachable, IngestError
from ingest.health import Health, serve_health
from ingest.kafka_access import awaited, broker_error
from ingest.media.words import Words, opened_words
from ingest.producer import Producer, ensure_topic
from ingest.progress import ProgressLog
from ingest.report import IngestReport, Tally, new_run, snapshot
from ingest.settings import Settings
from ingest.sink import Sink
from ingest.sources.items import LiveSource, Source
from ingest.tasks import cancel
from ingest.topics.definitions import Topics, TopicsFile

if TYPE_CHECKING:
    from ingest.live_run import LiveRun

PROGRESS_EVERY_S: Final = 1.0
TOPICS_EVERY_S: Final = 2.0
CURSOR_EVERY_S: Final = 1.0
DRAIN_TIMEOUT_S: Final = 10.0
"""A stop waits so long for Kafka to acknowledge; without a stop an idempotent producer tries for ever."""

OnProgress = Callable[[IngestReport], None]

log = logging.getLogger(__name__)


class Run(Protocol):
    """How one kind of source gets to the sink."""

    topics: Topics
    tally: Tally

    async def read(self, limit: int | None) -> None: ...
    async def finish(self, *, stopped: bool) -> None: ...
    async def close(self) -> None: ...


async def ingest(
    source: Source,
    settings: Settings,
    *,
    topics: Topics,
    topics_file: TopicsFile | None = None,
    clock: ReplayClock | None = None,
    limit: int | None = None,
    run: str | None = None,
    began_ms: int | None = None,
    on_progress: OnProgress | None = None,
    stop: asyncio.Event | None = None,
    sink: AbstractAsyncContextManager[Sink] | None = None,
) -> IngestReport:
    """Sends a source to Kafka until it ends, `limit` items are read or `stop` is set; then flushes and reports.

    sink: where to send it instead; topics_file: read again whenever it is edited; clock: paces a replay, else it goes
    as fast as Kafka takes it; began_ms: see Producer.
    Raises BrokerUnreachable, and BadSource where the source turns out to be unusable on the way.
    """
    name = run or new_run()
    async with sink or Producer(settings, run=name, began_ms=began_ms) as taking, AsyncExitStack() as stack:
        if form := getattr(source, "format", ""):
            log.info("%s is read as %s", source.name, form)
        words = await stack.enter_async_context(opened_words()) if settings.reads_words else None
        going = await _run_of(source, settings, taking, topics, clock, words, stack)
        stack.push_async_callback(going.close)

        def report() -> IngestReport:
            return _report(name, source, settings, taking, going.tally, words)

        if on_progress is not None:
            await stack.enter_async_context(_beside(_report_regularly(report, on_progress)))
        if topics_file is not None:
            await stack.enter_async_context(_beside(_reload_regularly(topics_file, going, source)))
        await _work(going, settings, limit, stop or asyncio.Event())
        return report()


async def _run_of(
    source: Source,
    settings: Settings,
    sink: Sink,
    topics: Topics,
    clock: ReplayClock | None,
    words: Words | None,
    stack: AsyncExitStack,
) -> Run:
    if source.kind != "live":
        return ArchiveRun(source, sink, topics, clock=clock or ReplayClock(), words=words)
    from ingest.live_run import LiveRun  # with an HTTP client and a process pool: not for archives
    from ingest.media.pictures import opened_pictures

    live = cast(LiveSource, source)
    image_of = await stack.enter_async_context(opened_pictures(settings.media_hosts, lambda: live.media_hosts))
    going = LiveRun(live, sink, topics, image_of=image_of, keep_all=settings.keep_all, words=words)
    if settings.cursor_dir is not None:
        file = CursorFile(settings.cursor_dir, namespace=settings.namespace, source=source.name)
        stack.enter_context(file.locked())
        await stack.enter_async_context(_saved(file, going))
    return going


async def _work(going: Run, settings: Settings, limit: int | None, stop: asyncio.Event) -> None:
    """Returns when all that was read is acknowledged. What the source raised is raised after that."""
    reading = asyncio.create_task(going.read(limit))
    stopping = asyncio.create_task(stop.wait())
    finishing = None
    try:
        await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopped = not reading.done()
        reading.cancel()
        await asyncio.wait({reading})
        if not reading.cancelled() and isinstance(reading.exception(), BrokerUnreachable):
            reading.result()
        finishing = asyncio.create_task(going.finish(stopped=stopped))
        await asyncio.wait({finishing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({finishing}, timeout=DRAIN_TIMEOUT_S)
        if not finishing.done():
            problem = f"no acknowledgement within {DRAIN_TIMEOUT_S:.0f} s of the stop"
            raise BrokerUnreachable(settings.kafka, problem)
        finishing.result()
        if not reading.cancelled():
            reading.result()
    finally:
        await cancel(reading, stopping, finishing)


def _report(
    run: str, source: Source, settings: Settings, sink: Sink, tally: Tally, words: Words | None
) -> IngestReport:
    return IngestReport(
        run=run,
        namespace=settings.namespace,
        source=source.name,
        read=tally.read,
        sent=sink.sent,
        skipped=dict(tally.skipped),
        failed=dict(sink.failed),
        warnings=dict(tally.warnings),
        started_at=tally.started_at,
        finished_at=datetime.now(UTC),
        copies=sink.copies,
        media=dict(tally.media + words.counts if words is not None else tally.media),
        waited_s=round(sink.waited_s, 3),
        silent_s=round(sink.silent_s, 3),
        state=snapshot(cast(LiveSource, source).state) if source.kind == "live" else None,
        cursor_saved_at=tally.cursor_saved_at,
        format=getattr(source, "format", ""),  # of archives
        samples={reason: [*places] for reason, places in tally.samples.items()},
    )


async def _report_regularly(report: Callable[[], IngestReport], on_progress: OnProgress) -> None:
    while True:
        await asyncio.sleep(PROGRESS_EVERY_S)
        on_progress(report())


async def _reload_regularly(file: TopicsFile, going: Run, source: Source) -> None:
    """A bad edit keeps the topics there were, and says so once."""
    follow = getattr(source, "follow", None)  # of upstreams that filter by themselves
    while True:
        await asyncio.sleep(TOPICS_EVERY_S)
        try:
            if not await asyncio.to_thread(file.changed):
                continue
        except BadTopics as error:
            log.error("the old topics stay: %s", error)
            continue
        going.topics = file.topics
        log.info("topics read again: %s", ", ".join(file.topics.names) or "none")
        if follow is not None:
            try:
                await follow(file.topics.queries)
            except IngestError as error:
                log.error("%s does not take the new topics: %s", source.name, error)


@asynccontextmanager
async def _saved(file: CursorFile, going: LiveRun) -> AsyncIterator[None]:
    """Saves the cursor regularly, and at the end, whatever ends it: it never is ahead of Kafka."""

    saving: asyncio.Task[None] | None = None

    async def save_regularly() -> None:
        nonlocal saving
        while True:
            await asyncio.sleep(CURSOR_EVERY_S)
            saving = asyncio.create_task(asyncio.to_thread(file.save, going.cursor))
            try:
                await asyncio.shield(saving)  # its thread cannot be cancelled
            except BadSettings as error:  # a full disk may have room again
                log.error("%s", error)
            going.tally.cursor_saved_at = file.saved_at

    try:
        async with _beside(save_regularly()):
            yield
    finally:
        if saving is not None:
            await asyncio.wait({saving})
        file.save(going.cursor)


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs beside the body until that ends."""
    task = asyncio.create_task(work)
    task.add_done_callback(_tell_failure)
    try:
        yield
    finally:
        await cancel(task)


def _tell_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("%s has ended", task.get_name(), exc_info=error)


async def _until_kafka_answers(settings: Settings, stop: asyncio.Event) -> None:
    """Raises BrokerUnreachable if it does not within `start_timeout_s`."""
    from aiokafka.errors import KafkaError

    async def ask() -> BrokerUnreachable | None:
        try:
            await ensure_topic(settings)
        except (KafkaError, OSError) as error:
            return await broker_error(error, settings.kafka, settings.kafka_access)
        return None

    if (trouble := await awaited(ask, within_s=settings.start_timeout_s, stop=stop)) is not None:
        raise trouble


async def run(
    source: Source,
    settings: Settings,
    *,
    topics: Topics,
    topics_file: TopicsFile | None = None,
    speed: float | None = None,
    limit: int | None = None,
    sink: AbstractAsyncContextManager[Sink] | None = None,
) -> IngestReport:
    """`ingest` as a process of its own: logs its progress; SIGTERM or Ctrl-C flushes what was read and reports.

    speed: event seconds per second, for replays.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    health, progress = Health(), ProgressLog()

    def show(report: IngestReport) -> None:
        health.report = report
        progress.show(report)

    async with serve_health(health, settings.health):
        if sink is None:
            await _until_kafka_answers(settings, stop)
        return await ingest(
            source,
            settings,
            topics=topics,
            topics_file=topics_file,
            clock=ReplayClock(speed) if source.kind == "replay" else None,
            limit=limit,
            on_progress=show,
            stop=stop,
            sink=sink,
        )
