"""The ledger, and the two faults of faust that give it its shape."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import faust
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from inference_worker.ledger import Ledger

PARTITION = ("live.posts", 0)


def enter(ledger: Ledger, acknowledged: list[int], *offsets: int, partition: tuple[str, int] = PARTITION):
    return [ledger.enter(partition, offset, lambda offset=offset: acknowledged.append(offset)) for offset in offsets]


def test_only_the_contiguous_prefix_is_acknowledged():
    ledger, acknowledged = Ledger(), []
    first, second, third = enter(ledger, acknowledged, 10, 11, 12)
    assert ledger.settle([third, second]) == 0
    assert acknowledged == []
    assert ledger.settle([first]) == 3
    assert acknowledged == [10, 11, 12]
    assert len(ledger) == 0


@given(st.permutations(range(12)))
def test_acknowledgements_come_in_offset_order_whatever_finishes_first(order):
    ledger, acknowledged = Ledger(), []
    tickets = enter(ledger, acknowledged, *range(100, 112))
    done = set()
    for index in order:
        ledger.settle([tickets[index]])
        done.add(index)
        prefix = next((i for i in range(12) if i not in done), 12)
        assert acknowledged == list(range(100, 100 + prefix))


def test_partitions_do_not_wait_for_each_other():
    ledger, acknowledged = Ledger(), []
    enter(ledger, acknowledged, 1)
    (other,) = enter(ledger, acknowledged, 5, partition=("live.posts", 1))
    ledger.settle([other])
    assert acknowledged == [5]


def test_a_revoked_partition_is_never_acknowledged_also_after_it_came_back():
    ledger, acknowledged = Ledger(), []
    late, later = enter(ledger, acknowledged, 1, 2)
    assert ledger.revoke([PARTITION]) == 2
    (again,) = enter(ledger, acknowledged, 1)
    assert ledger.settle([late, later]) == 0
    assert acknowledged == []
    ledger.settle([again])
    assert acknowledged == [1]


def test_a_partition_that_starts_again_leaves_the_old_one_unacknowledged():
    ledger, acknowledged = Ledger(), []
    (old,) = enter(ledger, acknowledged, 5)
    (new,) = enter(ledger, acknowledged, 0)
    ledger.settle([old])
    assert acknowledged == []
    ledger.settle([new])
    assert acknowledged == [0]


# --- why: faust itself, as installed -------------------------------------------------------------------------


async def acknowledged_by(take: str) -> list[int]:
    """Offsets an agent acknowledged whose body raised at its first batch of `stream.<take>(2)`."""
    app = faust.App("fact-one", broker="kafka://localhost:1", store="memory://", web_enabled=False)
    acknowledged: list[int] = []
    has_raised = asyncio.Event()

    @app.agent(app.topic("posts", value_serializer="raw"))
    async def agent(stream: faust.StreamT) -> None:
        async def acknowledge(event: faust.EventT) -> bool:
            acknowledged.append(event.message.offset)
            return True

        stream.ack = acknowledge
        async for _ in getattr(stream, take)(2, within=1):
            has_raised.set()
            raise RuntimeError("inference failed")

    async with agent.test_context() as context:
        for value in (b"a", b"b"):
            await context.put(value, wait=False)
        await asyncio.wait_for(has_raised.wait(), 10)
        for _ in range(20):
            await asyncio.sleep(0)
    return acknowledged


async def test_faust_take_acknowledges_a_batch_whose_body_raised():
    """Fact 1: a failed batch of `take` is lost; that is why the agent reads `noack()` and batches itself."""
    assert await acknowledged_by("take") == [0, 1]
    assert await acknowledged_by("noack_take") == []


def consumer_with(committed: int | None, acked: list[int]) -> SimpleNamespace:
    from collections import defaultdict

    from faust.transport.consumer import Consumer
    from intervaltree import IntervalTree

    tp = TP("posts", 0)
    fake = SimpleNamespace(
        _acked=defaultdict(list, {tp: list(acked)}),
        _committed_offset=defaultdict(lambda: None, {tp: committed}),
        _gap=defaultdict(IntervalTree),
        _acked_index=defaultdict(set),
    )
    fake.new_offset = lambda: Consumer._new_offset(fake, tp)
    return fake


def test_faust_commits_past_an_unacknowledged_record():
    """Fact 2: 2684 is not acknowledged, 2685..2687 are, and faust would commit 2688. The ledger never lets that be."""
    assert consumer_with(2684, [2685, 2686, 2687]).new_offset() == 2688
    assert consumer_with(None, [5, 6]).new_offset() == 7


def test_with_the_ledger_faust_commits_exactly_the_finished_prefix():
    ledger, acknowledged = Ledger(), []
    tickets = enter(ledger, acknowledged, *range(2684, 2690))
    ledger.settle(tickets[1:4])
    assert consumer_with(2684, acknowledged).new_offset() is None
    ledger.settle(tickets[:1])
    assert consumer_with(2684, acknowledged).new_offset() == 2688
