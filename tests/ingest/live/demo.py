"""Bluesky on this machine: a Jetstream with posts being written now, and the CDN that has their pictures.

The posts and pictures are those of the bundled sample feed, so the whole live path can be seen without a network:

    python -m tests.ingest.live.demo --port 7010 --media-port 7011
    MOODSTREAM_BLUESKY_CDN=http://127.0.0.1:7011 MOODSTREAM_MEDIA_HOSTS=127.0.0.1:7011 \\
        moodstream up --source bluesky --host ws://127.0.0.1:7010
"""

from __future__ import annotations

import argparse
import asyncio
import random
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from aiohttp import web

from ingest.sources.archive import OwnArchive
from ingest.sources.items import Draft
from ingest.sources.sample import FEED
from tests.ingest.live.feed import AUTHORS, Feed
from tests.ingest.live.http_stream import http_server
from tests.ingest.live.jetstream import Happening, Jetstream, cid, commit, did, image, microseconds, post_record, tid

PAST: Final = timedelta(minutes=2)
"""What is there from the first second on."""
PICTURE_PATH: Final = "/img/feed_thumbnail/plain/{did}/{cid}@jpeg"


class Demo:
    """Sample posts in random order, as Bluesky would tell of them; every 40th is deleted a little later."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self.pictures: list[bytes] = []
        self._records: list[dict[str, Any]] = []
        for draft in OwnArchive(FEED).items():
            if isinstance(draft, Draft):
                self._records.append(self._record_of(draft))
        self.feed = Feed()

    def _record_of(self, draft: Draft) -> dict[str, Any]:
        images = []
        for picture in draft.pictures:
            images.append(image(len(self.pictures), alt=picture.alt))
            self.pictures.append(picture.data)
        embed = {"embed": {"$type": "app.bsky.embed.images", "images": images}} if images else {}
        return post_record(draft.post.text, datetime.now(UTC), **embed, langs=[draft.post.lang or "en"])

    def write_post(self, at: datetime) -> None:
        number = len(self.feed)
        key = tid(at, number % AUTHORS)
        record = self._chance.choice(self._records) | {"createdAt": at.isoformat()}
        self._tell(number, at, commit("create", key, key, record))
        if number % 40 == 39:
            self._tell(number, at, commit("delete", key, tid(at, 1023), None))

    def _tell(self, number: int, at: datetime, body: dict[str, Any]) -> None:
        self.feed.append(Happening(did(number % AUTHORS), microseconds(at), len(self.feed) + 1, "commit", body))

    async def picture(self, request: web.Request) -> web.Response:
        number = int(request.match_info["cid"][-6:])
        if request.match_info["cid"] != cid(number) or number >= len(self.pictures):
            raise web.HTTPNotFound
        return web.Response(body=self.pictures[number], content_type="image/jpeg")


async def serve(*, rate: float, port: int, media_port: int) -> None:
    demo = Demo(seed=6)
    began = datetime.now(UTC) - PAST
    for number in range(int(PAST.total_seconds() * rate)):
        demo.write_post(began + timedelta(seconds=number / rate))
    async with AsyncExitStack() as stack:
        cdn = await stack.enter_async_context(http_server({f"GET {PICTURE_PATH}": demo.picture}, port=media_port))
        url = await stack.enter_async_context(Jetstream(demo.feed.play).serve(port))
        address = cdn.removeprefix("http://")
        print(f"MOODSTREAM_BLUESKY_CDN={cdn} MOODSTREAM_MEDIA_HOSTS={address} \\")
        print(f"    moodstream up --source bluesky --host {url}", flush=True)
        while True:
            await asyncio.sleep(1 / rate)
            demo.write_post(datetime.now(UTC))


def main() -> None:
    parser = argparse.ArgumentParser(description="Serves a made-up Bluesky until stopped.")
    parser.add_argument("--rate", type=float, default=2.0, help="posts a second")
    parser.add_argument("--port", type=int, default=0, help="of the Jetstream")
    parser.add_argument("--media-port", type=int, default=0, help="of the CDN")
    arguments = parser.parse_args()
    asyncio.run(serve(rate=arguments.rate, port=arguments.port, media_port=arguments.media_port))


if __name__ == "__main__":
    main()
