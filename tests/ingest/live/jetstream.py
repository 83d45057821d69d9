"""A Jetstream in a box: both dialects over real WebSockets, frames plain or zstd, refusals, and the dictionary."""

from __future__ import annotations

import asyncio
import http
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from urllib.parse import parse_qs, urlsplit

import zstandard
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.protocol import State

from tests.ingest.live.upstream import Connection, Refuse

Dialect = Literal["v1", "v2"]
V1_PATH: Final = "/subscribe"
V2_PATH: Final = "/xrpc/network.bsky.jetstream.subscribeEvents"
DICTIONARY_PATH: Final = "/xrpc/network.bsky.jetstream.getZstdDictionary"
POSTS: Final = "app.bsky.feed.post"
FIRST_TIME_CURSOR: Final = 10**15
TEXT, BINARY, PING = 0x1, 0x2, 0x9
SLOW_BYTES: Final = 40
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DIGITS: Final = "234567abcdefghijklmnopqrstuvwxyz"


def microseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def tid(at: datetime, clock: int = 0) -> str:
    """A record key or rev of this time."""
    number = microseconds(at) << 10 | clock
    return "".join(_DIGITS[number >> shift & 31] for shift in range(60, -5, -5))


def did(number: int) -> str:
    return "did:plc:" + "".join(_DIGITS[(number >> shift) & 31] for shift in range(115, -5, -5))


def cid(number: int) -> str:
    """Of a picture; the number is at its end."""
    return f"bafkrei{number:052d}"


def post_record(text: str, created_at: datetime, *, pictures: int = 0, **more: Any) -> dict[str, Any]:
    record: dict[str, Any] = {
        "$type": POSTS,
        "createdAt": created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "langs": ["de"],
        "text": text,
    }
    if pictures:
        images = [image(number) for number in range(pictures)]
        record["embed"] = {"$type": "app.bsky.embed.images", "images": images}
    return record | more


def image(number: int, *, alt: str = "") -> dict[str, Any]:
    blob = {"$type": "blob", "ref": {"$link": cid(number)}, "mimeType": "image/jpeg", "size": 120_000 + number}
    return {"alt": alt or f"picture no {number}", "aspectRatio": {"width": 1200, "height": 900}, "image": blob}


