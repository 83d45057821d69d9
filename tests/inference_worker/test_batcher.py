"""The batcher's invariants, for any mix of posts."""

from __future__ import annotations

import asyncio
import random
from itertools import compress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from inference_worker.batcher import Batcher, Item, Lane

LANES: tuple[Lane, ...] = ("text", "image", "both")


def item(name: int, *, lane: Lane = "text", tokens: int = 10, images: int = 0, key: bytes | None = None) -> Item[int]:
    return Item(name, key if key is not None else b"%d" % name, lane, tokens, images, float(name))


def drain(batcher: Batcher[int]) -> list[tuple[int, ...]]:
    """All batches until nothing waits, each finished before the next is taken."""

    async def run() -> list[tuple[int, ...]]:
        batches = []
        while len(batcher):
            batch = await batcher.take()
            batcher.finish(batch.items)
            batches.append(tuple(one.payload for one in batch.items))
        return batches

    return asyncio.run(run())


items = st.lists(
    st.tuples(st.sampled_from(LANES), st.integers(1, 200), st.integers(0, 4), st.integers(0, 12)), max_size=60
)


@given(items, st.integers(1, 8), st.integers(1, 400), st.integers(1, 6), st.floats(0, 1), st.integers(1, 16))
def test_every_item_leaves_once_within_budget_and_in_key_order(
    mix, max_items, max_tokens, max_images, max_padding, window
):
    batcher: Batcher[int] = Batcher(
        max_items=max_items, max_tokens=max_tokens, max_images=max_images, max_padding=max_padding, window=window
    )
    entries = {
        name: item(name, lane=lane, tokens=tokens, images=images, key=b"%d" % key)
        for name, (lane, tokens, images, key) in enumerate(mix)
    }
    for entry in entries.values():
        batcher.put(entry)

    batches = drain(batcher)

    assert sorted(name for batch in batches for name in batch) == sorted(entries)
    for batch in batches:
        chosen = [entries[name] for name in batch]
        assert len({entry.lane for entry in chosen}) == 1
        assert len({entry.key for entry in chosen}) == len(chosen)
        if len(chosen) > 1:
            assert len(chosen) <= max_items
            assert max(entry.tokens for entry in chosen) * len(chosen) <= max_tokens
            assert sum(entry.images for entry in chosen) <= max_images
            padded = max(entry.tokens for entry in chosen) * len(chosen)
            assert padded - sum(entry.tokens for entry in chosen) <= max_padding * padded
    leaving = [name for batch in batches for name in batch]
    for key in {entry.key for entry in entries.values()}:
        names = [name for name in leaving if entries[name].key == key]
        assert names == sorted(names)


@given(items)
def test_the_oldest_queued_item_always_leaves_next(mix):
    batcher: Batcher[int] = Batcher(max_items=4)
    for name, (lane, tokens, images, _) in enumerate(mix):
        batcher.put(item(name, lane=lane, tokens=tokens, images=images))
    waiting = set(range(len(mix)))
    for batch in drain(batcher):
        assert min(waiting) in batch
        waiting -= set(batch)


def test_neighbours_in_length_share_a_batch():
    batcher: Batcher[int] = Batcher(max_items=3)
    for name, tokens in enumerate([20, 90, 21, 91, 19, 92]):
        batcher.put(item(name, tokens=tokens))
    assert drain(batcher) == [(4, 0, 2), (1, 3, 5)]


def test_a_batch_ends_where_padding_would_cost_more_than_it_is_worth():
    batcher: Batcher[int] = Batcher(max_padding=0.05)
    for name, tokens in enumerate([20, 21, 19, 24, 30, 30]):
        batcher.put(item(name, tokens=tokens))
    assert drain(batcher) == [(2, 0, 1), (3,), (4, 5)]


async def test_a_later_record_of_a_key_waits_until_the_first_is_finished():
    batcher: Batcher[int] = Batcher()
    first, second = item(1, key=b"k"), item(2, key=b"k", lane="both")
    batcher.put(first)
    batcher.put(second)
    assert (await batcher.take()).items == (first,)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(batcher.take(), 0.01)
    batcher.finish([first])
    assert (await batcher.take()).items == (second,)
    batcher.finish([second])
    assert len(batcher) == 0


async def test_take_wakes_for_an_item_that_arrives_later():
    batcher: Batcher[int] = Batcher()
    taking = asyncio.create_task(batcher.take())
    await asyncio.sleep(0)
    batcher.put(item(7))
    assert [one.payload for one in (await taking).items] == [7]


def test_halving_never_goes_below_one():
    batcher: Batcher[int] = Batcher(max_items=3, max_tokens=1, max_images=1)
    for _ in range(5):
        batcher.halve()
    assert (batcher.max_items, batcher.max_tokens, batcher.max_images) == (1, 1, 1)


