"""How much memory the embedded broker has come to: it keeps all it was ever sent, and cannot be made to forget."""

from __future__ import annotations

import asyncio
import logging
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from deploy.children import Child

LOOK_EVERY_S: Final = 60.0
FIRST_TOLD_MB: Final = 1024

log = logging.getLogger(__name__)


@asynccontextmanager
async def telling_memory(broker: Child | None) -> AsyncIterator[None]:
    """While the body runs, warns when the broker has grown past FIRST_TOLD_MB, and each time it has doubled since."""
    watching = asyncio.create_task(_watch(broker)) if broker is not None else None
    try:
        yield
    finally:
        if watching is not None:
            watching.cancel()
            await asyncio.wait({watching})


async def _watch(broker: Child) -> None:
    told_mb = FIRST_TOLD_MB
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        if (size_mb := await asyncio.to_thread(resident_mb, broker.pid)) >= told_mb:
            log.warning(
                "the embedded broker keeps all posts in memory, %d MB by now: start `up` again now and then, "
                "or let MOODSTREAM_KAFKA name an Apache Kafka",
                size_mb,
            )
            told_mb = 2 * size_mb


def resident_mb(pid: int) -> int:
    """Memory of a process; 0 if it is gone, or this machine has no ps."""
    try:
        shown = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    except OSError:
        return 0
    return int(shown) >> 10 if shown.strip() else 0
