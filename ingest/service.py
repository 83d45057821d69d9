"""Source → pictures made safe → topics matched → Kafka, in the source's order, with every item accounted for."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import uuid4

import msgspec

from ingest.contract import MAX_IMAGES, Deletion, Image, Post
from ingest.errors import BrokerUnreachable, MalformedMedia
from ingest.media import make_safe
from ingest.producer import Producer
from ingest.settings import Settings
from ingest.sources.items import Draft, Item, Picture, Skipped, Source
from ingest.topics import Subject, Topics

MEDIA_THREADS: Final = 2
MAX_WAITING: Final = 32
"""Items read ahead of the one being sent, so that pictures are decoded side by side."""
PROGRESS_EVERY_S: Final = 1.0
LOG_EVERY_S: Final = 10.0
DRAIN_TIMEOUT_S: Final = 10.0
"""A stop waits so long for Kafka to acknowledge; without a stop an idempotent producer tries for ever."""
EMPTY: Final = "neither text nor image"

log = logging.getLogger(__name__)


class IngestReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of everything a run read: read = sent + skipped + failed (an author's deletion: per partition).

    sent: records Kafka acknowledged; skipped, failed: counts by reason; warnings: what was odd about posts sent.
    """

    run: str
    namespace: str
    source: str
    read: int
    sent: int
    skipped: dict[str, int]
    failed: dict[str, int]
    warnings: dict[str, int]
    started_at: datetime
    finished_at: datetime


