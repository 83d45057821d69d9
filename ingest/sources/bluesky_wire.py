"""Bluesky's Jetstream on the wire: two dialects, frames plain or zstd, one kind of event out of them.

v1 is `/subscribe`; v2 is `network.bsky.jetstream.subscribeEvents`, whose cursors are numbers that only its own server
knows, and whose refusals say why. Servers of 2026 speak both, older ones v1 only. Written
after bluesky-social/jetstream, docs/README.md §5 and lexicons/network/bsky/jetstream/subscribeEvents.json.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal, NamedTuple, Protocol

import msgspec
import zstandard

from ingest.sources.live import UNREADABLE

POSTS: Final = "app.bsky.feed.post"
MAX_EVENT_BYTES: Final = 1 << 20
LOOK_BACK: Final = timedelta(hours=36)
OVERLAP: Final = timedelta(seconds=5)
HOST_OVERLAP: Final = timedelta(seconds=60)
"""An event's time is when a server saw it: times are a little out of order, and servers differ by their lag."""

ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
DICTIONARY_MAGIC: Final = b"\x37\xa4\x30\xec"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_NOTHING: Final = msgspec.Raw()

Microseconds = Annotated[int, msgspec.Meta(ge=0, le=10**16)]
UtcTime = Annotated[datetime, msgspec.Meta(tz=True)]
Parameters = list[tuple[str, str]]


class Commit(msgspec.Struct, gc=False):
    """A record was created, updated or deleted. `rev` rises with every commit of its author."""

    operation: str
    collection: str
    rkey: str
    rev: str = ""
    record: msgspec.Raw = _NOTHING


class Account(msgspec.Struct, gc=False):
    """Whether an account is to be shown, and if not, why: deleted, takendown, suspended, deactivated …"""

    active: bool
    status: str | None = None


class Event(msgspec.Struct, gc=False):
    """What happened to `did`; time_us: when the server saw it, seq: its number there. In the shape of v1."""

    did: str
    time_us: Microseconds
    kind: str
    commit: Commit | None = None
    account: Account | None = None
    seq: int | None = msgspec.field(default=None, name="cursor")


class Notice(NamedTuple):
    """A remark of the server about the stream, OutdatedCursor among them."""

    name: str
    message: str


class MalformedEvent(Exception):
    """A frame that is no event of the dialect."""


class StreamEnded(Exception):
    """The server ends the stream and says why (ConsumerTooSlow)."""


