"""The network a storm rages over: posts, edits and deletions drawn from a seed, told by a Jetstream that remembers.

Posts come at their rate whatever becomes of ingest, which catches up from its cursor. `Told` is what must come of each.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from heapq import heappop, heappush
from io import BytesIO
from itertools import islice
from typing import Any, Final, Literal, NamedTuple

import msgspec
from PIL import Image

from inference_worker.contract import RECEIPT_FIELDS
from ingest.contract import EDIT_STEP
from ingest.partitioning import partition_of
from tests.ingest.live.feed import Feed
from tests.ingest.live.jetstream import (
    Happening,
    Jetstream,
    commit,
    did,
    image,
    microseconds,
    post_record,
    tid,
)

EDITED, DELETED, WITH_PICTURE = 0.02, 0.01, 0.01
"""Shares of the posts."""
LATER: Final = 1500
"""Posts that come at most between one and its edit or deletion."""
AUTHORS: Final = 997
PICTURES: Final = 20
PICTURE_SIZE: Final = (1200, 900)
TICK_S: Final = 0.02
PHRASES: Final = ("the tram", "is late again", "my coffee", "was lovely", "but", "this new phone", "really annoys me")
TOPICS: Final = '[[topic]]\nname = "Trams"\nquery = "tram"\n\n[[topic]]\nname = "Coffee"\nquery = "coffee -phone"\n'


class Act(NamedTuple):
    kind: Literal["create", "update", "delete"]
    number: int


@dataclass(slots=True)
class Told:
    """What was last said of a post."""

    id: str
    rkey: str
    partition: int
    text: str
    has_picture: bool
    is_edited: bool = False
    is_deleted: bool = False

    def stands(self, receipt: bytes | None, *, with_picture: bool) -> bool:
        """Whether all that was told of it has come to its receipt; its picture, too, if that is asked for."""
        if receipt is None:
            return False
        fields = msgspec.msgpack.decode(receipt)
        if self.is_deleted:
            return len(fields) < RECEIPT_FIELDS
        return bool(fields[0] >= EDIT_STEP * self.is_edited + (self.has_picture and with_picture))


def acts(posts: int, chance: random.Random) -> Iterator[Act]:
    """Each post is changed once at most, after it was told."""
    later: list[tuple[float, Act]] = []
    for number in range(posts):
        while later and later[0][0] <= number:
            yield heappop(later)[1]
        yield Act("create", number)
        kind = chance.choices((None, "update", "delete"), (1 - EDITED - DELETED, EDITED, DELETED))[0]
        if kind is not None:
            heappush(later, (number + chance.uniform(0.5, LATER), Act(kind, number)))
    while later:
        yield heappop(later)[1]


class Network:
    """Tells acts one after the other; `acted` so many.

    url: of its Jetstream; pictures: host:port of where its pictures are.
    """

    def __init__(self, posts: int, partitions: int, seed: int) -> None:
        self.told: list[Told] = []
        self.url = self.pictures = ""
        self.latest: dict[int, str] = {}
        """By partition, the last text post told of it."""
        self._acts = acts(posts, random.Random(seed))
        self.acted = 0
        self._chance = random.Random(seed + 1)
        self._partitions = partitions
        self._latest_us = 0
        self._feed = Feed(dialect="v1")

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Network]:
        jpegs = [_jpeg(number) for number in range(PICTURES)]
        async with (
            _picture_server(jpegs) as self.pictures,
            Jetstream(self._feed.play, dialects=("v1",)).serve() as host,
        ):
            self.url = f"{host}/subscribe"
            yield self

    async def tell(self, rate: float, limit: int | None = None) -> None:
        """The next `limit` acts, or all that are left, so many a second."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        for index, act in enumerate(islice(self._acts, limit)):
            while index / rate > loop.time() - began:
                await asyncio.sleep(TICK_S)
            self._feed.append(self._happening(act))

    def _happening(self, act: Act) -> Happening:
        at = datetime.now(UTC)
        self.acted += 1
        if act.kind == "create":
            self.told.append(self._new(act.number, at))
        told = self.told[act.number]
        if act.kind == "delete":
            told.is_deleted = True
            body = commit("delete", told.rkey, tid(at), None)
        else:
            if act.kind == "update":
                told.is_edited, told.text = True, f"{self._words()} edited {act.number}"
            body = commit(act.kind, told.rkey, tid(at), _record(told, at, act.number))
        at_us = self._latest_us = max(microseconds(at), self._latest_us + 1)
        return Happening(did(act.number % AUTHORS), at_us, self.acted, "commit", body)

    def _new(self, number: int, at: datetime) -> Told:
        rkey = tid(at, number % 1024)
        post_id = f"bluesky:{did(number % AUTHORS)}/{rkey}"
        partition = partition_of(post_id.encode(), self._partitions)
        told = Told(post_id, rkey, partition, f"{self._words()} no {number}", self._chance.random() < WITH_PICTURE)
        if not told.has_picture:
            self.latest[partition] = post_id
        return told

    def _words(self) -> str:
        return " ".join(self._chance.choices(PHRASES, k=self._chance.randint(2, 9)))


def _record(told: Told, at: datetime, number: int) -> dict[str, Any]:
    embed = {"$type": "app.bsky.embed.images", "images": [image(number % PICTURES)]}
    return post_record(told.text, at, langs=["en"], **({"embed": embed} if told.has_picture else {}))


@cache
def _jpeg(number: int) -> bytes:
    """Of a photograph's size, in pixels and bytes, so that what holds some of them soon holds as much as it may."""
    packed = BytesIO()
    gradient = Image.linear_gradient("L").rotate(9 * number).resize(PICTURE_SIZE)
    Image.blend(gradient, Image.effect_noise(PICTURE_SIZE, 40), 0.4).convert("RGB").save(packed, "JPEG")
    return packed.getvalue()


@asynccontextmanager
async def _picture_server(jpegs: list[bytes]) -> AsyncIterator[str]:
    """Gives the picture whose number ends the cid; yields host:port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = re.search(rb"bafkrei(\d{52})", await reader.read(4096))
        if asked is not None:
            jpeg = jpegs[int(asked[1])]
            head = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n"
            writer.write(head.encode() + b"Connection: close\r\n\r\n" + jpeg)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


def poison(number: int, chance: random.Random) -> tuple[bytes, str]:
    """A record no worker can score, and what its dead letter must say."""
    now = datetime.now(UTC)
    head = {"type": "post", "schema": 1, "id": f"storm:poison-{number}", "source": "storm"}
    times = {"created_at": now, "ingested_at": now}
    picture = {"jpeg": _jpeg(0)[:400], "sha256": bytes(32), "phash": bytes(32), "width": 256, "height": 256}
    kinds: list[tuple[bytes, str]] = [
        (chance.randbytes(300), "not a Moodstream record"),
        (msgspec.msgpack.encode(head | times | {"schema": 99}), "schema 99"),
        (msgspec.msgpack.encode(head | times), "neither text nor"),
        (msgspec.msgpack.encode(head | times | {"images": [picture]}), "no readable JPEG"),
    ]
    return kinds[number % len(kinds)]


def places(count: int, posts: int, chance: random.Random) -> Iterator[int]:
    """After how many posts each of the poison records comes."""
    return iter(sorted(chance.randrange(posts) for _ in range(count)))
