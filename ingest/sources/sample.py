"""The bundled sample feed: posts the project wrote and drew itself, so that everything runs without a network.

Its three hours are played in ten minutes, over and over. The first pass comes at once, as the ten minutes just gone,
so that there is something to see from the first second; later passes come in real time. Every pass has new ids.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Final

import msgspec

from ingest.errors import BadSource
from ingest.sources.archive import OwnArchive
from ingest.sources.items import Draft, Item, Kind

FEED: Final = Path(__file__).parents[1] / "sample" / "posts.jsonl.zst"
PASS: Final = timedelta(minutes=10)
SPAN: Final = timedelta(hours=3)


class SampleFeed:
    """The sample feed as of now, without end; `path` is an archive of ours within SPAN of event time."""

    kind: Kind = "sample"

    def __init__(self, path: Path = FEED) -> None:
        self.name = "sample"
        self._path = path

    async def __aiter__(self) -> AsyncGenerator[Item, None]:
        drafts = await asyncio.to_thread(self._load)
        begin = datetime.now(UTC) - PASS
        for number in count():
            for draft in _rebased(drafts, begin + number * PASS):
                if number > 0:
                    await asyncio.sleep((draft.post.created_at - datetime.now(UTC)).total_seconds())
                yield draft

    def _load(self) -> list[Draft]:
        drafts = sorted(
            (item for item in OwnArchive(self._path).items() if isinstance(item, Draft)),
            key=lambda draft: draft.post.created_at,
        )
        if not drafts:
            raise BadSource(f"{self._path} holds no posts: reinstall Moodstream, or run python -m ingest.sample.draw")
        return drafts


def _rebased(drafts: list[Draft], begin: datetime) -> list[Draft]:
    """The feed squeezed into the PASS that starts at `begin`, with ids of its own."""
    first = drafts[0].post.created_at
    pass_name = int(begin.timestamp())
    return [
        msgspec.structs.replace(
            draft,
            post=msgspec.structs.replace(
                draft.post,
                id=f"sample:{pass_name}-{draft.post.id.removeprefix('sample:')}",
                source="sample",
                created_at=begin + (draft.post.created_at - first) * (PASS / SPAN),
                ingested_at=datetime.now(UTC),
            ),
        )
        for draft in drafts
    ]
