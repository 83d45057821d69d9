"""What was deleted from a recorded archive: a journal beside its files, which holds until it is compacted and longer.

Every reader leaves out what the journal covers, so a deletion counts from the moment it is written; compaction then
takes the bytes out of the files. The journal names nobody: it keeps hashes of post ids and of (hashed) authors.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Final

import msgspec

from ingest.contract import Deletion, Post
from ingest.errors import BadSource

JOURNAL: Final = "tombstones.jsonl"
KEPT: Final = timedelta(hours=48)
"""So long a source may repeat a post that was deleted meanwhile: longer than any look-back."""


class Tombstone(msgspec.Struct, frozen=True, kw_only=True):
    """key: of the post or author; at: what an author posted later stays; compacted: its bytes are out of every file."""

    key: int
    at: datetime
    noted_at: datetime
    compacted: bool = False


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Tombstone)


class Tombstones:
    """The journal of one folder. Of a post all revisions are covered, of an author what came before the deletion.

    Safe to use from several threads of the one process that writes.
    """

    def __init__(self, folder: Path) -> None:
        """Raises BadSource if the journal cannot be read: reading on would bring back what was deleted."""
        self._path = folder / JOURNAL
        self._lock = threading.Lock()
        self._stones = {stone.key: stone for stone in _read(self._path)}

    def __bool__(self) -> bool:
        return bool(self._stones)

    def covers(self, record: Post | Deletion) -> bool:
        """A post that was deleted; also a deletion that is in the journal."""
        if isinstance(record, Deletion):
            return deletion_key(record) in self._stones
        if post_key(record.id) in self._stones:
            return True
        stone = self._stones.get(author_key(record.author)) if record.author is not None else None
        return stone is not None and record.ingested_at <= stone.at

    def pending(self) -> list[Tombstone]:
        """Those whose posts may still be in a file."""
        with self._lock:
            return [stone for stone in self._stones.values() if not stone.compacted]

    def add(self, deletion: Deletion) -> None:
        """Returns when it is on the disk."""
        stone = Tombstone(key=deletion_key(deletion), at=deletion.ingested_at, noted_at=datetime.now(UTC))
        with self._lock:
            with self._path.open("ab") as file:
                file.write(_encoder.encode(stone) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            self._stones[stone.key] = stone

    def settle(self, compacted: Iterable[Tombstone], now: datetime | None = None) -> None:
        """Marks them as compacted, and forgets those that were so for long enough."""
        with self._lock:
            for stone in compacted:
                if self._stones.get(stone.key) == stone:
                    self._stones[stone.key] = msgspec.structs.replace(stone, compacted=True)
            oldest = (now or datetime.now(UTC)) - KEPT
            self._stones = {
                key: stone for key, stone in self._stones.items() if not stone.compacted or stone.noted_at > oldest
            }
            self._rewrite()

    def _rewrite(self) -> None:
        if not self._stones:
            self._path.unlink(missing_ok=True)
            return
        unfinished = self._path.with_name(f"{JOURNAL}.new")
        with unfinished.open("wb") as file:
            file.writelines(_encoder.encode(stone) + b"\n" for stone in self._stones.values())
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self._path)


def post_key(post_id: str) -> int:
    """64 bits that stand for a post."""
    return _hash(f"post {post_id}")


def author_key(author: str) -> int:
    """64 bits that stand for an author, given the keyed hash that posts carry."""
    return _hash(f"author {author}")


def deletion_key(deletion: Deletion) -> int:
    if deletion.post_id is not None:
        return post_key(deletion.post_id)
    assert deletion.author is not None
    return author_key(deletion.author)


def _hash(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest())


def _read(path: Path) -> list[Tombstone]:
    """A last line that a crash cut off was not yet confirmed to the source, which tells it again."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BadSource(f"cannot read {path}: {error.strerror}") from error
    try:
        return [_decoder.decode(line) for line in lines[:-1] if line]
    except msgspec.MsgspecError as error:
        raise BadSource(
            f"{path} is damaged ({error}): repair or remove it; without it deleted posts come back"
        ) from error
