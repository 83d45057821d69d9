"""What became of everything a run read."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import msgspec

from ingest.sources.live import SourceState

EMPTY: Final = "neither text nor image"
MAX_SAMPLES: Final = 5
MAX_SAMPLE_CHARS: Final = 200
MAX_SAMPLED_REASONS: Final = 100


class IngestReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of everything a run read: read + copies = sent + skipped + failed.

    (A post whose pictures came late is sent twice.) copies: an author's deletion is sent once a partition.
    sent: records Kafka acknowledged; skipped, failed: counts by reason; warnings: what was odd about posts sent;
    media: what became of pictures to be fetched, and of the words in pictures, by outcome;
    waited_s: how long reading was held up by a slow Kafka;
    silent_s: how long Kafka has not acknowledged anything, though something waits for that;
    state: how a live source is, cursor_saved_at: when its cursor was last saved, None for others;
    format: what an archive was found to be;
    samples: by reason, the places of the first few items skipped for it ("row 17: …").
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
    copies: int = 0
    media: dict[str, int] = {}
    waited_s: float = 0.0
    silent_s: float = 0.0
    state: SourceState | None = None
    cursor_saved_at: datetime | None = None
    format: str = ""
    samples: dict[str, list[str]] = {}


class Tally:
    """The counts of a run as it goes."""

    def __init__(self) -> None:
        self.started_at = datetime.now(UTC)
        self.read = 0
        self.skipped: Counter[str] = Counter()
        self.warnings: Counter[str] = Counter()
        self.media: Counter[str] = Counter()
        self.cursor_saved_at: datetime | None = None
        self.samples: dict[str, list[str]] = {}

    def skip(self, reason: str, item: str = "") -> None:
        """Counts an item that makes no post, and keeps the first few of each reason by name."""
        self.skipped[reason] += 1
        if not item or (reason not in self.samples and len(self.samples) == MAX_SAMPLED_REASONS):
            return
        places = self.samples.setdefault(reason, [])
        if len(places) < MAX_SAMPLES:
            places.append(item[:MAX_SAMPLE_CHARS])


def new_run() -> str:
    """A name for one ingest run, unlike any other."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid4().hex[:8]}"


def snapshot(state: SourceState) -> SourceState:
    """The state as of now, which the source goes on to change."""
    return replace(state, gaps=[*state.gaps], skipped=Counter(state.skipped))
