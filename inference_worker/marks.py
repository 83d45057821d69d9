"""How far each shard of Redis has applied each Kafka partition, and whether Redis still has what it took.

A mark says that a shard has applied every record of a partition up to an offset. It is written after Redis took what
came of them, and Redis only ever forgets its latest writes (an older file, a replica that takes over, nothing left),
so a mark that is there tells the truth. But one written later must not cover what was forgotten meanwhile: a worker's
calls of a shard are numbered there, and a number that does not grow tells that Redis went back.
A mark names the topic whose offset it is: one deleted and made anew under the same name starts at 0 again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from secrets import token_hex
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis

from inference_worker.contract import Keys

logger = logging.getLogger(__name__)

NUMBER_LIVES_S: Final = 86_400
"""A worker renews its number every few seconds."""
# KEYS: number, marks. ARGV: milliseconds the number lives, the latest number its worker knows, partition, offset, …
MARK: Final = """
local number = redis.call('INCR', KEYS[1])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
if number > tonumber(ARGV[2]) and #ARGV > 2 then redis.call('HSET', KEYS[2], unpack(ARGV, 3)) end
return number
"""


class Standing(NamedTuple):
    """Of a shard: its marks, None where a partition has none, and whether it holds any results.

    older: of these marks, by place, those of another topic that had the name before.
    """

    marks: Sequence[int | None]
    has_results: bool
    older: frozenset[int] = frozenset()


class Marks:
    """One worker's; `redis` must not decode responses.

    has_forgotten: what Redis holds is less than it took, or not known. Nothing is marked until `start_anew`, which is
    for when all that this worker holds of its partitions is dropped. topic: whose offsets it marks, by Kafka's id, None
    while that is not known.
    """

    def __init__(self, redis: Redis) -> None:
        self.worker = token_hex(8)
        self.has_forgotten = False
        self.topic: str | None = None
        self._redis: Any = redis
        self._script = redis.register_script(MARK)
        self._numbers: dict[str, int] = {}

    def start_anew(self) -> None:
        """The next marks begin at what `read` finds."""
        self.has_forgotten = False

    def number(self, keys: Keys) -> int:
        """Of this worker's latest call of a shard that was answered."""
        return self._numbers.get(keys.prefix, 0)

    def answered(self, keys: Keys, number: int, before: int) -> None:
        """A call got its number; before: `number` when the call began."""
        if number > before:
            self._numbers[keys.prefix] = max(number, self.number(keys))
            return
        self._numbers[keys.prefix] = number
        if not self.has_forgotten:
            logger.warning("Redis forgot some of what it took (shard %s): it is to be applied again", keys.prefix)
        self.has_forgotten = True

    async def write(self, shards: Iterable[Keys], applied: Mapping[int, int]) -> bool:
        """Marks these offsets by partition in all shards; False if Redis forgot something, and nothing may be marked.

        With nothing to mark it looks whether Redis forgot. Raises RedisError.
        """
        named = f" {self.topic}" if self.topic is not None else ""
        marks = [part for partition, offset in applied.items() for part in (partition, f"{offset}{named}")]
        for keys in shards:
            if self.has_forgotten:
                break
            before = self.number(keys)
            self.answered(keys, await self._call(keys, before, marks), before)
        return not self.has_forgotten

    async def read(self, shards: Sequence[Keys], partitions: Sequence[int]) -> list[Standing]:
        """Of each shard; what it forgets from now on will be noticed. Raises RedisError."""
        standings = []
        for keys in shards:
            self._numbers[keys.prefix] = await self._call(keys, 0, ())
            found = await self._redis.hmget(keys.applied, partitions)
            has_results = bool(await self._redis.exists(keys.counters))
            marks = [mark.decode().partition(" ") if mark is not None else None for mark in found]
            older = frozenset(place for place, mark in enumerate(marks) if mark is not None and self._is_older(mark[2]))
            standings.append(
                Standing([int(mark[0]) if mark is not None else None for mark in marks], has_results, older)
            )
        return standings

    def _is_older(self, topic: str) -> bool:
        return self.topic is not None and topic not in ("", self.topic)

    async def _call(self, keys: Keys, before: int, marks: Sequence[int | str]) -> int:
        args = [1000 * NUMBER_LIVES_S, before, *marks]
        return int(await self._script(keys=[keys.calls(self.worker), keys.applied], args=args))