def new_run() -> str:
    """A name for one ingest run, unlike any other."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid4().hex[:8]}"


async def ingest(
    source: Source,
    settings: Settings,
    *,
    topics: Topics,
    speed: float | None = None,
    limit: int | None = None,
    run: str | None = None,
    on_progress: Callable[[IngestReport], None] | None = None,
    stop: asyncio.Event | None = None,
) -> IngestReport:
    """Sends a source to Kafka until it ends, `limit` items are read or `stop` is set; then flushes and reports.

    speed: event seconds per second, for replays; None is as fast as Kafka takes them.
    Raises BrokerUnreachable, and BadSource where the source turns out to be unusable on the way.
    """
    name = run or new_run()
    async with Producer(settings, run=name) as producer:
        clock = ReplayClock(speed if source.kind == "replay" else None)
        task = _Run(source, producer, topics, settings, clock, name)
        telling = asyncio.create_task(_report_regularly(task, on_progress)) if on_progress is not None else None
        try:
            await task.work(limit, stop or asyncio.Event())
        finally:
            await _cancel(telling)
        return task.report()


class _SafeImages(NamedTuple):
    images: tuple[Image, ...] = ()
    refusals: tuple[str, ...] = ()


_NO_IMAGES: Final = _SafeImages()
_Waiting = tuple[Item, asyncio.Future[_SafeImages] | None]


class _Run:
    """One run: a reader that keeps pictures decoding ahead, and a sender that keeps the order."""

    def __init__(
        self, source: Source, producer: Producer, topics: Topics, settings: Settings, clock: ReplayClock, run: str
    ) -> None:
        self._source, self._producer, self._topics, self._settings = source, producer, topics, settings
        self._clock, self._name = clock, run
        self._read = 0
        self._skipped: Counter[str] = Counter()
        self._warnings: Counter[str] = Counter()
        self._started_at = datetime.now(UTC)
        self._waiting: asyncio.Queue[_Waiting | None] = asyncio.Queue(MAX_WAITING)

    async def work(self, limit: int | None, stop: asyncio.Event) -> None:
        """Returns when all that was read is acknowledged. What the source raised is raised after that."""
        with ThreadPoolExecutor(MEDIA_THREADS, "media") as pool:
            reading = asyncio.create_task(self._read_items(pool, limit))
            sending = asyncio.create_task(self._send_items())
            stopping = asyncio.create_task(stop.wait())
            ending = draining = None
            try:
                await asyncio.wait({reading, sending, stopping}, return_when=asyncio.FIRST_COMPLETED)
                reading.cancel()
                await asyncio.wait({reading})
                ending = asyncio.create_task(self._waiting.put(None))
                draining = asyncio.create_task(self._drain(sending))
                await asyncio.wait({draining, stopping}, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.wait({draining}, timeout=DRAIN_TIMEOUT_S)
                if not draining.done():
                    problem = f"no acknowledgement within {DRAIN_TIMEOUT_S:.0f} s of the stop"
                    raise BrokerUnreachable(self._settings.kafka, problem)
                draining.result()
                if not reading.cancelled():
                    reading.result()
            finally:
                await _cancel(reading, sending, stopping, ending, draining)

    async def _drain(self, sending: asyncio.Task[None]) -> None:
        await sending
        await self._producer.flush()

    async def _read_items(self, pool: ThreadPoolExecutor, limit: int | None) -> None:
        if limit == 0:
            return
        loop = asyncio.get_running_loop()
        async with aclosing(aiter(self._source)) as items:
            async for item in items:
                if isinstance(item, Draft):
                    await self._clock.wait(item.post.created_at)
                self._read += 1
                images = None
                if isinstance(item, Draft) and item.pictures:
                    images = loop.run_in_executor(pool, _make_safe, item.pictures)
                await self._waiting.put((item, images))
                if self._read == limit:
                    return

    async def _send_items(self) -> None:
        while (waiting := await self._waiting.get()) is not None:
            item, images = waiting
            if isinstance(item, Skipped):
                log.debug("skipped %s: %s", item.item, item.reason)
                self._skipped[item.reason] += 1
            elif isinstance(item, Deletion):
                await self._producer.send(item)
            elif (post := self._finish(item, await images if images is not None else _NO_IMAGES)) is not None:
                await self._producer.send(post)

    def _finish(self, draft: Draft, safe: _SafeImages) -> Post | None:
        """The post with images and topics; None if nothing of it is left."""
        self._warnings.update(draft.warnings)
        self._warnings.update(safe.refusals)
        if not draft.post.text.strip() and not safe.images:
            self._skipped[EMPTY] += 1
            return None
        # The author's description of a picture counts as text here: a meme's words are in no other place.
        text = "\n".join((draft.post.text, *(image.alt for image in safe.images)))
        subject = Subject(text, draft.post.lang, draft.handle, bool(safe.images))
        return msgspec.structs.replace(
            draft.post, ingested_at=datetime.now(UTC), images=safe.images, topics=self._topics.match(subject)
        )

    def report(self) -> IngestReport:
        """As of now."""
        return IngestReport(
            run=self._name,
            namespace=self._settings.namespace,
            source=self._source.name,
            read=self._read,
            sent=self._producer.sent,
            skipped=dict(self._skipped),
            failed=dict(self._producer.failed),
            warnings=dict(self._warnings),
            started_at=self._started_at,
            finished_at=datetime.now(UTC),
        )


class ReplayClock:
    """Lets event time pass `speed` times as fast as it did; None does not wait at all."""

    def __init__(self, speed: float | None) -> None:
        self._speed = speed
        self._first: datetime | None = None
        self._began = 0.0

    async def wait(self, created_at: datetime) -> None:
        """Returns when the event is due; at once for the first one, and for one earlier than the clock."""
        if self._speed is None:
            return
        now = asyncio.get_running_loop().time()
        if self._first is None:
            self._first, self._began = created_at, now
        due = self._began + (created_at - self._first).total_seconds() / self._speed
        if due > now:
            await asyncio.sleep(due - now)


def _make_safe(pictures: tuple[Picture, ...]) -> _SafeImages:
    """Runs in a media thread; a refused picture leaves its reason behind."""
    images, refusals = [], []
    for picture in pictures[:MAX_IMAGES]:
        try:
            images.append(make_safe(picture.data, alt=picture.alt, width=picture.width, height=picture.height))
        except MalformedMedia as error:
            refusals.append(f"image refused: {error.reason}")
    if len(pictures) > MAX_IMAGES:
        refusals.append(f"images past the first {MAX_IMAGES} left out")
    return _SafeImages(tuple(images), tuple(refusals))


async def _report_regularly(task: _Run, on_progress: Callable[[IngestReport], None]) -> None:
    while True:
        await asyncio.sleep(PROGRESS_EVERY_S)
        on_progress(task.report())


async def _cancel(*tasks: asyncio.Task[Any] | None) -> None:
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def run(
    source: Source, settings: Settings, *, topics: Topics, speed: float | None = None, limit: int | None = None
) -> IngestReport:
    """`ingest` as a process of its own: logs its progress; SIGTERM or Ctrl-C flushes what was read and reports."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    shown = -LOG_EVERY_S

    def show(report: IngestReport) -> None:
        nonlocal shown
        if loop.time() - shown >= LOG_EVERY_S:
            shown = loop.time()
            log.info("%s: read %s, sent %s, skipped %s", report.source, report.read, report.sent, report.skipped)

    return await ingest(source, settings, topics=topics, speed=speed, limit=limit, on_progress=show, stop=stop)
