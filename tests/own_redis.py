"""A redis-server of the test's own, with its append-only file: to be stopped, paused, set back and started again."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from redis import Redis

from deploy.children import Child
from deploy.servers import free_port, redis_answers, until_ready

COMMAND: Final = (
    *("redis-server", "--bind", "127.0.0.1", "--save", "", "--maxmemory-policy", "noeviction"),
    *("--repl-diskless-sync-delay", "0"),
)


def missing() -> str | None:
    """What it lacks on this machine, and how to get it; None if it is there."""
    return None if shutil.which("redis-server") else "no redis-server: install it (Debian: redis-server)"


class OwnRedis:
    """Started at once; always at the same address. Writes are in its file when it answers (`appendfsync always`)."""

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir(parents=True)
        self.folder, self.port = folder, free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        kept = ("--appendonly", "yes", "--appendfsync", "always", "--dir", str(folder))
        self._command = [*COMMAND, *kept, "--port", str(self.port), *options]
        self.client = Redis.from_url(self.url)
        self.start()

    def start(self) -> None:
        """From what its folder holds."""
        self.child = Child("redis", self._command, log_path=self.folder.with_suffix(".log"))

        async def answers() -> bool:
            return await redis_answers(self.url)

        asyncio.run(until_ready(self.child, answers))

    def kill(self) -> None:
        """SIGKILL."""
        self.child.kill()

    def send(self, number: signal.Signals) -> None:
        os.kill(self.child.pid, number)

    def copy(self) -> Path:
        """Its folder as it is now."""
        copied = self.folder.with_name(f"{self.folder.name}-copy")
        shutil.copytree(self.folder, copied)
        return copied

    def restart_from(self, copied: Path | None) -> None:
        """Killed, and started from a copy of its folder; from nothing without one."""
        self.kill()
        shutil.rmtree(self.folder)
        if copied is None:
            self.folder.mkdir()
        else:
            copied.rename(self.folder)
        self.start()

    def close(self) -> None:
        self.client.close()
        self.kill()


@contextmanager
def started(folder: Path, *options: str) -> Iterator[OwnRedis]:
    """Until the end of the body; skips the test where there is no redis-server."""
    if (reason := missing()) is not None:
        pytest.skip(reason)
    server = OwnRedis(folder, *options)
    try:
        yield server
    finally:
        server.close()
