"""Marks in a real store that forgets: what it no longer has is never said to be applied."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest
from redis import Redis

from inference_worker.contract import Keys, Prediction, Results
from inference_worker.marks import Standing
from inference_worker.store import Failed, Position, Scored, Store

Predict = Callable[..., Prediction]


def scored(predict: Predict, number: int) -> list[Scored]:
    return [Scored(predict(f"x:{number}"), Position(0, number, 1000), "run")]


async def marks_of(store: Store, *partitions: int) -> list[Standing]:
    return await store.standing(partitions)


async def test_marks_are_of_every_shard_and_partition(store: Store, predict: Predict) -> None:
    assert await marks_of(store, 0, 1) == [Standing([None, None], has_results=False)] * 2
    await store.write([one for number in range(20) for one in scored(predict, number)])
    assert await store.mark({0: 19, 1: 7})
    assert await marks_of(store, 1, 0, 2) == [Standing([7, 19, None], has_results=True)] * 2
    assert await store.mark({0: 3})  # a topic that was made anew
    assert await marks_of(store, 0) == [Standing([3], has_results=True)] * 2


async def test_marks_of_a_topic_that_had_the_name_before_are_told_apart(store: Store, predict: Predict) -> None:
    await store.write([one for number in range(20) for one in scored(predict, number)])
    await store.mark({0: 19, 1: 7})  # by a version that knew no ids: taken for this topic's
    store.marks.topic = "old"
    await store.mark({1: 8, 2: 9})
    assert await marks_of(store, 0, 1, 2) == [Standing([19, 8, 9], has_results=True)] * 2
    store.marks.topic = "new"
    await store.mark({2: 0})
    assert await marks_of(store, 0, 1, 2) == [Standing([19, 8, 0], has_results=True, older=frozenset({1}))] * 2


@pytest.mark.parametrize("first", ["write", "mark", "look"])
async def test_a_store_that_forgot_is_noticed_at_the_first_call_and_marked_no_more(
    store: Store, predict: Predict, first: str, caplog: pytest.LogCaptureFixture
) -> None:
    await store.write(scored(predict, 1))
    await store.mark({0: 1})
    await store.redis.flushall()
    with caplog.at_level(logging.WARNING):
        match first:
            case "write":
                await store.write(scored(predict, 1))
            case "mark":
                await store.mark({0: 1})
            case "look":
                await store.mark({})
    assert store.marks.has_forgotten
    assert caplog.text.count("forgot some of what it took") == 1
    assert await store.mark({0: 1}) is False
    found = await marks_of(store, 0)
    assert [one.marks for one in found] == [[None]] * 2


async def test_a_store_set_back_by_one_write_is_noticed(store: Store, predict: Predict) -> None:
    keys = Keys("t", 0)
    await store.write([one for number in range(5) for one in scored(predict, number)])
    await store.redis.decr(keys.calls(store.marks.worker))
    await store.mark({})
    assert store.marks.has_forgotten


async def test_after_a_new_start_marks_go_on_and_the_namespace_is_entered_again(store: Store, predict: Predict) -> None:
    await store.write(scored(predict, 1))
    await store.redis.flushall()
    await store.mark({})
    store.marks.start_anew()
    await marks_of(store, 0)
    await store.write(scored(predict, 1))
    assert await store.mark({0: 1})
    assert [one.marks for one in await marks_of(store, 0)] == [[1]] * 2
    assert await store.redis.exists("{t}:meta")


async def test_a_dead_letter_is_applied_too(store: Store) -> None:
    await store.write([Failed("no record", None, 7, Position(0, 3, 1000), "run")])
    assert await store.mark({0: 3})
    assert not store.marks.has_forgotten


async def test_a_full_store_takes_all_of_a_call_or_nothing(store: Store, predict: Predict, store_url: str) -> None:
    """And the call is repeated until there is room."""
    await store.write(scored(predict, 1))
    await store.redis.config_set("maxmemory", 1)
    try:
        writing = asyncio.create_task(store.write(scored(predict, 2)))
        async with asyncio.timeout(10):
            while not store.retries:
                await asyncio.sleep(0.01)
    finally:
        await store.redis.config_set("maxmemory", 0)
    assert await asyncio.wait_for(writing, 10) == {"scored": 1}
    with Redis.from_url(store_url) as client:
        assert Results(client, "t").counters() == {"scored": 2}
