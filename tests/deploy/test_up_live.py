"""`moodstream up --source bluesky` against a local Jetstream: posts with pictures are scored; and when auto is live."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from time import sleep

import pytest
from PIL import Image
from redis import Redis
from websockets.asyncio.server import ServerConnection, serve

from deploy.probing import jetstream_answers
from deploy.servers import free_port, start_store
from deploy.up import _live_or_sample
from inference_worker.contract import Results, UnknownNamespace
from tests.ingest.live.jetstream import Jetstream
from tests.ingest.live.test_process import Network, picture_server

ROOT = Path(__file__).parents[2]


def drawn() -> bytes:
    out = BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((400, 300)).save(out, "JPEG")
    return out.getvalue()


async def accept(connection: ServerConnection) -> None:
    await connection.wait_closed()


async def test_a_server_that_takes_subscriptions_answers() -> None:
    async with serve(accept, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await jetstream_answers([f"ws://127.0.0.1:{free_port()}", f"ws://127.0.0.1:{port}"])


async def test_no_server_is_told_at_once_and_a_silent_one_after_a_while() -> None:
    assert not await jetstream_answers([f"ws://127.0.0.1:{free_port()}"], timeout_s=20)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert not await jetstream_answers([f"ws://127.0.0.1:{port}"], timeout_s=0.2)


async def test_auto_is_bluesky_where_it_answers_and_the_sample_feed_elsewhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ingest.sources.bluesky.PUBLIC_HOSTS", (f"ws://127.0.0.1:{free_port()}",))
    with caplog.at_level("INFO"):
        assert (await _live_or_sample()).source == "sample"
        async with serve(accept, "127.0.0.1", 0) as server:
            host = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            monkeypatch.setattr("ingest.sources.bluesky.PUBLIC_HOSTS", (host,))
            assert (await _live_or_sample()).source == "bluesky"
    assert [record.getMessage().partition(",")[0] for record in caplog.records if record.name == "deploy.up"] == [
        "source: the bundled sample feed",
        "source: Bluesky",
    ]


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_up_shows_bluesky_with_pictures(tmp_path: Path) -> None:
    store, redis_url = await start_store(tmp_path / "store.log", None)
    async with picture_server(drawn()) as pictures, Jetstream(Network().play, dialects=("v1",)).serve() as host:
        given = ["up", "--headless", "--port", str(free_port()), "--source", "bluesky", "--host", f"{host}/subscribe"]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MOODSTREAM_")}
        up = subprocess.Popen(
            [sys.executable, "-m", "deploy", *given, "--all"],
            cwd=tmp_path,
            env=inherited
            | {
                "PYTHONPATH": str(ROOT),
                "MOODSTREAM_REDIS": redis_url,
                "MOODSTREAM_BLUESKY_CDN": f"http://{pictures}",
                "MOODSTREAM_MEDIA_HOSTS": pictures,
            },
        )
        try:
            with Redis.from_url(redis_url) as redis:
                await asyncio.to_thread(_until_scored, Results(redis, "live"), 30)
                shown = Results(redis, "live").tail("all")
                assert {prediction.images for prediction in shown} == {0, 2}
                assert any(Results(redis, "live").thumbnails((prediction.id, 0) for prediction in shown))
        finally:
            up.terminate()
            await asyncio.to_thread(up.wait)
            await store.stop()
    assert (tmp_path / ".moodstream" / "state" / "live.bluesky.cursor.json").exists()


def _until_scored(results: Results, count: int) -> None:
    while True:
        try:
            if results.counters().get("scored", 0) >= count:
                return
        except UnknownNamespace:  # the worker has not written yet
            pass
        sleep(0.1)
