"""A Mastodon server: where it streams, which timelines it has, and which post each of its numbers is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import msgspec

from ingest.errors import BadCredentials, BadSource
from ingest.sources.live import UNREADABLE, secret
from ingest.sources.mastodon_status import Status, read_status
from ingest.sources.patient_http import ask, refusal

TOKEN: Final = "MOODSTREAM_MASTODON_TOKEN"
MAX_NUMBERS: Final = 100_000
"""Numbers remembered per server; mastodon.social's public stream makes so many in some hours."""
_HASHTAG: Final = re.compile(r"hashtag:#?(\w+)")


class Channel:
    """One kind of timeline: where it streams, and where its past is read."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.params: dict[str, str] = {}
        self.timeline, self.timeline_params = "/api/v1/timelines/public", dict[str, str]()
        if tag := _HASHTAG.fullmatch(name):
            self.stream, self.params = "/api/v1/streaming/hashtag", {"tag": tag[1]}
            self.timeline = f"/api/v1/timelines/tag/{tag[1]}"
        elif name == "public":
            self.stream = "/api/v1/streaming/public"
        elif name == "local":
            self.stream, self.timeline_params = "/api/v1/streaming/public/local", {"local": "true"}
        else:
            raise BadSource(f"Mastodon has no channel {name!r}: there are public, local and hashtag:NAME")


class Server:
    """One server: its addresses, its token, and which post each of its numbers is."""

    def __init__(self, url: str, tokens: Mapping[str, str]) -> None:
        self.url = url
        self.host = urlsplit(url).netloc
        self.headers = {"Authorization": f"Bearer {tokens[self.host]}"} if self.host in tokens else {}
        self.media_hosts = (self.host,) if url.startswith("http://") else (self.host, f"*.{self.host}")
        self.post_ids: dict[str, str] = {}
        self._streaming_url: str | None = None

    def remember(self, number: str, name: str) -> None:
        """`number` is the post `name`; the oldest are forgotten beyond MAX_NUMBERS."""
        if len(self.post_ids) >= MAX_NUMBERS and number not in self.post_ids:
            del self.post_ids[next(iter(self.post_ids))]
        self.post_ids[number] = name

    async def streaming_url(self, client: httpx.AsyncClient) -> str:
        """Where it streams, asked once; its own address if it does not say."""
        if self._streaming_url is None:
            answer = await ask(client, "GET", f"{self.url}/api/v2/instance", headers=self.headers)
            about = _object(answer.body) if answer.status == 200 else {}
            self._streaming_url = self._streaming_url_in(about) or self.url
        return self._streaming_url

    def _streaming_url_in(self, about: dict[str, Any]) -> str | None:
        with suppress(KeyError, TypeError, AttributeError):
            address = re.sub("^ws", "http", about["configuration"]["urls"]["streaming"].rstrip("/"))
            # A token must not leave in the clear because an answer says so.
            if address.startswith("https://") or (address.startswith("http://") and self.url.startswith("http://")):
                return str(address)
        return None

    def ask_again(self) -> None:
        """Its streaming address may have changed."""
        self._streaming_url = None

    def refused(self, status: int, headers: httpx.Headers) -> Exception:
        if status not in (401, 403):
            return refusal(status, headers)
        how = f"make an application with scope read:statuses on {self.url}/settings/applications"
        if self.headers:
            return BadCredentials(f"{self.host} refuses the token in {TOKEN} (HTTP {status}): {how} and set a new one")
        return BadCredentials(
            f"{self.host} wants a token (HTTP {status}): {how} and set {TOKEN}, or read another server"
        )


def tokens_in(environ: Mapping[str, str], hosts: Sequence[str]) -> dict[str, str]:
    """Each server's token: one alone belongs to the only server, else they are written host=token, with commas."""
    if not (environ.get(TOKEN) or environ.get(f"{TOKEN}_FILE")):
        return {}
    value = secret(environ, TOKEN, where="see Preferences, Development on your server")
    pairs = [part.strip().partition("=") for part in value.split(",")]
    tokens = {host: token for host, _, token in pairs if host in hosts and token}
    if not tokens and len(hosts) == 1 and len(pairs) == 1:
        tokens = {hosts[0]: value}
    if len(tokens) != len(pairs):
        raise BadCredentials(f"{TOKEN}: with {len(hosts)} servers write HOST=TOKEN for each, with commas between")
    if not all(token.isascii() and token.isprintable() and " " not in token for token in tokens.values()):
        raise BadCredentials(f"{TOKEN} holds characters no token has: copy it again")
    return tokens


def address(server: str) -> str:
    """https://host of what the user wrote. Raises BadSource."""
    url = server if "://" in server else f"https://{server}"
    with suppress(ValueError):
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and not parts.username and parts.path in ("", "/"):
            return f"{parts.scheme}://{parts.netloc.lower()}"
    raise BadSource(f"{server.rpartition('@')[2]!r} is no Mastodon server: write its address, https://mastodon.social")


def statuses_in(body: bytes) -> list[Status]:
    """Statuses of a REST answer, in the order of their numbers; none in what is no list."""
    items: list[msgspec.Raw] = []
    with suppress(*UNREADABLE):
        items = msgspec.json.decode(body, type=list[msgspec.Raw])
    return sorted(filter(None, map(read_status, items)), key=lambda status: order(status.id))


def order(number: str) -> tuple[int, str]:
    """Numbers rise with time, as digits (Mastodon) or as letters of equal length (Pleroma)."""
    return len(number), number


def _object(body: bytes) -> dict[str, Any]:
    with suppress(*UNREADABLE):
        return msgspec.json.decode(body, type=dict[str, Any])
    return {}
