"""Micro-batching: nothing waits while the engine is free, and batches grow while it is busy.

Posts queue in lanes by modality, so that a text never pays for its neighbour's picture. When the engine asks, the
lane holding the oldest post gives a batch: that post and its neighbours in length, as many as the token and
image budgets allow and as long as padding stays the share that it is worth to the engine. So the oldest post always
leaves next (no lane starves, no deadline is needed beside it). Two records of one key are never in the queue or in
flight together: the later one is parked.

Deletions and failures need no engine and do not wait for it: they leave by `take_unscored`. A post still queued when
its deletion comes is withdrawn rather than scored, and what the engine has of it by then is thrown away; an author's
queued posts likewise. While an author's deletion is in flight, later posts of that author wait.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import compress
from typing import Final, Generic, Literal, TypeVar, get_args

import msgspec

Lane = Literal["text", "image", "both", "none"]
ENGINE_LANES: Final[tuple[Lane, ...]] = ("text", "image", "both")
Author = tuple[int, str]
T = TypeVar("T")


class Item(msgspec.Struct, Generic[T], frozen=True):
    """A prepared post: its cost in tokens and images, and the Kafka key whose order must hold.

    Lane `none` is for what is not to be scored. author: partition and author, where known; holds_author: this is that
    author's deletion.
    """

    payload: T
    key: bytes
    lane: Lane
    tokens: int
    images: int
    arrived_at_s: float
    author: Author | None = None
    holds_author: bool = False


class Batch(msgspec.Struct, Generic[T], frozen=True):
    """Posts of one lane that the engine takes at once, shortest first."""

    lane: Lane
    items: tuple[Item[T], ...]

    @property
    def padded_tokens(self) -> int:
        return max((item.tokens for item in self.items), default=0) * len(self.items)

    @property
    def tokens(self) -> int:
        return sum(item.tokens for item in self.items)


class Batcher(Generic[T]):
    """Queues items and hands out batches; all calls come from one event loop.

    A batch has at most `max_items` items, `max_tokens` padded tokens, `max_images` images and `max_padding` of its
    tokens for padding, but always at least one item. Lengths are sorted within the `window` oldest items of a lane.
    """

    def __init__(
        self,
        *,
        max_items: int = 64,
        max_tokens: int = 4096,
        max_images: int = 16,
        max_padding: float = 1.0,
        window: int = 512,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        if min(max_items, max_tokens, max_images, window) < 1:
            raise ValueError("max_items, max_tokens, max_images and window must each be at least 1")
        self.max_items = max_items
        self.max_tokens = max_tokens
        self.max_images = max_images
        self.max_padding = max_padding
        self.window = window
        self._clock_s = clock_s
        self._lanes: dict[Lane, deque[Item[T]]] = {lane: deque() for lane in get_args(Lane)}
        self._parked: dict[bytes, deque[Item[T]]] = {}
        self._held: dict[Author, list[Item[T]]] = {}
        self._in_engine: dict[bytes, Item[T]] = {}
        self._ready = asyncio.Event()
        self._has_unscored = asyncio.Event()

    def __len__(self) -> int:
        """Items waiting, parked ones included; items in flight are not."""
        return sum(map(len, (*self._lanes.values(), *self._parked.values(), *self._held.values())))

    @property
    def queue_age_s(self) -> float:
        """How long the oldest item has been waiting; 0 when none is."""
        oldest = self._oldest_lane()
        return self._clock_s() - self._lanes[oldest][0].arrived_at_s if oldest else 0.0

    def put(self, item: Item[T]) -> None:
        """Queues an item, or parks it until `finish` names the one of its key before it."""
        if item.key in self._parked:
            self._parked[item.key].append(item)
            return
        self._parked[item.key] = deque()
        self._queue(item)

    def withdraw(self, key: bytes) -> list[Item[T]]:
        """Takes back the posts of a key that are not scored yet, in order: they are about to be deleted."""
        if key not in self._parked:
            return []
        parked = [*self._parked[key]]
        # What the engine does not score keeps its place, and with it all that came before.
        stay = max((place for place, item in enumerate(parked, 1) if item.lane == "none"), default=0)
        self._parked[key], withdrawn = deque(parked[:stay]), parked[stay:]
        first = None if stay else self._unqueue(key) or self._in_engine.pop(key, None)
        if first is not None:
            del self._parked[key]
            withdrawn.insert(0, first)
        return withdrawn

    def divert(self, author: Author, unscored: Callable[[Item[T]], Item[T]]) -> None:
        """Sends an author's queued posts, each as `unscored` makes it, to lane `none`: they are about to be deleted."""
        for lane in ENGINE_LANES:
            queue = self._lanes[lane]
            diverted = [item for item in queue if item.author == author]
            if diverted:
                self._lanes[lane] = deque(item for item in queue if item.author != author)
                self._lanes["none"].extend(map(unscored, diverted))
                self._has_unscored.set()

    async def take_unscored(self) -> Batch[T]:
        """All of lane `none` whose turn has come; waits only while there is nothing."""
        await self._has_unscored.wait()
        self._has_unscored.clear()
        batch: Batch[T] = Batch("none", tuple(self._lanes["none"]))
        self._lanes["none"].clear()
        return batch

    async def take(self) -> Batch[T]:
        """The next batch; waits only while there is nothing at all."""
        while (lane := self._oldest_lane()) is None:
            self._ready.clear()
            await self._ready.wait()
        batch = self._cut(lane)
        self._in_engine.update({item.key: item for item in batch.items})
        return batch

    def scored(self, batch: Batch[T]) -> list[bool]:
        """Says that the engine is done with a batch; which of its items have not been withdrawn meanwhile."""
        # One withdrawn may have a successor of its key in another batch by now.
        wanted = [self._in_engine.get(item.key) is item for item in batch.items]
        for item in compress(batch.items, wanted):
            del self._in_engine[item.key]
        return wanted

    def finish(self, items: Iterable[Item[T]]) -> None:
        """Says that items are written (or set aside); the next of their keys may go."""
        for item in items:
            waiting = self._parked[item.key]
            if waiting:
                self._queue(waiting.popleft())
            else:
                del self._parked[item.key]
            if item.holds_author and item.author is not None:
                for held in self._held.pop(item.author):
                    self._queue(held)

    def halve(self) -> None:
        """Shrinks the budgets for good: the engine ran out of memory."""
        self.max_items = max(1, self.max_items // 2)
        self.max_tokens = max(1, self.max_tokens // 2)
        self.max_images = max(1, self.max_images // 2)

    def _queue(self, item: Item[T]) -> None:
        """The item's turn among those of its key has come."""
        if item.author in self._held:
            self._held[item.author].append(item)
            return
        self._lanes[item.lane].append(item)
        if item.lane != "none":
            self._ready.set()
            return
        if item.holds_author and item.author is not None:
            self._held[item.author] = []
        self._has_unscored.set()

    def _unqueue(self, key: bytes) -> Item[T] | None:
        for lane in ENGINE_LANES:
            for index, item in enumerate(self._lanes[lane]):
                if item.key == key:
                    del self._lanes[lane][index]
                    return item
        return None

    def _oldest_lane(self) -> Lane | None:
        heads = [(queue[0].arrived_at_s, lane) for lane in ENGINE_LANES if (queue := self._lanes[lane])]
        return min(heads)[1] if heads else None

    def _cut(self, lane: Lane) -> Batch[T]:
        queue = self._lanes[lane]
        reachable = [queue.popleft() for _ in range(min(self.window, len(queue)))]
        chosen = grow(
            reachable,
            max_items=self.max_items,
            max_tokens=self.max_tokens,
            max_images=self.max_images,
            max_padding=self.max_padding,
        )
        taken = set(map(id, chosen))
        queue.extendleft(item for item in reversed(reachable) if id(item) not in taken)
        return Batch(lane, tuple(chosen))


def grow(
    oldest_first: Sequence[Item[T]], *, max_items: int, max_tokens: int, max_images: int, max_padding: float
) -> list[Item[T]]:
    """The oldest item and its neighbours in length, grown towards the nearer length until a budget is full."""
    by_length = sorted(zip([item.tokens for item in oldest_first], range(len(oldest_first)), strict=True))
    start = bisect_left(by_length, (oldest_first[0].tokens, 0))
    left, right = start, start + 1  # by_length[left:right] is chosen
    real, images = oldest_first[0].tokens, oldest_first[0].images
    while right - left < max_items:
        longest = by_length[right - 1][0]
        gap_left = longest - by_length[left - 1][0] if left > 0 else None
        gap_right = by_length[right][0] - longest if right < len(by_length) else None
        if gap_left is None and gap_right is None:
            break
        goes_right = gap_left is None or (gap_right is not None and gap_right <= gap_left)
        tokens, age = by_length[right] if goes_right else by_length[left - 1]
        real, images = real + tokens, images + oldest_first[age].images
        padded = max(longest, tokens) * (right - left + 1)
        if padded > max_tokens or images > max_images or padded - real > max_padding * padded:
            break
        if goes_right:
            right += 1
        else:
            left -= 1
    return [oldest_first[age] for _, age in by_length[left:right]]
