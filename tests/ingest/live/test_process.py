"""`python -m ingest bluesky` as a process of its own: from a local Jetstream and a local picture server to Kafka."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.servers import free_port
from ingest.contract import Post, decode
from ingest.cursors import CursorFile
from ingest.errors import MediaUnavailable
from ingest.media.pictures import opened_pictures
from ingest.producer import ensure_topic
from ingest.settings import Settings
from ingest.sources.items import MediaLink
from tests.ingest.live.jetstream import (
    Happening,
    Jetstream,
    JetstreamConnection,
    Subscription,
    commit,
    did,
    frame,
    microseconds,
    post_record,
    tid,
)
from tests.ingest.test_service import command, records

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]


class Network:
    """Posts of people who write about cats, every other one with two pictures, and about other things."""

    def __init__(self) -> None:
        self.began_at = datetime.now(UTC)
        self.cursors: list[int | None] = []

    def events(self) -> list[Happening]:
        found = []
        for number in range(30):
            at = microseconds(self.began_at) + number
            text = "my cat again" if number % 3 == 0 else "nothing of the kind"
            record = post_record(text, self.began_at, pictures=2 * (number % 2), langs=["en"])
            body = commit("create", tid(self.began_at, number), tid(self.began_at, number), record)
            found.append(Happening(did(number), at, number + 1, "commit", body))
        return found

    async def play(self, connection: JetstreamConnection, subscription: Subscription) -> None:
        self.cursors.append(subscription.cursor)
        for event in self.events():
            if subscription.cursor is None or event.time_us >= subscription.cursor:
                await connection.write(frame(event.encode("v1")))
        await connection.wait_closed()


@asynccontextmanager
async def picture_server(jpeg: bytes) -> AsyncIterator[str]:
    """Gives the one picture for whatever is asked; yields host:port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not (await reader.read(4096)).startswith(b"GET "):  # a connection that was not needed
            writer.close()
            return
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode() + jpeg)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def ingesting(
    settings: Settings, host: str, pictures: str, folder: Path, health: int
) -> AsyncIterator[asyncio.subprocess.Process]:
    argv, environment = command(settings, "bluesky", "--host", host, "--json")
    environment |= {
        "MOODSTREAM_BLUESKY_CDN": f"http://{pictures}",
        "MOODSTREAM_MEDIA_HOSTS": pictures,
        "MOODSTREAM_STATE": str(folder),
        "MOODSTREAM_INGEST_HEALTH": f"127.0.0.1:{health}",
    }
    process = await asyncio.create_subprocess_exec(*argv, env=environment, cwd=folder, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def stopped(process: asyncio.subprocess.Process) -> dict[str, Any]:
    """The report of a process asked to end."""
    process.send_signal(signal.SIGTERM)
    out, _ = await process.communicate()
    assert process.returncode == 0
    report: dict[str, Any] = json.loads(out.splitlines()[-1])
    return report


async def sent_posts(settings: Settings, count: int) -> list[Post]:
    await ensure_topic(settings)
    while True:
        found = [decode(record.value) for record in await records(settings)]
        if len(found) >= count:
            return [post for post in found if isinstance(post, Post)]


async def test_matching_posts_arrive_with_pictures_and_a_restart_goes_on(
    settings: Settings, tmp_path: Path, jpeg: bytes
) -> None:
    network, health = Network(), free_port()
    async with picture_server(jpeg) as pictures, Jetstream(network.play, dialects=("v1",)).serve() as host:
        async with ingesting(settings, f"{host}/subscribe", pictures, tmp_path, health) as process:
            found = await sent_posts(settings, 10)
            async with httpx.AsyncClient() as client:
                while (await client.get(f"http://127.0.0.1:{health}/readyz")).status_code != 200:
                    pass
                answer = await client.get(f"http://127.0.0.1:{health}/healthz")
            assert answer.json()["report"]["state"]["phase"] == "live"
            report = await stopped(process)
        assert {len(post.images) for post in found} == {0, 2}
        assert {post.topics for post in found} == {("Cats and dogs",)}
        assert (report["read"], report["sent"], report["skipped"]) == (30, 10, {"no topic matches": 20})
        assert report["media"] == {"in time": 10}
        kept = CursorFile(tmp_path, namespace=settings.namespace, source="bluesky").load()
        assert kept is not None
        async with ingesting(settings, f"{host}/subscribe", pictures, tmp_path, health) as process:
            while len(network.cursors) < 2:
                await asyncio.sleep(0.05)
            await stopped(process)
        assert network.cursors[0] is None
        assert network.cursors[1] is not None and network.cursors[1] <= network.events()[-1].time_us


@pytest.mark.parametrize(
    ("arguments", "variables", "status", "said"),
    [
        (["bluesky", "--host", "ftp://a.example"], {}, 2, "ftp://a.example"),
        (["bluesky"], {"MOODSTREAM_MEDIA_HOSTS": "https://a/b"}, 2, "media host"),
        (["bluesky"], {"MOODSTREAM_STATE": "/dev/null/state"}, 2, "MOODSTREAM_STATE"),
        (["mastodon", "--channel", "nowhere"], {}, 2, "nowhere"),
        (["x", "--topics", "topics.toml"], {}, 2, "MOODSTREAM_X_TOKEN"),
        (["reddit", "--channel", "r/trams"], {}, 2, "MOODSTREAM_REDDIT_CLIENT_ID"),
        (["rss"], {}, 2, "no feed to read"),
    ],
)
async def test_what_is_missing_is_said_in_one_line(
    settings: Settings, tmp_path: Path, arguments: list[str], variables: dict[str, str], status: int, said: str
) -> None:
    (tmp_path / "topics.toml").write_text('[[topic]]\nname = "trams"\nquery = "tram"\n')
    argv, environment = command(settings, *arguments)
    environment |= {"MOODSTREAM_STATE": str(tmp_path)} | variables
    process = await asyncio.create_subprocess_exec(*argv, env=environment, cwd=tmp_path, stderr=subprocess.PIPE)
    _, err = await process.communicate()
    lines = err.decode().splitlines()
    assert process.returncode == status
    assert said in lines[-1] and lines[-1].startswith("ingest: ")
    assert "Traceback" not in err.decode()


async def test_a_host_that_the_source_learns_of_later_is_asked_too(jpeg: bytes) -> None:
    hosts: list[str] = []
    async with picture_server(jpeg) as pictures, opened_pictures((), lambda: hosts) as image_of:
        link = MediaLink(url=f"http://{pictures}/1.jpg", alt="a tram")
        with pytest.raises(MediaUnavailable):
            await image_of(link)
        hosts += ["not a host", pictures]
        assert (await image_of(link)).alt == "a tram"