@dataclass(frozen=True)
class Happening:
    """One event of the network, before a dialect. `body` is a commit without its rev, or an account or identity."""

    did: str
    time_us: int
    seq: int
    kind: Literal["commit", "account", "identity"]
    body: Mapping[str, Any]

    def encode(self, dialect: Dialect) -> bytes:
        return self._v1() if dialect == "v1" else self._v2()

    def _v1(self) -> bytes:
        event = {"did": self.did, "time_us": self.time_us, "kind": self.kind, self.kind: self.body}
        return _json(event)

    def _v2(self) -> bytes:
        at = (_EPOCH + timedelta(microseconds=self.time_us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        payload = {"$type": f"network.bsky.jetstream.subscribeEvents#{self.kind}", "seq": self.seq, "did": self.did}
        payload |= {"time": at}
        payload |= self.body if self.kind == "commit" else {self.kind: self.body}
        return _json({"$type": "message", "payload": payload})


def commit(operation: str, rkey: str, rev: str, record: Mapping[str, Any] | None, **more: Any) -> dict[str, Any]:
    body = {"rev": rev, "operation": operation, "collection": POSTS, "rkey": rkey} | more
    return body if record is None else body | {"record": record, "cid": cid(0)}


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def made_up_dictionary() -> bytes:
    """A zstd dictionary trained on made-up posts."""
    at = datetime(2026, 5, 4, 12, tzinfo=UTC)
    samples = [
        Happening(did(n), 10**15 + n, n, "commit", commit("create", tid(at, n), tid(at), post_record(f"{n} {n}", at)))
        .encode("v1")
        for n in range(200)
    ]  # fmt: skip
    return zstandard.train_dictionary(2048, samples).as_bytes()


def frame(data: bytes, *, opcode: int = TEXT, fin: bool = True) -> bytes:
    """A WebSocket frame as servers send it; opcode 0 continues a message."""
    first = opcode | (0x80 if fin else 0)
    if len(data) < 126:
        return bytes((first, len(data))) + data
    if len(data) < 1 << 16:
        return struct.pack("!BBH", first, 126, len(data)) + data
    return struct.pack("!BBQ", first, 127, len(data)) + data


@dataclass(frozen=True)
class Subscription:
    """What a client asked for."""

    dialect: Dialect
    cursor: int | None
    parameters: Mapping[str, list[str]]

    @property
    def is_time(self) -> bool:
        return self.cursor is not None and self.cursor >= FIRST_TIME_CURSOR


class JetstreamConnection(ServerConnection):
    """Can fall silent like a server that hangs: pings stay unanswered then."""

    is_silent = False

    def send_data(self) -> None:
        if self.is_silent:
            self.protocol.data_to_send()
        else:
            super().send_data()

    async def write(self, frames: bytes) -> None:
        """Frames made beforehand; raises ConnectionResetError when the client has said goodbye."""
        if self.state is not State.OPEN:
            raise ConnectionResetError
        self.transport.write(frames)
        await self.drain()


class Player(Connection):
    """A connection on which a stage plays."""

    def __init__(
        self, connection: JetstreamConnection, *, chunk_bytes: int | None, encoder: zstandard.ZstdCompressor | None
    ) -> None:
        self._connection = connection
        self._chunk_bytes = chunk_bytes
        self._encoder = encoder

    async def send(self, data: bytes) -> None:
        if not data:
            await self._connection.write(frame(b"", opcode=PING))
            return
        opcode = TEXT
        if self._encoder is not None:
            data, opcode = self._encoder.compress(data), BINARY
        size = self._chunk_bytes or len(data)
        for start in range(0, len(data), size):
            piece, is_last = data[start : start + size], start + size >= len(data)
            await self._connection.write(frame(piece, opcode=0 if start else opcode, fin=is_last))

    async def send_part(self, data: bytes, *, slowly: bool = False) -> None:
        pieces = [data[at : at + 1] for at in range(min(len(data), SLOW_BYTES))] if slowly else [data]
        for number, piece in enumerate(pieces):
            await self._connection.write(frame(piece, opcode=0 if number else TEXT, fin=False))
            await asyncio.sleep(0.01 if slowly else 0)

    async def wait_until_gone(self) -> None:
        self._connection.is_silent = True
        await self._connection.wait_closed()

    async def idle(self) -> None:
        await self._connection.wait_closed()


Play = Callable[[JetstreamConnection, Subscription], Awaitable[None]]


@dataclass
class Jetstream:
    """What a server is like; `refuse` answers an attempt to connect, `play` serves one that was let in."""

    play: Play
    refuse: Callable[[Subscription], Refuse | bytes | None] = lambda subscription: None
    dialects: tuple[Dialect, ...] = ("v1", "v2")
    dictionary: bytes | None = None
    dictionary_fetches: int = field(default=0, init=False)

    @asynccontextmanager
    async def serve(self, port: int = 0) -> AsyncIterator[str]:
        """Yields ws://127.0.0.1:PORT. When `play` returns the connection is cut off hard."""
        async with serve(
            self._play,
            "127.0.0.1",
            port,
            compression=None,
            ping_interval=None,
            close_timeout=0.1,
            process_request=self._answer,
            create_connection=JetstreamConnection,
        ) as server:
            yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _play(self, connection: ServerConnection) -> None:
        assert isinstance(connection, JetstreamConnection) and connection.request is not None
        try:
            await self.play(connection, self._subscription(connection.request.path))
        except ConnectionError:
            pass
        finally:
            connection.transport.abort()

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        path = urlsplit(request.path).path
        if path == DICTIONARY_PATH and self.dictionary is not None and "v2" in self.dialects:
            self.dictionary_fetches += 1
            return _response(200, {}, self.dictionary)
        if path not in [V1_PATH if dialect == "v1" else V2_PATH for dialect in self.dialects]:
            return _response(404, {}, b"404 page not found")
        refusal = self.refuse(self._subscription(request.path))
        if isinstance(refusal, Refuse):
            redirect = {"Location": request.path} if 300 <= refusal.status < 400 else {}
            return _response(refusal.status, {**refusal.headers, **redirect}, b"")
        return _response(400, {}, refusal) if refusal is not None else None

    @staticmethod
    def _subscription(target: str) -> Subscription:
        parts = urlsplit(target)
        parameters = parse_qs(parts.query)
        cursor = int(parameters["cursor"][0]) if "cursor" in parameters else None
        return Subscription("v1" if parts.path == V1_PATH else "v2", cursor, parameters)

    def encoder(self, subscription: Subscription) -> zstandard.ZstdCompressor | None:
        """None where the client did not ask for compressed frames."""
        if not {"compress", "zstdDictionary"} & set(subscription.parameters) or self.dictionary is None:
            return None
        return zstandard.ZstdCompressor(dict_data=zstandard.ZstdCompressionDict(self.dictionary))


def _response(status: int, headers: Mapping[str, str], body: bytes) -> Response:
    all_headers = Headers({"Content-Length": str(len(body)), "Connection": "close", **headers})
    return Response(status, http.HTTPStatus(status).phrase, all_headers, body)
