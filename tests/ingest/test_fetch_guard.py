"""No link and no name leads to a connection that it must not lead to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpcore
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import BadSettings, MediaUnavailable
from ingest.media.fetch import MediaFetcher
from ingest.media.guard import AllowList, is_public
from tests.ingest.hostile_links import ALLOWED, LINKS, NUMBERS_FOR_LOOPBACK, PRIVATE_ADDRESSES, PUBLIC_ADDRESSES

HOST = "pictures.example.org"
LINK = f"https://{HOST}/a.jpg"


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Every address that a connection is tried to; none is made."""
    seen: list[tuple[str, int]] = []

    async def refuse(self: object, host: str, port: int, *_: object, **__: object) -> httpcore.AsyncNetworkStream:
        seen.append((host, port))
        raise httpcore.ConnectError("no network in tests")

    monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", refuse)
    return seen


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, Sequence[str]]:
    """What the system's resolver knows: addresses by name, to be filled in by the test."""
    known: dict[str, Sequence[str]] = {}

    def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[Any, ...]]:
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port)) for address in known[host]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known


async def reason_of(fetcher: MediaFetcher, link: str) -> str:
    with pytest.raises(MediaUnavailable) as raised:
        await fetcher.fetch(link)
    return raised.value.reason


@pytest.fixture
async def fetcher() -> AsyncIterator[MediaFetcher]:
    async with MediaFetcher(allowed=ALLOWED) as fetcher:
        yield fetcher


@pytest.mark.parametrize("name", LINKS)
async def test_a_hostile_link_is_refused_before_its_name_is_resolved(
    name: str, fetcher: MediaFetcher, dialled: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    link, expected = LINKS[name]
    resolved: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *asked, **_: resolved.append(asked))
    assert await reason_of(fetcher, link) == expected
    assert fetcher.refused == {expected: 1}
    assert (resolved, dialled) == ([], [])


@pytest.mark.parametrize("kind", PRIVATE_ADDRESSES)
async def test_a_name_with_an_address_that_is_not_public_is_never_dialled(
    kind: str, fetcher: MediaFetcher, names: dict[str, Sequence[str]], dialled: list[tuple[str, int]]
) -> None:
    names[HOST] = [PRIVATE_ADDRESSES[kind]]
    assert await reason_of(fetcher, LINK) == "address not public"
    names[HOST] = ["8.8.8.8", PRIVATE_ADDRESSES[kind]]
    assert await reason_of(fetcher, LINK) == "address not public"
    assert dialled == []


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
async def test_a_public_address_is_dialled_by_its_number(
    address: str, fetcher: MediaFetcher, names: dict[str, Sequence[str]], dialled: list[tuple[str, int]]
) -> None:
    names[HOST] = [address]
    assert await reason_of(fetcher, LINK) == "no connection"
    assert dialled == [(address, 443)]


@pytest.mark.parametrize("host", NUMBERS_FOR_LOOPBACK)
async def test_loopback_by_any_spelling_is_not_dialled_even_when_listed(
    host: str, dialled: list[tuple[str, int]]
) -> None:
    async with MediaFetcher(allowed=[host]) as fetcher:
        assert await reason_of(fetcher, f"https://{host}/") == "address not public"
    assert dialled == []


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "10.0.0.1", "169.254.169.254", "[fd00:ec2::254]"])
async def test_an_address_on_the_list_must_be_public_still(host: str, dialled: list[tuple[str, int]]) -> None:
    async with MediaFetcher(allowed=[host]) as fetcher:
        assert await reason_of(fetcher, f"https://{host}/") == "address not public"
    assert dialled == []


async def test_a_name_that_answers_otherwise_the_second_time_gains_nothing(dialled: list[tuple[str, int]]) -> None:
    answers = iter([["8.8.8.8"], ["127.0.0.1"], ["8.8.4.4"]])

    async def resolve(host: str, port: int) -> Sequence[str]:
        return next(answers)

    async with MediaFetcher(allowed=[HOST], resolve=resolve) as fetcher:
        assert await reason_of(fetcher, LINK) == "no connection"
        assert dialled == [("8.8.8.8", 443)]  # asked once, and what was checked is what is dialled
        assert await reason_of(fetcher, LINK) == "address not public"
        assert await reason_of(fetcher, LINK) == "no connection"
    assert dialled == [("8.8.8.8", 443), ("8.8.4.4", 443)]


