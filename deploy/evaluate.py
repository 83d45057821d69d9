"""`moodstream evaluate`: a model on an archive, without Kafka and Redis; judged as a replay is, to the row.

The same reader, the same safe pictures and the same predictor as in a replay, in one process.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from collections import Counter, defaultdict
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dashboard.runs import PARTS_FOLDER
from deploy.accounting import Account, settled
from deploy.archives import Archive, ingest_settings_from_env, namespace_of, open_archive
from deploy.beginning import begin
from deploy.conclusion import write_result
from deploy.settings import Settings
from deploy.signals import INTERRUPTED
from deploy.undertaking import Undertaking
from deploy.verdict import add_judging, unmet
from inference_worker.errors import Unscorable
from ingest.arguments import Request, add_column_map, number_of_items
from ingest.errors import IngestError

if TYPE_CHECKING:
    from dashboard.parts import Parts
    from inference_worker.predictor import Predictor
    from inference_worker.preprocess import Example
    from ingest.contract import Deletion, Post, Record
    from ingest.producer import Settled
    from ingest.settings import Settings as IngestSettings

ROWS_PER_PART: Final = 5_000
BATCH: Final = 32

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="PATH", dest="source", help="an archive, as of `replay`")
    parser.add_argument("--model", type=Path, metavar="DIR", help="artifact to use instead of MOODSTREAM_MODEL")
    parser.add_argument("--split", help="only this split of a data set: train, val or test")
    add_column_map(parser)
    parser.add_argument("--limit", type=number_of_items, help="stop after reading so many items")
    parser.add_argument("--report", type=Path, metavar="DIR", help="folder of the results (default: as of a replay)")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object, last on stdout")
    add_judging(parser)
    # What a replay has beside these, as its folder tells.
    parser.set_defaults(
        speed=None, hosts=[], channels=[], keep_all=False, topics=None, start=None, end=None, workers=0, keep=False
    )


def run(options: argparse.Namespace) -> int:
    from dashboard.report.render import write_report
    from deploy.classify import load_predictor

    settings, ingest_settings = Settings.from_env(), ingest_settings_from_env()
    if options.model is not None:
        settings = replace(settings, outcome={**settings.outcome, "MOODSTREAM_MODEL": str(options.model.absolute())})
    archive = open_archive(Request.of(options), ingest_settings)
    predictor = load_predictor(options.model)
    namespace = f"{namespace_of(Path(options.source))}-{datetime.now(UTC):%Y%m%dt%H%M%S}"
    with ExitStack() as stack:
        undertaking = begin(options, settings, ingest_settings, namespace, stack, needs_servers=False)
        stack.enter_context(undertaking.room_needed())
        undertaking.start()
        try:
            result = asyncio.run(_evaluate(undertaking, archive, ingest_settings, predictor))
        except IngestError as error:
            undertaking.end("failed", error=str(error))
            raise
        except KeyboardInterrupt:
            undertaking.end("interrupted")
            return INTERRUPTED
        undertaking.end("done")
        undertaking.clean()
        write_report(undertaking.folder, price_per_machine_hour=options.hourly_price)
        code = unmet(undertaking.folder, options.fail_under)
    if options.json:
        sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
        return code
    for name in ("posts_read", "duplicates", "withdrawn", "predictions", "accuracy", "macro_f1", "report"):
        sys.stdout.write(f"{name:24}{result[name]}\n")
    return code


async def _evaluate(
    undertaking: Undertaking, archive: Archive, ingest_settings: IngestSettings, predictor: Predictor
) -> dict[str, Any]:
    from dashboard.parts import Parts
    from ingest.service import ingest

    parts = Parts(undertaking.folder / PARTS_FOLDER)
    scoring = Scoring(predictor, parts)
    began_s = time.monotonic()
    report = await ingest(
        archive.source,
        replace(ingest_settings, namespace=undertaking.run.namespace),
        topics=archive.topics,
        limit=undertaking.options.limit,
        run=undertaking.run.run,
        sink=scoring,
    )
    account = Account(report=report, counts=dict(scoring.counts), seconds=time.monotonic() - began_s)
    for line in account.left_out():
        log.warning("%s", line)
    rows = parts.merge(undertaking.predictions, withdrawn=lambda ids: scoring.gone.intersection(ids))
    undertaking.note(read=report.read, settled=settled(account.counts), archive_format=report.format)
    return write_result(undertaking, account, rows, model=predictor.name)


class Scoring:
    """A sink that scores what it is sent, and counts it as the worker's store would; use as `async with`.

    counts: see `Results.counters`; gone: posts that were deleted, or whose author was to be forgotten at that time.
    """

    def __init__(self, predictor: Predictor, parts: Parts) -> None:
        self.sent = self.copies = 0
        self.failed: Counter[str] = Counter()
        self.waited_s = self.silent_s = 0.0
        self.counts: Counter[str] = Counter()
        self.gone: set[str] = set()
        self._predictor, self._parts = predictor, parts
        self._revisions: dict[str, int] = {}
        self._of_author: dict[str, set[str]] = defaultdict(set)
        self._lanes: dict[str, list[tuple[Post, Example]]] = defaultdict(list)
        self._scored: list[Any] = []
        self._written = 0

    async def __aenter__(self) -> Scoring:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    async def send(self, record: Record, settled: Settled | None = None, *, number: int | None = None) -> None:
        from ingest.contract import Deletion

        self.sent += 1
        if isinstance(record, Deletion):
            self._delete(record)
        elif record.id in self.gone:
            self.counts["stale"] += 1
        elif (known := self._revisions.get(record.id)) is not None and record.revision <= known:
            self.counts["duplicates" if record.revision == known else "stale"] += 1
        else:
            await asyncio.to_thread(self._take, record, is_edit=known is not None)
        if settled is not None:
            settled()

    async def flush(self) -> None:
        """Scores and writes what is left."""
        for waiting in self._lanes.values():
            await asyncio.to_thread(self._score, waiting)
        self._write()

    def _delete(self, deletion: Deletion) -> None:
        """A post's, or that of all an author has posted so far; what comes later is judged."""
        if deletion.post_id is not None:
            self.counts["duplicates" if deletion.post_id in self.gone else "deletions"] += 1
            self.gone.add(deletion.post_id)
            return
        self.counts["deletions"] += 1
        forgotten = self._of_author.pop(deletion.author or "", set()) - self.gone
        self.counts["forgotten"] += len(forgotten)
        self.gone |= forgotten

    def _take(self, post: Post, *, is_edit: bool) -> None:
        try:
            example = self._predictor.prepare(post)
        except Unscorable:
            self.counts["dead_letters"] += 1
            return
        self._revisions[post.id] = post.revision
        if post.author is not None:
            self._of_author[post.author].add(post.id)
        self.counts["edits" if is_edit else "scored"] += 1
        waiting = self._lanes[example.lane]
        waiting.append((post, example))
        if len(waiting) >= BATCH:
            self._score(waiting)

    def _score(self, waiting: list[tuple[Post, Example]]) -> None:
        from inference_worker.pipeline import prediction_of

        if waiting:
            scored = self._predictor.predict([example for _, example in waiting])
            now = datetime.now(UTC)
            self._scored += [
                prediction_of(post, example, scores, now, self._predictor)
                for (post, example), scores in zip(waiting, scored, strict=True)
            ]
            waiting.clear()
        if len(self._scored) >= ROWS_PER_PART:
            self._write()

    def _write(self) -> None:
        if self._scored:
            self._written += 1
            self._parts.write(0, f"{self._written}-0", self._scored)
            self._scored = []
