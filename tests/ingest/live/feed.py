"""A Jetstream that really remembers: made-up events, given again from any cursor, as fast as they are taken.

`python -m tests.ingest.live.feed` serves one in a process of its own and prints its address and size as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import subprocess
import sys
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from tests.ingest.live.jetstream import (
    POSTS,
    Dialect,
    Happening,
    Jetstream,
    JetstreamConnection,
    Subscription,
    commit,
    did,
    frame,
    microseconds,
    post_record,
    tid,
)

BLOB_FRAMES: Final = 128
STEP: Final = timedelta(milliseconds=10)
"""Event time between two events, so that a client's overlap of seconds is hundreds of them."""
AUTHORS: Final = 1000
WORDS: Final = (
    "the",
    "tram",
    "is",
    "late",
    "again",
    "and",
    "I",
    "am",
    "so",
    "happy",
    "about",
    "my",
    "coffee",
    "🚋 café",
)
MIX: Final = {"app.bsky.feed.like": 105, POSTS: 17, "app.bsky.feed.repost": 15, "app.bsky.graph.follow": 12}
"""What the network talks about, in so many of about 150 events."""


class Feed:
    """Events in a row. `append` adds one, to be seen by all that listen.

    cuts: places before which the connection that comes by first is cut off; rate: at most so many events a second.
    posts: events that concern a post.
    """

    def __init__(
        self,
        happenings: Iterable[Happening] = (),
        *,
        dialect: Dialect = "v2",
        cuts: Iterable[int] = (),
        rate: float | None = None,
    ) -> None:
        self._dialect, self._rate = dialect, rate
        self._frames: list[bytes] = []
        self._times: list[int] = []
        self._cuts = sorted(cuts, reverse=True)
        self._news = asyncio.Event()
        self.posts = 0
        for happening in happenings:
            self.append(happening)

    def __len__(self) -> int:
        return len(self._frames)

    def append(self, happening: Happening) -> None:
        self._frames.append(frame(happening.encode(self._dialect)))
        self._times.append(happening.time_us)
        self.posts += happening.body.get("collection") == POSTS
        self._news.set()

    async def play(self, connection: JetstreamConnection, subscription: Subscription) -> None:
        """All there is from the cursor on (from the beginning without one), then what is added."""
        place = self._place(subscription)
        while True:
            end = min(place + BLOB_FRAMES, len(self._frames))
            if self._cuts and place <= self._cuts[-1] < end:
                end = self._cuts.pop()
                await connection.write(b"".join(self._frames[place:end]))
                return
            if place < end:
                await connection.write(b"".join(self._frames[place:end]))
                await asyncio.sleep((end - place) / self._rate if self._rate else 0)
                place = end
            else:
                await self._wait_for_news(connection)

    async def _wait_for_news(self, connection: JetstreamConnection) -> None:
        """Ends with the connection at the latest: raises ConnectionResetError then."""
        self._news.clear()
        news, gone = asyncio.create_task(self._news.wait()), asyncio.create_task(connection.wait_closed())
        try:
            await asyncio.wait({news, gone}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                raise ConnectionResetError("the client has left")
        finally:
            news.cancel()
            gone.cancel()

    def _place(self, subscription: Subscription) -> int:
        if subscription.cursor is None:
            return 0
        if subscription.is_time:
            return bisect_left(self._times, subscription.cursor)
        return max(0, subscription.cursor - 1)


def made_up_posts(number: int) -> Iterator[Happening]:
    """As many text posts, the last one written now."""
    for index, at in _times(number):
        words = " ".join(WORDS[(index + place * place) % len(WORDS)] for place in range(12))
        yield _created(index, at, post_record(f"{words} no {index}", at))


def made_up_mix(number: int) -> Iterator[Happening]:
    """Posts and what is no post, in the network's proportions, spread evenly."""
    kinds = sorted((step / count, kind) for kind, count in MIX.items() for step in range(count))
    subject = {"uri": f"at://{did(7)}/{POSTS}/{tid(datetime(2026, 7, 4, tzinfo=UTC))}", "cid": "bafyrei" + "a" * 52}
    posts = made_up_posts(number)
    for (index, at), post, (_, kind) in zip(_times(number), posts, cycle(kinds)):
        if kind == POSTS:
            yield post
        else:
            record = {"$type": kind, "createdAt": at.isoformat(), "subject": subject}
            yield _created(index, at, record, collection=kind)


def from_payload(file: Path, number: int) -> Iterator[Happening]:
    """The events of a v1 payload file over and over, each time with keys of their own."""
    events: list[dict[str, Any]] = [json.loads(line) for line in file.read_bytes().splitlines()]
    for (index, at), event in zip(_times(number), cycle(events)):
        body = event[event["kind"]]
        if event["kind"] == "commit":
            body = body | {"rkey": tid(at, index % 1024), "rev": tid(at, index % 1024)}
        yield Happening(event["did"], microseconds(at), index + 1, event["kind"], body)


def _created(index: int, at: datetime, record: dict[str, Any], **more: Any) -> Happening:
    key = tid(at, index % 1024)
    return Happening(
        did(index % AUTHORS), microseconds(at), index + 1, "commit", commit("create", key, key, record, **more)
    )


def _times(number: int) -> Iterator[tuple[int, datetime]]:
    first = datetime.now(UTC) - number * STEP
    return ((index, first + index * STEP) for index in range(number))


def even_cuts(number: int, events: int) -> Sequence[int]:
    """Places for so many cuts in a feed of so many events."""
    return [events * (cut + 1) // (number + 1) for cut in range(number)]


class Served(NamedTuple):
    """A feed served by another process."""

    url: str
    events: int
    posts: int


@contextmanager
def served(kind: Literal["posts", "mix"], events: int, *options: str) -> Iterator[Served]:
    """This module's command in a process of its own, so that whoever reads has a core for itself."""
    command = [sys.executable, "-m", "tests.ingest.live.feed", kind, "--events", str(events), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield Served(**json.loads(server.stdout.readline()))
        finally:
            server.kill()


async def serve(feed: Feed, *, dialect: Dialect, port: int) -> None:
    """Until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Jetstream(feed.play, dialects=(dialect,)).serve(port) as url:
        print(json.dumps({"url": url, "events": len(feed), "posts": feed.posts}), flush=True)
        await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("posts", "mix"))
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--payload", type=Path, help="v1 events to take the mix from; made-up ones otherwise")
    parser.add_argument("--dialect", choices=("v1", "v2"), default="v2")
    parser.add_argument("--cuts", type=int, default=0, help="cut the connection so many times, evenly spread")
    parser.add_argument("--rate", type=float, help="send at most so many events a second")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    if options.kind == "posts":
        happenings = made_up_posts(options.events)
    elif options.payload is not None:
        happenings = from_payload(options.payload, options.events)
    else:
        happenings = made_up_mix(options.events)
    cuts = even_cuts(options.cuts, options.events)
    feed = Feed(happenings, dialect=options.dialect, cuts=cuts, rate=options.rate)
    asyncio.run(serve(feed, dialect=options.dialect, port=options.port))


if __name__ == "__main__":
    main()
