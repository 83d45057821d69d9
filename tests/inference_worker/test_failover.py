"""Another server takes over under the same address, and lacks the latest writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from redis.asyncio import Redis

from deploy.servers import free_port, start_store
from inference_worker.contract import Prediction
from inference_worker.settings import Settings
from inference_worker.store import Position, Scored, Store


class Address:
    """Forwards each new connection to `port`; open ones stay where they are."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def serve(self) -> asyncio.Server:
        return await asyncio.start_server(self._forward, "127.0.0.1", 0)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self.port)
        await asyncio.gather(_pass_on(reader, to_writer), _pass_on(to_reader, writer))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.fixture
async def successor(tmp_path: Path) -> AsyncIterator[int]:
    """Port of an empty store."""
    child, url = await start_store(tmp_path / "store.log", None)
    yield int(url.split(":")[-1].split("/")[0])
    await child.stop()


async def test_writes_follow_the_address_and_what_the_new_master_lacks_is_noticed(
    store_url: str, redis: object, successor: int, predict: Callable[..., Prediction]
) -> None:
    address = Address(int(store_url.split(":")[-1].split("/")[0]))
    async with await address.serve() as server, Redis.from_url(store_url) as old:
        port = server.sockets[0].getsockname()[1]
        async with Redis.from_url(f"redis://127.0.0.1:{port}/0") as client:
            store = Store(client, Settings(namespace="t", redis=store_url), model="test 1")
            await store.open()
            await store.write([Scored(predict("x:1"), Position(0, 1, 1000), "run")])
            await old.execute_command("REPLICAOF", "127.0.0.1", free_port())
            try:
                address.port = successor
                writing = store.write([Scored(predict("x:2"), Position(0, 2, 1000), "run")])
                assert await asyncio.wait_for(writing, 10) == {"scored": 1}
            finally:
                await old.execute_command("REPLICAOF", "NO", "ONE")
    assert store.retries
    assert store.marks.has_forgotten
