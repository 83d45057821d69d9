"""The archive a command was given and the namespace of it, checked before anything is started."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.errors import Misuse
from inference_worker.contract import check_namespace

if TYPE_CHECKING:
    from ingest.arguments import Request
    from ingest.settings import Settings as IngestSettings
    from ingest.sources.items import Source
    from ingest.topics.definitions import Topics


@dataclass(frozen=True)
class Archive:
    """A source that ends by itself, and the topics its posts are tagged with."""

    source: Source
    topics: Topics


def ingest_settings_from_env() -> IngestSettings:
    from ingest.settings import Settings as IngestSettings  # ingest loads Pillow and lark: not at the command's start

    return IngestSettings.from_env()


def open_archive(request: Request, settings: IngestSettings) -> Archive:
    """Raises Misuse, ingest's or ours, if it cannot be replayed."""
    from ingest.opening import open_asked

    if request.is_live or request.source == "sample":
        raise Misuse(f"{request.source!r} never ends: `moodstream up --source {request.source}` shows it")
    asked = open_asked(request, settings)
    return Archive(asked.source, asked.topics.topics)


def items_in(request: Request, settings: IngestSettings, limit: int | None) -> int | None:
    """How many items will be read, for the progress bar: None where only reading all of it would tell."""
    from ingest.sources.items import Counted

    source = open_archive(request, settings).source
    counts = [count for count in (limit, source.count() if isinstance(source, Counted) else None) if count is not None]
    return min(counts, default=None)


def namespace_of(archive: Path) -> str:
    """A file name as a namespace: `US airline (2015).csv` → `us-airline-2015`."""
    return re.sub(r"[^a-z0-9]+", "-", archive.stem.lower()).strip("-")[:40] or "replay"


def checked(namespace: str) -> str:
    """The namespace itself; raises Misuse if it will not do."""
    try:
        return check_namespace(namespace)
    except ValueError as error:
        raise Misuse(str(error)) from error
