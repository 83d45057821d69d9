"""One Jetstream server: which dialect it speaks, how it is asked, and why it refuses."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode, urlsplit

import httpx
import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI

from ingest.errors import BadSource
from ingest.retry_after import retry_after_s
from ingest.sources.bluesky_wire import (
    LOOK_BACK,
    MAX_EVENT_BYTES,
    V1,
    V2,
    ZSTD_MAGIC,
    Dialect,
    Dictionary,
    Event,
    Notice,
    Position,
)
from ingest.sources.live import UNREADABLE

OPEN_TIMEOUT_S: Final = 10.0
CLOSE_TIMEOUT_S: Final = 1.0
MAX_QUEUE: Final = 512
MAX_RETRY_AFTER_S: Final = 300.0
DICTIONARY_PATH: Final = "/xrpc/network.bsky.jetstream.getZstdDictionary"
TRANSIENT: Final = frozenset({408, 425, 429})
"""Refusals of the 400s that say nothing about the request."""


@dataclass
class Refused(Exception):
    """A server does not take us; is_network: it was not even there."""

    reason: str
    status: int | None = None
    error: str = ""
    retry_after_s: float = 0.0
    is_network: bool = False

    @classmethod
    def by(cls, name: str, refusal: InvalidStatus) -> Refused:
        response = refusal.response
        error, message = _told(bytes(response.body or b""))
        return cls(
            " ".join(filter(None, (f"{name}: HTTP {response.status_code}", error, message))),
            status=response.status_code,
            error=error,
            retry_after_s=min(retry_after_s(response.headers) or 0.0, MAX_RETRY_AFTER_S),
        )

    @property
    def is_final(self) -> bool:
        """Asking again will not help."""
        return self.status is not None and 400 <= self.status < 500 and self.status not in TRANSIENT

    def __str__(self) -> str:
        return self.reason


class Server:
    """A server by its URL; without a path it is asked in v2 first, then in v1. Raises BadSource for other URLs.

    legacy_dictionary: for the compressed frames of v1, where the user has it.
    """

    def __init__(self, url: str, legacy_dictionary: Dictionary | None = None) -> None:
        self.name, scheme, path = _parsed(url)
        by_path: dict[str | None, tuple[Dialect, ...]] = {"": (V2(), V1()), V1.path: (V1(),), V2.path: (V2(),)}
        dialects = by_path.get(path)
        if dialects is None:
            shown = url.rpartition("@")[2]  # before it may stand a password
            raise BadSource(
                f"--host {shown} is no Jetstream; say wss://HOST, wss://HOST{V1.path} or wss://HOST{V2.path}"
            )
        self._origin = f"{scheme}://{self.name}"
        self._dialect, *self._other_dialects = dialects
        self._legacy_dictionary = legacy_dictionary
        self._dictionary: Dictionary | None = None
        self._asked_for_dictionary = False

    async def open(self, position: Position | None) -> ClientConnection:
        """A connection that misses nothing after `position`; None starts with what happens now.

        Raises Refused when there is no other way left to ask.
        """
        while True:
            await self._find_dictionary()
            try:
                return await connect(
                    self._url(position),
                    compression=None,
                    max_size=2 * MAX_EVENT_BYTES,
                    max_queue=MAX_QUEUE,
                    ping_interval=None,
                    open_timeout=OPEN_TIMEOUT_S,
                    close_timeout=CLOSE_TIMEOUT_S,
                    user_agent_header="moodstream",
                )
            except InvalidStatus as refusal:
                refused = Refused.by(self.name, refusal)
                if refused.error == "CursorTooOld" and position is not None and position.seq is not None:
                    position = Position(position.time_us)
                elif not self._give_way(refused):
                    raise refused from refusal
            except (OSError, TimeoutError, InvalidHandshake, InvalidURI) as error:
                raise Refused(f"{self.name}: {error or type(error).__name__}", is_network=True) from error

    def _give_way(self, refused: Refused) -> bool:
        """Asks for less than before, if that is what the server refused."""
        if refused.error == "UnknownZstdDictionary" and self._dictionary is not None:
            self._dictionary = None
        elif refused.status in (404, 405) and self._other_dialects:
            self._dialect = self._other_dialects.pop(0)
        else:
            return False
        return True

    def _url(self, position: Position | None) -> str:
        parameters = self._dialect.filters()
        if self._dictionary is not None:
            parameters += self._dialect.compression(self._dictionary)
        if position is not None:
            parameters.append(("cursor", str(self._cursor(position))))
        return f"{self._origin}{self._dialect.path}?{urlencode(parameters)}"

    def _cursor(self, position: Position) -> int:
        if self._dialect.has_numbers and position.seq is not None and position.host == self.name:
            return position.seq
        return position.time_cursor(self.name)

    async def _find_dictionary(self) -> None:
        """v2 hands its own out, once; without one frames come plain."""
        if not self._dialect.has_numbers:
            self._dictionary = self._legacy_dictionary
        elif not self._asked_for_dictionary:
            self._asked_for_dictionary = True
            with contextlib.suppress(httpx.HTTPError, ValueError):
                async with httpx.AsyncClient(timeout=OPEN_TIMEOUT_S) as http:
                    answer = await http.get(f"http{self._origin.removeprefix('ws')}{DICTIONARY_PATH}")
                    self._dictionary = Dictionary(answer.raise_for_status().content)

    def gap_after(self, position: Position) -> str | None:
        """What is lost when starting at `position` and the server does not say: v1 starts where its memory does."""
        floor = Position.now().at - LOOK_BACK
        if self._dialect.has_numbers or position.at >= floor:
            return None
        return f"{position.at:%Y-%m-%d %H:%M} to {floor:%Y-%m-%d %H:%M} UTC: {self.name} does not go back further"

    def decode(self, frame: bytes) -> Event | Notice:
        """Raises MalformedEvent and StreamEnded."""
        if self._dictionary is not None and frame.startswith(ZSTD_MAGIC):
            frame = self._dictionary.inflate(frame)
        return self._dialect.decode(frame)

    def position_after(self, event: Event) -> Position:
        if self._dialect.has_numbers:
            return Position(event.time_us, event.seq, self.name)
        return Position(event.time_us)

    def __str__(self) -> str:
        return f"{self.name} ({self._dialect.name})"


def _parsed(url: str) -> tuple[str, str, str | None]:
    """host:port, scheme and path; the path None if the URL is none, or has parts a Jetstream's has not."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(url if "//" in url else f"wss://{url}")
        scheme = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}.get(parts.scheme)
        is_plain = not parts.query and "@" not in parts.netloc and parts.port != 0  # reading a bad port raises
        if scheme and parts.hostname and is_plain:
            return parts.netloc, scheme, parts.path.rstrip("/")
    return "", "", None


def _told(body: bytes) -> tuple[str, str]:
    """Name and message of an XRPC error; empty where the body is none."""
    with contextlib.suppress(*UNREADABLE):
        told = msgspec.json.decode(body, type=dict[str, object])
        return str(told.get("error", "")), str(told.get("message", "")).replace("\n", " ")[:200]
    return "", ""
