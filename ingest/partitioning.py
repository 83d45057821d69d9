"""Key → partition as every Kafka client does it by default, so that other producers put a post in the same place.

aiokafka's own reads the key byte by byte, which for the id of a Bluesky post costs as much as all the rest of sending
it. This one takes four bytes at a time, and half the time.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final

_M: Final = 0x5BD1E995
_SEED: Final = 0x9747B28C
_32_BITS: Final = 0xFFFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """Index of the partition among so many."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """MurmurHash2 with Kafka's seed, as an unsigned number."""
    hashed = _SEED ^ len(data)
    for word in _words(len(data) // 4).unpack_from(data):
        word = word * _M & _32_BITS
        hashed = (hashed * _M ^ (word ^ word >> 24) * _M) & _32_BITS
    if rest := data[len(data) & ~3 :]:
        hashed = (hashed ^ int.from_bytes(rest, "little")) * _M & _32_BITS
    hashed = (hashed ^ hashed >> 13) * _M & _32_BITS
    return hashed ^ hashed >> 15


@lru_cache(maxsize=256)
def _words(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}I")
