"""What ingest writes to Kafka: `Post | Deletion` as MessagePack, with a schema version.

Kafka key = post id (`source:native_id`), so all that concerns one post stays in one partition and in order.
Everything downstream of ingest imports this module and nothing else of the package.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

import msgspec

SCHEMA_VERSION: Final = 1
MAX_IMAGES: Final = 4
EDIT_STEP: Final = 2
"""A source numbers the edits of a post 0, 1, 2 … and gives edit n the revision EDIT_STEP * n; the service takes the odd
number above it for the same edit, completed by its pictures: so it is never taken for a repetition of the text alone,
also when a restarted ingest sends only one of the two."""
RUN_HEADER: Final = "run"
"""Kafka record header naming the ingest run; the worker counts results per run under it."""
TRACEPARENT_HEADER: Final = "traceparent"
"""Kafka header of records whose way is traced: W3C Trace Context."""
PLACE_HEADER: Final = "place"
"""Kafka record header of a replay: where the record stands in it, `number of its item:start of the run, in ms`.

The worker goes by it in place of Kafka's offset and time stamp: what an interrupted run sends again, were it into
another topic, stands where it stood. So does a dead letter that is sent again: `offset:time stamp` it first had.
"""

Label = Literal["positive", "neutral", "negative"]


class NewerSchema(ValueError):
    """The record was written by a newer Moodstream than this one."""


class MalformedRecord(ValueError):
    """The bytes are not a record of this contract."""


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """One picture, already made safe and small by ingest.

    jpeg: RGB JPEG, short side at most 256 px, about 20 KB; sha256: of `jpeg`, 32 bytes;
    phash: 256-bit PDQ hash, 32 bytes (near duplicates differ in at most 31 bits);
    width, height: of the original, in pixels; alt: the author's description;
    words: read off the picture, lines from top to bottom; None where nobody tried.
    """

    jpeg: bytes
    sha256: bytes
    phash: bytes
    width: int
    height: int
    alt: str = ""
    words: str | None = None


class Post(msgspec.Struct, frozen=True, kw_only=True, tag="post"):
    """One post as every part downstream sees it.

    id: `source:native_id`; revision: 0 at first, an edit or a late picture raises it.
    created_at: event time, UTC-aware (live: clamped to [ingested - 48 h, + 5 min], the original then kept in
    `original_created_at`); author: keyed hash, never the handle; reach: followers or the like, where known.
    topics: names of the user's topics that matched; label: ground truth, archives only.
    """

    id: str
    source: str
    created_at: datetime
    ingested_at: datetime
    schema: int = SCHEMA_VERSION
    revision: int = 0
    original_created_at: datetime | None = None
    text: str = ""
    lang: str | None = None
    author: str | None = None
    reach: int | None = None
    url: str | None = None
    sensitive: bool = False
    images: tuple[Image, ...] = ()
    topics: tuple[str, ...] = ()
    label: Label | None = None

    def __post_init__(self) -> None:
        if not self.id.startswith(f"{self.source}:"):
            raise ValueError(f"post id {self.id!r} must start with its source, {self.source!r}, and a colon")
        if len(self.images) > MAX_IMAGES:
            raise ValueError(f"post {self.id} carries {len(self.images)} images; at most {MAX_IMAGES} travel")
        if self.created_at.tzinfo is None or self.ingested_at.tzinfo is None:
            raise ValueError(f"post {self.id}: created_at and ingested_at must be UTC-aware")

    @property
    def is_edit(self) -> bool:
        """Its author wrote it anew; a post whose pictures came is none."""
        return self.revision >= EDIT_STEP


class Deletion(msgspec.Struct, frozen=True, kw_only=True, tag="deletion"):
    """A post or an author asked to be forgotten.

    Of a post: `post_id` is set and is the Kafka key, so the deletion follows its post.
    Of an author: `author` (the keyed hash) is set and the record goes to every partition.
    """

    source: str
    deleted_at: datetime
    ingested_at: datetime
    schema: int = SCHEMA_VERSION
    post_id: str | None = None
    author: str | None = None

    def __post_init__(self) -> None:
        if (self.post_id is None) == (self.author is None):
            raise ValueError("a deletion names either a post_id or an author, never both or neither")


Record = Post | Deletion


class _Header(msgspec.Struct):
    schema: int


_encoder = msgspec.msgpack.Encoder()
_header_decoder = msgspec.msgpack.Decoder(_Header)
_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


def posts_topic(namespace: str) -> str:
    """Kafka topic of a namespace's posts."""
    return f"{namespace}.posts"


def dead_letters_topic(namespace: str) -> str:
    """Kafka topic of the records no worker could score."""
    return f"{namespace}.dead-letters"


def record_key(record: Record) -> bytes | None:
    """Kafka key of a record; None for the deletion of an author, which goes to every partition."""
    key = record.id if isinstance(record, Post) else record.post_id
    return key.encode() if key is not None else None


def encode_place(number: int, began_ms: int) -> bytes:
    """Value of PLACE_HEADER."""
    return b"%d:%d" % (number, began_ms)


def decode_place(value: bytes) -> tuple[int, int] | None:
    """Number and start of the run; None if it is no value of PLACE_HEADER."""
    number, separator, began_ms = value.partition(b":")
    if not (separator and number.isdigit() and began_ms.isdigit()):
        return None
    return int(number), int(began_ms)


def encode(record: Record) -> bytes:
    """Record → MessagePack bytes."""
    return _encoder.encode(record)


def decode(data: bytes) -> Record:
    """MessagePack bytes → record.

    Raises NewerSchema if a newer version wrote it, MalformedRecord if it is no record at all.
    """
    try:
        schema = _header_decoder.decode(data).schema
        if schema > SCHEMA_VERSION:
            raise NewerSchema(
                f"record has schema {schema}, this worker reads up to {SCHEMA_VERSION}: upgrade the worker first"
            )
        return _decoder.decode(data)
    except NewerSchema:
        raise
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedRecord(f"not a Moodstream record ({len(data)} bytes): {error}") from error
