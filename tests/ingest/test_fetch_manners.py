"""How hosts are asked: a few pictures at a time, not when they want rest, and not twice for the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Final

import pytest

from ingest.errors import MediaUnavailable
from ingest.media.fetch import MediaFetcher
from ingest.media.hosts import FAILURES, FIRST_REST_S
from tests.ingest.hostile_pictures import photo
from tests.ingest.hostile_server import HostileServer, Talk, answer

JPEG: Final = photo("JPEG")
PICTURE: Final = answer(JPEG, "Content-Type: image/jpeg")


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
async def server() -> AsyncIterator[HostileServer]:
    async with HostileServer({"/a.jpg": PICTURE}) as server:
        yield server


@pytest.fixture
async def fetcher(server: HostileServer) -> AsyncIterator[MediaFetcher]:
    async with MediaFetcher(allowed=[server.address]) as fetcher:
        yield fetcher


async def reason_of(fetcher: MediaFetcher, link: str) -> str:
    with pytest.raises(MediaUnavailable) as raised:
        await fetcher.fetch(link)
    return raised.value.reason


async def silence(writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


def held(release: asyncio.Event) -> Talk:
    async def talk(writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.write(PICTURE)

    return talk


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


async def test_a_host_is_asked_for_four_pictures_at_a_time(fetcher: MediaFetcher, server: HostileServer) -> None:
    release = asyncio.Event()
    server.pages["/held"] = held(release)
    tasks = [asyncio.create_task(fetcher.fetch(server.url(f"/held?{n}"))) for n in range(12)]
    await until(lambda: len(server.requests) == 4)
    release.set()
    assert await asyncio.gather(*tasks) == [JPEG] * 12
    assert server.most_at_once == 4


async def test_all_hosts_together_are_bounded_too(server: HostileServer) -> None:
    release = asyncio.Event()
    async with HostileServer({"/held": held(release)}) as other:
        server.pages["/held"] = held(release)
        async with MediaFetcher(allowed=[server.address, other.address], at_once=3, at_once_per_host=4) as fetcher:
            links = [each.url(f"/held?{n}") for n in range(4) for each in (server, other)]
            tasks = [asyncio.create_task(fetcher.fetch(link)) for link in links]
            await until(lambda: len(server.requests) + len(other.requests) == 3)
            release.set()
            await asyncio.gather(*tasks)
        assert server.most_at_once + other.most_at_once <= 3


async def test_a_slow_host_holds_up_no_other(server: HostileServer) -> None:
    async with HostileServer({"/a.jpg": PICTURE}) as other:
        server.pages["/held"] = silence
        async with MediaFetcher(allowed=[server.address, other.address.replace("127.0.0.1", "localhost")], at_once=3,
                                at_once_per_host=2) as fetcher:  # fmt: skip
            tasks = [asyncio.create_task(fetcher.fetch(server.url(f"/held?{n}"))) for n in range(8)]
            await until(lambda: len(server.requests) == 2)
            link = other.url("/a.jpg").replace("127.0.0.1", "localhost")
            assert await asyncio.wait_for(fetcher.fetch(link), 3) == JPEG
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_waiting_for_a_turn_takes_no_longer_than_all_the_rest_may(server: HostileServer) -> None:
    server.pages["/held"] = silence
    async with MediaFetcher(allowed=[server.address], total_s=0.2, at_once_per_host=1) as fetcher:
        reasons = await asyncio.gather(*(reason_of(fetcher, server.url(f"/held?{n}")) for n in range(3)))
    assert sorted(reasons) == ["host too busy", "host too busy", "too slow"]


async def test_a_cancelled_fetch_gives_its_turn_back_and_blames_nobody(server: HostileServer) -> None:
    server.pages["/held"] = silence
    async with MediaFetcher(allowed=[server.address], at_once=1, at_once_per_host=1) as fetcher:
        for n in range(FAILURES + 1):
            task = asyncio.create_task(fetcher.fetch(server.url(f"/held?{n}")))
            await until(lambda n=n: len(server.requests) == n + 1)  # type: ignore[misc]  # a default binds it
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await fetcher.fetch(server.url("/a.jpg")) == JPEG
        assert fetcher.refused == {}


async def test_a_host_that_fails_again_and_again_is_left_alone_for_longer_each_time(server: HostileServer) -> None:
    clock = Clock()
    server.pages["/x"] = answer(status="500 Oops")
    async with MediaFetcher(allowed=[server.address], clock=clock) as fetcher:
        for _ in range(FAILURES):
            assert await reason_of(fetcher, server.url("/x")) == "HTTP 500"
        assert await reason_of(fetcher, server.url("/x")) == "host resting"
        assert fetcher.resting_hosts() == ["127.0.0.1"]
        clock.now_s += FIRST_REST_S
        assert await reason_of(fetcher, server.url("/x")) == "HTTP 500"
        clock.now_s += FIRST_REST_S
        assert await reason_of(fetcher, server.url("/x")) == "host resting"
        assert len(server.requests) == FAILURES + 1
        clock.now_s += FIRST_REST_S
        server.pages["/x"] = PICTURE
        assert await fetcher.fetch(server.url("/x")) == JPEG
        assert fetcher.resting_hosts() == []
        assert fetcher.refused == {"HTTP 500": FAILURES + 1, "host resting": 2}


async def test_refusals_of_ours_are_not_held_against_a_host(fetcher: MediaFetcher, server: HostileServer) -> None:
    for _ in range(2 * FAILURES):
        assert await reason_of(fetcher, server.url("/missing")) == "HTTP 404"
    assert await fetcher.fetch(server.url("/a.jpg")) == JPEG


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Busy"])
@pytest.mark.parametrize(
    ("header", "rest_s"),
    [
        ("Retry-After: 7", 7),
        ("Retry-After: 1000000000000", 600),
        ("Retry-After: soon", 60),
        ("Retry-After: -5", 60),
        ("X-None: 1", 60),
    ],
)
async def test_a_host_that_asks_for_a_rest_gets_it(
    status: str, header: str, rest_s: float, server: HostileServer
) -> None:
    clock = Clock()
    server.pages["/x"] = answer(b"", header, status=status)
    async with MediaFetcher(allowed=[server.address], clock=clock) as fetcher:
        assert await reason_of(fetcher, server.url("/x")) == f"HTTP {status[:3]}"
        clock.now_s += rest_s - 0.1
        assert await reason_of(fetcher, server.url("/a.jpg")) == "host resting"
        clock.now_s += 0.2
        assert await fetcher.fetch(server.url("/a.jpg")) == JPEG


async def test_a_rest_may_be_asked_for_by_date(server: HostileServer) -> None:
    clock = Clock()
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    server.pages["/x"] = answer(b"", f"Retry-After: {until}", status="429 Too Many Requests")
    async with MediaFetcher(allowed=[server.address], clock=clock) as fetcher:
        assert await reason_of(fetcher, server.url("/x")) == "HTTP 429"
        clock.now_s += 80
        assert await reason_of(fetcher, server.url("/a.jpg")) == "host resting"
        clock.now_s += 11
        assert await fetcher.fetch(server.url("/a.jpg")) == JPEG


async def test_a_picture_asked_for_again_is_at_hand(fetcher: MediaFetcher, server: HostileServer) -> None:
    for _ in range(3):
        assert await fetcher.fetch(server.url("/a.jpg")) == JPEG
    assert len(server.requests) == 1
    assert (fetcher.fetched, fetcher.cached) == (3, 2)


async def test_the_pictures_kept_are_bounded_and_the_oldest_go_first(server: HostileServer) -> None:
    async with MediaFetcher(allowed=[server.address], cache_bytes=2 * len(JPEG)) as fetcher:
        for n in (1, 2, 1, 3, 1, 2):  # 3 drives out 2, which was not asked for as lately as 1
            await fetcher.fetch(server.url(f"/a.jpg?{n}"))
    assert [request[0].split(" ")[1] for request in server.requests] == [f"/a.jpg?{n}" for n in (1, 2, 3, 2)]
