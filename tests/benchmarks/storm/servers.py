"""The broker and the store of a storm; Apache Kafka and redis-server can be killed, and come back over their files.

For no loss when either is killed: `acks=all` (what ingest sends with), and a Redis that answers only once what it was
told is in its append-only file: `appendfsync always`. With `everysec` it may have answered for up to two seconds that
are not in the file yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from deploy.children import Child
from deploy.local import LocalStack, open_stack
from tests import apache

StackName = Literal["embedded", "apache"]
SERVER_DOWN_S: Final = (0.0, 3.0)


class Server:
    """One that can be killed; serve: starts it over what it left."""

    def __init__(self, child: Child, serve: Callable[[], Awaitable[Child]]) -> None:
        self.child = child
        self._serve = serve
        self._lock = asyncio.Lock()

    async def fail(self, down_s: float) -> float:
        """SIGKILL, and started again after so long; returns how long until it answered."""
        async with self._lock:  # one that is still coming back is killed once it is there
            loop = asyncio.get_running_loop()
            began = loop.time()
            self.child.kill()
            await asyncio.sleep(down_s)
            self.child = await self._serve()
            return loop.time() - began


class Servers:
    """stack: for the services; mortal: the servers that may be killed, by name."""

    def __init__(self, stack: LocalStack) -> None:
        self.stack = stack
        self.mortal: dict[str, Server] = {}


@asynccontextmanager
async def opened(name: StackName, folder: Path, *, appendfsync: str = "always") -> AsyncIterator[Servers]:
    """Raises SystemExit with what is missing where it cannot be had."""
    if name == "embedded":
        async with open_stack(keep=folder) as stack:
            yield Servers(stack)
        return
    if (reason := apache.missing()) is not None:
        raise SystemExit(f"storm: {reason}")
    async with _apache(folder, appendfsync) as servers:
        yield servers


@asynccontextmanager
async def _apache(folder: Path, appendfsync: str) -> AsyncIterator[Servers]:
    options = ("--appendonly", "yes", "--appendfsync", appendfsync, "--maxmemory-policy", "noeviction")
    servers = Servers(LocalStack(folder))
    stack = servers.stack
    try:
        redis, stack.redis = await apache.start_redis(folder / "redis", *options)
        port = urlsplit(stack.redis).port
        assert port is not None
        servers.mortal["store"] = Server(redis, lambda: apache.serve_redis(folder / "redis", port, *options))
        kafka, stack.kafka = await apache.start_kafka(folder / "kafka")
        servers.mortal["broker"] = Server(kafka, lambda: apache.serve_kafka(folder / "kafka", stack.kafka))
        yield servers
    finally:
        await stack.stop_services()
        for server in servers.mortal.values():
            server.child.kill()
