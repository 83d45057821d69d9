"""A program that ingests a made-up live source of COUNT posts, going on where it was when it is killed.

    python -m tests.ingest.resumable KAFKA NAMESPACE STATE_FOLDER

Every fifth post has a picture, some of them late; every tenth is deleted soon after. At least 8 s when not killed:
twice what six kills leave of it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Final

import ingest.media.pictures
import ingest.service
from ingest.contract import Deletion, Image, Post
from ingest.cursors import CursorFile
from ingest.media.pictures import ImageOf
from ingest.settings import Settings
from ingest.sources.items import Draft, Item, Kind, MediaLink, Picture
from ingest.sources.live import SourceState
from ingest.topics.definitions import Topics

COUNT: Final = 2000
PIXEL: Final = Image(jpeg=b"jpeg", sha256=b"s", phash=b"p", width=1, height=1)


def has_picture(number: int) -> bool:
    return number % 5 == 1


class Numbers:
    """Post after post, each with the cursor before the next one; a deletion three posts after its post."""

    name = "numbers"
    kind: Kind = "live"
    media_hosts: tuple[str, ...] = ()

    def __init__(self, cursor: str | None) -> None:
        self.cursor, self.state = cursor, SourceState("live")

    async def __aiter__(self) -> AsyncGenerator[Item, None]:
        sys.stdout.write("reading\n")
        sys.stdout.flush()
        for number in range(int(self.cursor or 0), COUNT + 3):
            now = datetime.now(UTC)
            if number < COUNT:
                post = Post(id=f"x:{number}", source="x", created_at=now, ingested_at=now, text="a tram")
                self.cursor = str(number)  # the deletion below belongs to it
                links = (MediaLink(url="https://pictures.example/1.jpg"),) if has_picture(number) else ()
                yield Draft(post=post, links=links)
            if number >= 3 and (number - 3) % 10 == 7:
                self.cursor = str(number)
                yield Deletion(source="x", deleted_at=now, ingested_at=now, post_id=f"x:{number - 3}")
            self.cursor = str(number + 1)
            await asyncio.sleep(0.004)


@asynccontextmanager
async def opened_pictures(allowed: Sequence[str], hosts: Callable[[], Sequence[str]]) -> AsyncIterator[ImageOf]:
    async def image_of(_: MediaLink | Picture) -> Image:
        await asyncio.sleep(Random().choice([0.0, 0.01, 0.2]))
        return PIXEL

    yield image_of


async def main(kafka: str, namespace: str, folder: Path) -> None:
    ingest.media.pictures.TEXT_WAITS_S = 0.05  # type: ignore[misc]
    ingest.service.CURSOR_EVERY_S = 0.05  # type: ignore[misc]
    ingest.media.pictures.opened_pictures = opened_pictures
    settings = Settings(
        kafka=kafka, namespace=namespace, partitions=3, idempotence=False, keep_all=True, cursor_dir=folder
    )
    source = Numbers(CursorFile(folder, namespace=namespace, source=Numbers.name).load())
    await ingest.service.ingest(source, settings, topics=Topics())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