class Position(NamedTuple):
    """The place after an event: by time, which all servers understand, and by number, which only its own host does.

    As text it is the source's cursor: "1783175888085434", "1783175888085434 12345 host".
    """

    time_us: int
    seq: int | None = None
    host: str = ""

    @classmethod
    def now(cls) -> Position:
        return cls(time.time_ns() // 1000)

    @classmethod
    def parse(cls, cursor: str) -> Position:
        """Raises ValueError for what is no cursor of ours."""
        time_us, *rest = cursor.split(" ")
        position = cls(int(time_us), int(rest[0]), rest[1]) if len(rest) == 2 else cls(int(time_us))
        if rest and len(rest) != 2 or not 0 <= position.time_us <= 10**16:
            raise ValueError(cursor)
        return position

    def __str__(self) -> str:
        return str(self.time_us) if self.seq is None else f"{self.time_us} {self.seq} {self.host}"

    @property
    def at(self) -> datetime:
        return _EPOCH + self.time_us * _MICROSECOND

    def time_cursor(self, host: str) -> int:
        """Microseconds from which `host` misses nothing."""
        overlap = OVERLAP if self.host in ("", host) else HOST_OVERLAP
        return max(self.time_us - overlap // _MICROSECOND, 10**15)  # smaller numbers would be taken for a seq


class Dialect(Protocol):
    """One of the two formats. `has_numbers`: its cursor may be a seq."""

    name: Literal["v1", "v2"]
    path: str
    has_numbers: bool

    def filters(self) -> Parameters:
        """Query parameters that ask for posts and accounts only, and for none too long to be taken."""
        ...

    def compression(self, dictionary: Dictionary) -> Parameters:
        """Query parameters that ask for frames compressed with it."""
        ...

    def decode(self, frame: bytes) -> Event | Notice:
        """Raises MalformedEvent, and StreamEnded for the server's last word."""
        ...


class V1(Dialect):
    """{"did", "time_us", "kind", "commit" | "account" | "identity"}, cursors by time."""

    name: Literal["v1"] = "v1"
    path = "/subscribe"
    has_numbers = False
    _decode = msgspec.json.Decoder(Event).decode

    def filters(self) -> Parameters:
        return [("wantedCollections", POSTS), ("maxMessageSizeBytes", str(MAX_EVENT_BYTES))]

    def compression(self, dictionary: Dictionary) -> Parameters:
        return [("compress", "true")]

    def decode(self, frame: bytes) -> Event | Notice:
        try:
            return self._decode(frame)
        except UNREADABLE as error:
            raise MalformedEvent(str(error)) from error


class _Payload(msgspec.Struct, gc=False):
    type: str = msgspec.field(name="$type")
    seq: int | None = None
    did: str = ""
    time: UtcTime | None = None
    operation: str = ""
    collection: str = ""
    rkey: str = ""
    rev: str = ""
    record: msgspec.Raw = _NOTHING
    account: Account | None = None
    name: str = ""
    message: str = ""


class _Frame(msgspec.Struct, gc=False):
    type: str = msgspec.field(name="$type")
    payload: _Payload | None = None
    error: str = ""
    message: str = ""


class V2(Dialect):
    """{"$type": "message", "payload": {"$type": "…#commit", "seq", "did", "time", …}}, cursors by number or time."""

    name: Literal["v2"] = "v2"
    path = "/xrpc/network.bsky.jetstream.subscribeEvents"
    has_numbers = True
    _decode = msgspec.json.Decoder(_Frame).decode

    def filters(self) -> Parameters:
        return [
            ("kinds", "commit"),
            ("kinds", "account"),
            ("collections", POSTS),
            ("maxMessageSizeBytes", str(MAX_EVENT_BYTES)),
        ]

    def compression(self, dictionary: Dictionary) -> Parameters:
        return [("zstdDictionary", str(dictionary.id))]

    def decode(self, frame: bytes) -> Event | Notice:
        try:
            message = self._decode(frame)
        except UNREADABLE as error:
            raise MalformedEvent(str(error)) from error
        if message.error:
            raise StreamEnded(f"{message.error}: {message.message}" if message.message else message.error)
        payload = message.payload
        if payload is None:
            raise MalformedEvent("a frame without payload")
        kind = payload.type.rpartition("#")[2]
        if kind == "info":
            return Notice(payload.name, payload.message)
        if payload.time is None or not payload.did:
            raise MalformedEvent("an event without time or did")
        commit = None
        if kind == "commit":
            commit = Commit(payload.operation, payload.collection, payload.rkey, payload.rev, payload.record)
        time_us = (payload.time - _EPOCH) // _MICROSECOND
        return Event(payload.did, time_us, kind, commit, payload.account, payload.seq)


class Dictionary:
    """A zstd dictionary as Jetstream servers use it; raises ValueError if `data` is none.

    It is Bluesky's own data: taken from the server, or from a file of the user's, and not shipped.
    """

    def __init__(self, data: bytes) -> None:
        if not data.startswith(DICTIONARY_MAGIC):
            raise ValueError("not a zstd dictionary")
        dictionary = zstandard.ZstdCompressionDict(data)
        self.id = dictionary.dict_id()
        self._decompressor = zstandard.ZstdDecompressor(dict_data=dictionary)

    def inflate(self, frame: bytes) -> bytes:
        """Raises MalformedEvent for what is broken or longer than an event may be: the size is told by the sender."""
        try:
            if zstandard.frame_content_size(frame) > MAX_EVENT_BYTES:
                raise MalformedEvent("an event too long")
            return self._decompressor.decompress(frame, max_output_size=MAX_EVENT_BYTES)
        except zstandard.ZstdError as error:
            raise MalformedEvent(str(error)) from error