def test_a_budget_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        Batcher(max_items=0)


async def test_a_post_is_not_withdrawn_from_before_an_earlier_deletion():
    """Its author's deletion holds the post; the post's first deletion then stands between it and the second."""
    batcher: Batcher[int] = Batcher()
    author = (0, "ann")
    batcher.put(Item(0, b"author", "none", 0, 0, 0.0, author, True))
    (gone,) = (await batcher.take_unscored()).items
    batcher.put(Item(1, b"x", "text", 10, 0, 1.0, author))
    assert batcher.withdraw(b"x") == []
    batcher.put(Item(2, b"x", "none", 0, 0, 2.0))
    batcher.put(item(3, key=b"x"))
    batcher.finish([gone])
    assert [one.payload for one in batcher.withdraw(b"x")] == [3]
    batcher.put(Item(4, b"x", "none", 0, 0, 4.0))
    assert len(batcher) == 3
    left = []
    left += (await batcher.take()).items
    for _ in range(2):
        batcher.finish(left[-1:])
        left += (await batcher.take_unscored()).items
    assert [one.payload for one in left] == [1, 2, 4]


async def test_an_edit_is_not_withdrawn_past_a_repetition_that_waits_behind_it():
    batcher: Batcher[int] = Batcher()
    batcher.put(item(1, key=b"x"))
    first = await batcher.take()
    batcher.scored(first)
    batcher.put(item(2, key=b"x"))
    batcher.put(Item(3, b"x", "none", 0, 0, 0.0))
    assert batcher.withdraw(b"x") == []
    batcher.put(Item(4, b"x", "none", 0, 0, 0.0))
    batcher.finish(list(first.items))
    order = [*(await batcher.take()).items]
    for _ in range(2):
        batcher.finish(order[-1:])
        order += (await batcher.take_unscored()).items
    assert [one.payload for one in order] == [2, 3, 4]


async def test_of_a_post_withdrawn_from_one_batch_the_successor_in_another_is_wanted():
    batcher: Batcher[int] = Batcher()
    batcher.put(item(1, key=b"x"))
    batcher.put(item(2))
    first = await batcher.take()
    assert [one.payload for one in batcher.withdraw(b"x")] == [1]
    batcher.put(item(3, key=b"x"))
    second = await batcher.take()
    assert batcher.scored(first) == [False, True]
    assert batcher.scored(second) == [True]


@given(
    st.lists(st.tuples(st.sampled_from(("post", "deletion", "author")), st.integers(0, 3)), max_size=30),
    st.integers(0),
    st.integers(1, 3),
)
def test_deletions_and_authors_keep_their_order_whatever_is_finished_when(mix, seed, concurrency):
    """Keys keep their order, posts of an author wait for the deletion before them, and nothing gets stuck."""

    async def run() -> list[int]:
        batcher: Batcher[int] = Batcher(max_items=2)
        chance = random.Random(seed)
        entries = list(enumerate(mix))
        in_flight, left, in_engine = [], [], []
        while entries or len(batcher) or in_flight or in_engine:
            step = chance.randint(0, 3)
            if step == 0 and entries:
                name, (kind, number) = entries.pop(0)
                key = b"author %d" % name if kind == "author" else b"%d" % number
                author = None if kind == "deletion" else (0, str(number % 2))
                if kind == "deletion":
                    left += [(one.payload, "withdrawn") for one in batcher.withdraw(key)]
                if kind == "author" and author is not None:
                    batcher.divert(author, lambda one: replace(one, lane="none"))
                batcher.put(
                    Item(name, key, "text" if kind == "post" else "none", 5, 0, float(name), author, kind == "author")
                )
            elif step == 1 and batcher.queue_age_s and len(in_engine) < concurrency:
                in_engine.append(await batcher.take())
            elif step == 1 and in_engine:
                batch = in_engine.pop(chance.randrange(len(in_engine)))
                in_flight += compress(batch.items, batcher.scored(batch))
            elif step == 2 and batcher._lanes["none"]:
                in_flight += (await batcher.take_unscored()).items
            elif in_flight:
                done = in_flight.pop(chance.randrange(len(in_flight)))
                left.append((done.payload, "done"))
                batcher.finish([done])
        return left

    left = asyncio.run(run())
    assert sorted(name for name, _ in left) == list(range(len(mix)))
    written = [name for name, how in left if how == "done"]
    for first in range(len(mix)):
        for second in range(first + 1, len(mix)):
            if first in written and second in written:
                (kind, number), (other, another) = mix[first], mix[second]
                same_key = "author" not in (kind, other) and number == another
                held = kind == "author" and other != "deletion" and number % 2 == another % 2
                if same_key or held:
                    assert written.index(first) < written.index(second)