async def test_every_address_of_a_name_is_tried_but_not_endlessly_many(
    fetcher: MediaFetcher, names: dict[str, Sequence[str]], dialled: list[tuple[str, int]]
) -> None:
    names[HOST] = ["8.8.8.8", "8.8.8.8", *(f"8.8.4.{n}" for n in range(100))]
    assert await reason_of(fetcher, LINK) == "no connection"
    assert [host for host, _ in dialled] == ["8.8.8.8", "8.8.4.0", "8.8.4.1", "8.8.4.2"]


@pytest.mark.parametrize("addresses", [None, []])
async def test_a_name_without_address_is_no_connection(
    addresses: list[str] | None, fetcher: MediaFetcher, names: dict[str, Sequence[str]]
) -> None:
    if addresses is not None:
        names[HOST] = addresses
    assert await reason_of(fetcher, LINK) == "no connection"


async def test_a_name_server_that_does_not_answer_costs_the_time_of_a_connection() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        raise AssertionError

    async with MediaFetcher(allowed=[HOST], resolve=resolve, connect_s=0.05) as fetcher:
        assert await reason_of(fetcher, LINK) == "too slow"


async def test_proxies_of_the_environment_are_not_used(
    fetcher: MediaFetcher,
    names: dict[str, Sequence[str]],
    dialled: list[tuple[str, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    names[HOST] = ["8.8.8.8"]
    async with MediaFetcher(allowed=[HOST]) as late:
        assert await reason_of(late, LINK) == "no connection"
    assert dialled == [("8.8.8.8", 443)]


@pytest.mark.parametrize("entry", ["", "*", "*.com", "*.*.org", "a*.org", "a b", "https://a.org", "a.org/x", "u@a.org",
                                   "*.a.org:443", "a.org:99999x", "a.org?x", "[::1", "a..org"])  # fmt: skip
def test_an_entry_that_is_no_host_is_named(entry: str) -> None:
    with pytest.raises(BadSettings, match="cannot be used: give a host"):
        AllowList(["cdn.example.org", entry])


@pytest.mark.parametrize(
    ("entry", "link"),
    [
        ("cdn.bsky.app", "https://cdn.bsky.app/img/feed_thumbnail/plain/did:plc:a/b@jpeg"),
        ("cdn.bsky.app", "HTTPS://CDN.BSKY.APP:443/"),
        ("CDN.bsky.app", "https://cdn.bsky.app/?a=b#c"),
        ("*.example.org", "https://a.b.example.org/"),
        ("m\u00fcnchen.example", "https://xn--mnchen-3ya.example/"),
        ("xn--mnchen-3ya.example", "https://M\u00dcNCHEN.example/"),
        ("127.0.0.1:8000", "http://127.0.0.1:8000/"),
        ("127.0.0.1:80", "http://127.0.0.1/"),
        ("[::1]:8000", "http://[::1]:8000/"),
        ("media.local:8443", "https://media.local:8443/"),
    ],
)
def test_what_is_listed_is_admitted(entry: str, link: str) -> None:
    assert AllowList([entry]).admit(link) == httpx.URL(link)


@pytest.mark.parametrize("link", ["http://127.0.0.1:8001/", "http://127.0.0.1/", "http://localhost:8000/"])
def test_trust_is_in_one_host_and_port(link: str) -> None:
    with pytest.raises(MediaUnavailable, match="host not allowed"):
        AllowList(["127.0.0.1:8000"]).admit(link)


def test_https_is_not_left_again_even_for_a_trusted_host() -> None:
    allowed = AllowList(["cdn.example.org", "127.0.0.1:8000"])
    page = allowed.admit("https://cdn.example.org/a.jpg")
    with pytest.raises(MediaUnavailable, match="not https"):
        allowed.admit("http://127.0.0.1:8000/", referrer=page)


@given(st.text(max_size=40), st.sampled_from(["{}", "https://{}", "https://cdn.bsky.app{}", "https://{}cdn.bsky.app/"]))
@settings(max_examples=300, deadline=None)
def test_any_text_is_refused_or_leads_to_a_listed_host(text: str, form: str) -> None:
    try:
        url = AllowList(ALLOWED).admit(form.format(text))
    except MediaUnavailable:
        return
    assert (url.scheme, url.port, url.userinfo) == ("https", None, b"")
    assert url.raw_host == b"cdn.bsky.app" or url.raw_host.endswith(b".example.org")


def test_an_address_is_public_or_not() -> None:
    assert [address for address in PUBLIC_ADDRESSES if not is_public(address)] == []
    assert [kind for kind, address in PRIVATE_ADDRESSES.items() if is_public(address)] == []
