"""Does the public conversation answer from here? Asked before `up` decides what to show."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

PROBE_TIMEOUT_S: Final = 3.0


async def jetstream_answers(hosts: Sequence[str], timeout_s: float = PROBE_TIMEOUT_S) -> bool:
    """One of the servers accepts a subscription; False as soon as all have refused, or the time is over."""
    asking = [asyncio.create_task(_accepts(host)) for host in hosts]
    try:
        async with asyncio.timeout(timeout_s):
            for answer in asyncio.as_completed(asking):
                if await answer:
                    return True
    except TimeoutError:
        pass
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    return False


async def _accepts(host: str) -> bool:
    from websockets.asyncio.client import connect  # 0.1 s of imports: not at the command's start
    from websockets.exceptions import WebSocketException

    try:
        async with connect(f"{host}/subscribe?wantedCollections=app.bsky.feed.post", close_timeout=0.2):
            return True
    except (OSError, WebSocketException):
        return False
