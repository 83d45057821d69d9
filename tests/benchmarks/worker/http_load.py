"""Generator of load for HTTP servers: a stretch of the feed at a rate, or as fast as it is answered.

A process of its own. Each post is a request with its text and its picture (base64); bodies are made beforehand.

    python -m tests.benchmarks.worker.http_load --url URL --feed FILE --first N --count N [--rate R] [--answers FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp

from ingest.contract import Post
from tests.benchmarks.worker import feed
from tests.benchmarks.worker.arrivals import Outcomes, poisson

CONCURRENCY: Final = 128
"""Requests under way when there is no rate: four of the servers' batches."""
TIMEOUT_S: Final = 60.0


def body(post: Post) -> bytes:
    """A list of one, as BentoML's batches take them."""
    picture = base64.b64encode(post.images[0].jpeg).decode() if post.images else None
    return json.dumps({"posts": [{"text": post.text, "image": picture}]}).encode()


class Client:
    """Sends, and notes when each answer came."""

    def __init__(self, session: aiohttp.ClientSession, url: str, bodies: Sequence[bytes]) -> None:
        self._session, self._url, self._bodies = session, url, bodies
        self.done_s = [0.0] * len(bodies)
        self.answers: list[Any] = [None] * len(bodies)
        self.failed = 0

    async def ask(self, number: int) -> None:
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.post(self._url, data=self._bodies[number], headers=headers) as response:
                text = await response.read()
                if response.status != 200:
                    raise ValueError(f"status {response.status}")
                (self.answers[number],) = json.loads(text)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            self.failed += 1
        self.done_s[number] = time.time()

    async def at(self, due_s: Sequence[float]) -> tuple[float, float]:
        """Open loop: each when it is due; returns the start, and how late the latest was."""
        began_s, late_s = time.time(), 0.0
        async with asyncio.TaskGroup() as group:
            for number, due in enumerate(due_s):
                ahead_s = began_s + due - time.time()
                if ahead_s > 0:
                    await asyncio.sleep(ahead_s)
                late_s = max(late_s, -ahead_s)
                group.create_task(self.ask(number))
        return began_s, late_s

    async def closed_loop(self) -> list[float]:
        """CONCURRENCY requests under way at all times; returns when each was sent."""
        sent_s = [0.0] * len(self._bodies)
        numbers = iter(range(len(self._bodies)))

        async def keep_asking() -> None:
            for number in numbers:
                sent_s[number] = time.time()
                await self.ask(number)

        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENCY):
                group.create_task(keep_asking())
        return sent_s


async def measure(options: argparse.Namespace) -> tuple[Outcomes, list[Any]]:
    bodies = [body(post) for post in feed.read(options.feed, options.first, options.count)]
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(TIMEOUT_S)
    ) as session:
        client = Client(session, options.url, bodies)
        late_s = 0.0
        if options.rate:
            due_s = poisson(options.rate, len(bodies), seed=options.first)
            began_s, late_s = await client.at(due_s)
            sent_s = [began_s + due for due in due_s]
        else:
            sent_s = await client.closed_loop()
    return Outcomes(sent_s, client.done_s, late_s, client.failed), client.answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--feed", type=Path, required=True)
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--rate", type=float, default=0.0, help="posts a second; a closed loop by default")
    parser.add_argument("--answers", type=Path, help="file for what the server said, as JSON")
    options = parser.parse_args()
    outcomes, answers = asyncio.run(measure(options))
    if options.answers is not None:
        options.answers.write_text(json.dumps(answers))
    print(json.dumps(outcomes.summary() | {"batches": batches(answers)}))


def batches(answers: Sequence[Any]) -> dict[str, float]:
    """What the answers tell of the batches they were scored in."""
    told = [answer for answer in answers if answer is not None]
    padded = sum(answer["longest"] for answer in told)
    return {
        "size_mean": len(told) / max(1e-9, sum(1 / answer["mates"] for answer in told)),
        "pad_waste": 1 - sum(answer["tokens"] for answer in told) / padded if padded else 0.0,
    }


if __name__ == "__main__":
    main()
