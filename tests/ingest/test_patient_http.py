"""Servers that drip, flood or wander cost a bounded time and memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from ingest.retry_after import retry_after_s
from ingest.sources import patient_http
from ingest.sources.patient_http import LiveLines, TryAgain, ask, open_client, problem_of, refusal


class Bytes(httpx.AsyncByteStream):
    """Chunks with a pause before each."""

    def __init__(self, *chunks: bytes, pause_s: float = 0.0) -> None:
        self._chunks, self._pause_s = chunks, pause_s

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            await asyncio.sleep(self._pause_s)
            yield chunk


async def read(*chunks: bytes, pause_s: float = 0.0, silence_s: float = 5.0) -> tuple[bytes, Counter[str]]:
    skipped: Counter[str] = Counter()
    lines = LiveLines(Bytes(*chunks, pause_s=pause_s), silence_s=silence_s, skipped=skipped)
    return b"".join([chunk async for chunk in lines]), skipped


async def test_bytes_pass_unchanged_and_heartbeats_are_counted() -> None:
    data = b":)\nevent: update\ndata: 1\n\n:thump\n:thump\n"
    passed, skipped = await read(*(bytes([byte]) for byte in data))
    assert (passed, skipped) == (data, {"heartbeat": 3})


async def test_a_line_that_drips_is_given_up() -> None:
    with pytest.raises(httpx.ReadTimeout):
        await read(*[b"x"] * 100, pause_s=0.01, silence_s=0.1)


async def test_whole_lines_may_come_slowly() -> None:
    _, skipped = await read(*[b":t\n"] * 10, pause_s=0.05, silence_s=0.2)
    assert skipped["heartbeat"] == 10


@pytest.mark.parametrize("chunk", [b"x" * 100_000, b"data: x\n" * 10_000])
async def test_an_event_without_end_is_given_up(chunk: bytes) -> None:
    with pytest.raises(httpx.ReadError):
        await read(*[chunk] * 40)


async def test_many_events_may_follow_each_other() -> None:
    event = b"data: " + b"x" * 50_000 + b"\n\n"
    passed, _ = await read(*[event] * 60)
    assert len(passed) == 60 * len(event)


async def answer_of(handler: httpx.MockTransport) -> patient_http.Answer:
    async with httpx.AsyncClient(transport=handler, follow_redirects=True, max_redirects=3) as client:
        return await ask(client, "GET", "https://feeds.example/a", deadline_s=0.2)


async def test_a_body_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patient_http, "MAX_BODY_BYTES", 1000)
    with pytest.raises(TryAgain, match="an answer of more than"):
        await answer_of(httpx.MockTransport(lambda request: httpx.Response(200, content=b"x" * 1001)))


async def test_a_body_that_drips_is_given_up() -> None:
    dripping = Bytes(*[b"x"] * 1000, pause_s=0.01)
    with pytest.raises(TryAgain, match="no answer in time") as lost:
        await answer_of(httpx.MockTransport(lambda request: httpx.Response(200, stream=dripping)))
    assert lost.value.is_there


async def test_redirects_in_a_circle_end() -> None:
    circle = httpx.MockTransport(lambda request: httpx.Response(302, headers={"Location": "/a"}))
    with pytest.raises(TryAgain, match="redirects in a circle"):
        await answer_of(circle)


@pytest.mark.parametrize(("status", "moved"), [(301, True), (308, True), (302, False), (307, False)])
async def test_it_tells_whether_an_address_moved_for_good(status: int, moved: bool) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        is_new = request.url.path == "/b"
        return httpx.Response(200, text="b") if is_new else httpx.Response(status, headers={"Location": "/b"})

    answered = await answer_of(httpx.MockTransport(answer))
    assert (answered.url, answered.moved, answered.body) == ("https://feeds.example/b", moved, b"b")


async def test_a_client_may_follow_no_redirects() -> None:
    async with open_client(follow_redirects=False) as client:
        client._transport = httpx.MockTransport(lambda request: httpx.Response(302, headers={"Location": "/b"}))
        client._mounts = {}
        answer = await ask(client, "GET", "https://feeds.example/a")
    assert (answer.status, answer.url, answer.moved) == (302, "https://feeds.example/a", False)


async def test_credentials_stay_with_their_host() -> None:
    seen: dict[str, str | None] = {}

    def answer(request: httpx.Request) -> httpx.Response:
        seen[request.url.host] = request.headers.get("Authorization")
        there = {"Location": "https://other.example/"}
        return httpx.Response(200) if request.url.host == "other.example" else httpx.Response(302, headers=there)

    async with open_client() as client:
        client._transport = httpx.MockTransport(answer)
        client._mounts = {}
        await ask(client, "GET", "https://trams.example/", headers={"Authorization": "Bearer made-up"})
    assert seen == {"trams.example": "Bearer made-up", "other.example": None}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "17"}, 17.0),
        ({"Retry-After": "-3"}, 0.0),
        ({"Retry-After": "999999"}, 3600.0),
        ({"Retry-After": "inf"}, 3600.0),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "soon"}, None),
        ({"X-RateLimit-Reset": "42.5"}, 42.5),
    ],
)
def test_waits_a_server_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(httpx.Headers(headers)) == seconds


def test_waits_may_be_dates_and_times() -> None:
    at = datetime.now(UTC) + timedelta(seconds=100)
    for value in (format_datetime(at, usegmt=True), at.isoformat().replace("+00:00", "Z"), str(at.timestamp())):
        assert retry_after_s(httpx.Headers({"Retry-After": value})) == pytest.approx(100, abs=2)


def test_problems_never_quote_the_request() -> None:
    error = httpx.LocalProtocolError("Illegal header value b'Bearer made-up'")
    assert problem_of(error) == "unusable answer (LocalProtocolError)"
    assert refusal(503, httpx.Headers()).problem == "HTTP 503 Service Unavailable"
    assert refusal(599, httpx.Headers()).problem == "HTTP 599"
