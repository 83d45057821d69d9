"""The rollups of a namespace, reckoned once more from the posts it still has."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from inference_worker.contract import (
    ALL,
    BUCKET_S,
    SPAN_S,
    Counters,
    Keys,
    Level,
    Prediction,
    Results,
    decode_prediction,
)

LEVELS: Final[tuple[Level, ...]] = ("minute", "hour", "day")
CHUNK: Final = 1000


def rollups_are_exact(results: Results) -> bool:
    """Every rollup is the sum over the posts that are left, and there is no other."""
    expected: dict[bytes, dict[int, Counters]] = defaultdict(dict)
    for keys in results.shards():
        names = _scan(results, keys, "post")
        for start in range(0, len(names), CHUNK):
            for packed in results.redis.mget(names[start : start + CHUNK]):
                _add(expected, keys, decode_prediction(packed))
    found = {
        key: {int(bucket): Counters.unpack(packed) for bucket, packed in results.redis.hgetall(key).items()}
        for keys in results.shards()
        for level in LEVELS
        for key in _scan(results, keys, level)
    }
    return found == dict(expected)


def _scan(results: Results, keys: Keys, kind: str) -> list[bytes]:
    return list(results.redis.scan_iter(match=f"{keys.prefix}:{kind}:*", count=1000))


def _add(sums: dict[bytes, dict[int, Counters]], keys: Keys, post: Prediction) -> None:
    created_s = int(post.created_at.timestamp())
    for level in LEVELS:
        bucket = created_s % SPAN_S[level] // BUCKET_S[level]
        for topic in (ALL, *post.topics):
            buckets = sums[keys.rollup(level, created_s // SPAN_S[level], topic).encode()]
            buckets[bucket] = buckets.get(bucket, Counters()).plus(Counters.of(post))
