"""From a local Jetstream to Kafka: how many events and posts a second ingest takes, by the wall clock and per core.

A server in a process of its own sends events made beforehand as fast as they are taken: posts alone, or the mix of the
network (of `--payload`, a file of v1 events, or made up in the same proportions). `source`: read and dropped. `kafka`:
through the service, topics matched and the cursor kept, all posts sent to the embedded broker and acknowledged; their
pictures are not fetched. Per core is per second of processor time of this process, which is ingest alone.

    python -m tests.benchmarks.sources --json [--quick] [--payload bluesky_jetstream_v1.jsonl]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from deploy.servers import start_broker
from ingest.authors import AuthorHash
from ingest.service import ingest
from ingest.settings import SHIPPED_LIVE_TOPICS, Settings
from ingest.sources.bluesky import Bluesky
from ingest.topics.definitions import Topics, TopicsFile
from tests.ingest.live.feed import Served, served

KINDS: Final[tuple[Literal["posts", "mix"], ...]] = ("posts", "mix")
POLL_S: Final = 0.005
TIMEOUT_S: Final = 240.0
NO_CDN: Final = "http://127.0.0.1:9"


class Rates(NamedTuple):
    """Per second of the wall clock, and of processor time."""

    events_per_s: float
    events_per_core: float
    posts_per_s: float
    posts_per_core: float


class Stopwatch:
    """Starts at the first event."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def rates(self, feed: Served) -> Rates:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return Rates(feed.events / wall, feed.events / cpu, feed.posts / wall, feed.posts / cpu)


def source_of(feed: Served) -> Bluesky:
    return Bluesky(authors=AuthorHash(b"key"), hosts=(feed.url,), cdn=NO_CDN)


async def read_alone(feed: Served) -> Rates:
    source, items, watch = source_of(feed), 0, None
    async with asyncio.timeout(TIMEOUT_S), aclosing(aiter(source)) as stream:
        async for _ in stream:
            watch = watch or Stopwatch()
            items += 1
            if items == feed.posts:
                return watch.rates(feed)
    raise AssertionError("the source has no end")


async def send_on(feed: Served, settings: Settings, topics: Topics) -> Rates:
    source, stop = source_of(feed), asyncio.Event()
    sending = asyncio.create_task(ingest(source, settings, topics=topics, stop=stop))
    async with asyncio.timeout(TIMEOUT_S):
        while not source.state.events and not sending.done():
            await asyncio.sleep(POLL_S)
        watch = Stopwatch()
        while source.state.events < feed.events and not sending.done():
            await asyncio.sleep(POLL_S)
    stop.set()
    report = await sending  # all acknowledged
    if (settled := report.sent + sum(report.skipped.values())) < feed.posts:
        raise AssertionError(f"{settled} settled of {feed.posts}: {report}")
    return watch.rates(feed)


async def measure(arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    topics = TopicsFile(SHIPPED_LIVE_TOPICS).topics
    broker, address = await start_broker(folder / "broker.log")
    results = []
    try:
        for kind in KINDS:
            events = (20_000 if arguments.quick else 60_000) * (3 if kind == "mix" else 1)
            options = ["--dialect", arguments.dialect]
            options += ["--payload", str(arguments.payload)] if arguments.payload is not None else []
            alone, through = [], []
            for number in range(arguments.rounds):
                with served(kind, events, *options) as feed:
                    settings = Settings(
                        namespace=f"{kind}-{number}",
                        kafka=address,
                        idempotence=False,
                        keep_all=True,
                        cursor_dir=folder / "state",
                    )
                    alone.append(await read_alone(feed))
                    through.append(await send_on(feed, settings, topics))
            results += [row(kind, "source", feed, alone), row(kind, "kafka", feed, through)]
    finally:
        await broker.stop()
    return results


def row(kind: str, path: str, feed: Served, rounds: Sequence[Rates]) -> dict[str, Any]:
    """Medians, shown as they come."""
    medians = {name: round(statistics.median(getattr(rates, name) for rates in rounds)) for name in Rates._fields}
    print(
        f"{kind:>6} {path:>7}  " + "  ".join(f"{name} {value:>7,}" for name, value in medians.items()), file=sys.stderr
    )
    return {"feed": kind, "to": path, "events": feed.events, "posts": feed.posts, "rounds": len(rounds)} | medians


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast ingest takes a Jetstream's events to Kafka.")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dialect", choices=("v1", "v2"), default="v2")
    parser.add_argument("--payload", type=Path, help="v1 events to take the mix from")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = asyncio.run(measure(arguments, Path(folder)))
    if arguments.json:
        print(json.dumps({"dialect": arguments.dialect, "results": results}))


if __name__ == "__main__":
    main()
