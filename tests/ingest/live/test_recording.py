"""`moodstream record bluesky` as a process of its own, killed twice: its archive misses nothing and forgets."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ingest.contract import Post
from ingest.sources.archive import OwnArchive, recorded_files, records_of
from ingest.sources.items import Draft
from tests.ingest.live.bluesky_upstreams import JetstreamV1
from tests.ingest.live.upstream import Create, Cut, Delete, Edit, Script, Stall, Step, text_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

POSTS = 600


def steps(numbers: range) -> list[Step]:
    """Of ten posts one is deleted soon, one late, and one is edited."""
    script: list[Step] = []
    for number in numbers:
        script.append(Create(number))
        script += [Delete(number)] if number % 10 == 1 else []
        script += [Edit(number)] if number % 10 == 2 else []
        script += [Delete(number - 100)] if number % 10 == 3 and number > 100 else []
    return script


def expected() -> set[str]:
    late = range(3, POSTS - 100, 10)
    kept = {number for number in range(POSTS) if number % 10 != 1 and number not in late}
    return {text_of(number) for number in kept} | {text_of(number, 1) for number in kept if number % 10 == 2}


def texts(folder: Path) -> list[str]:
    return [item.post.text for item in OwnArchive(folder).items() if isinstance(item, Draft)]


@asynccontextmanager
async def recording(url: str, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ingest.record", "bluesky", "--host", f"{url}/subscribe", "--all", "--json"),
        *("--out", str(folder / "out"), "--format", "parquet", "--rotate-mb", "0.002"),
        env=os.environ | {"MOODSTREAM_STATE": str(folder / "state")},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_killed_recording_goes_on_where_it_stopped_and_forgets(tmp_path: Path) -> None:
    out = tmp_path / "out"
    async with JetstreamV1() as server:
        cut = Cut(torn=Create(300), missed=(Create(300),))
        first, second, third = (
            steps(range(250)),
            [*steps(range(250, 300)), cut, *steps(range(301, 400))],
            range(400, POSTS),
        )
        server.play(Script.of(*first, Stall(), *second, Stall(), *steps(third)))
        async with recording(server.url, tmp_path):
            while not recorded_files(out) or not [*tmp_path.glob("state/record-*.cursor.json")]:
                await asyncio.sleep(0.01)
        async with recording(server.url, tmp_path):
            while text_of(320) not in await asyncio.to_thread(texts, out):
                await asyncio.sleep(0.05)
        async with recording(server.url, tmp_path) as process:
            while not server.stage.is_over or {*await asyncio.to_thread(texts, out)} != expected():
                await asyncio.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            answer, _ = await process.communicate()
    assert process.returncode == 0
    assert json.loads(answer)["source"] == "bluesky"
    assert {*texts(out)} == expected()
    raw = [one for path in recorded_files(out) for one in records_of(path) if isinstance(one, Post)]
    assert {post.text for post in raw} == expected(), "also without the journal"
    assert len({(post.id, post.revision) for post in raw}) == len(expected())
    assert all(path.suffix == ".parquet" for path in recorded_files(out))
