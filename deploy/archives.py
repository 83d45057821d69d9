"""The archive a command was given and the namespace of it, checked before anything is started."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.errors import Misuse
from inference_worker.contract import check_namespace

if TYPE_CHECKING:
    from ingest.settings import Settings as IngestSettings
    from ingest.sources.items import Source
    from ingest.topics import Topics


@dataclass(frozen=True)
class Archive:
    """A source that ends by itself, and the topics its posts are tagged with."""

    source: Source
    topics: Topics


def ingest_settings_from_env() -> IngestSettings:
    from ingest.settings import Settings as IngestSettings  # ingest loads Pillow and lark: not at the command's start

    return IngestSettings.from_env()


def open_archive(options: argparse.Namespace, settings: IngestSettings) -> Archive:
    """`options` as `ingest.arguments` leaves them. Raises Misuse, ingest's or ours, if it cannot be replayed."""
    from ingest.authors import AuthorHash
    from ingest.sources.detect import SourceOptions, open_source
    from ingest.topics import load_topics

    topics = load_topics(options.topics or settings.topics_path)
    wanted = SourceOptions(
        authors=AuthorHash(settings.author_key),
        split=options.split,
        column_map=dict(options.column_map),
        in_time_order=options.speed is not None,
    )
    source = open_source(options.source, wanted)
    if source.kind != "replay":
        raise Misuse(f"{options.source!r} never ends: `moodstream up --source {options.source}` shows it")
    return Archive(source, topics)


def namespace_of(archive: Path) -> str:
    """A file name as a namespace: `US airline (2015).csv` → `us-airline-2015`."""
    return re.sub(r"[^a-z0-9]+", "-", archive.stem.lower()).strip("-")[:40] or "replay"


def checked(namespace: str) -> str:
    """The namespace itself; raises Misuse if it will not do."""
    try:
        return check_namespace(namespace)
    except ValueError as error:
        raise Misuse(str(error)) from error
