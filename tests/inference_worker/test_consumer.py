"""The consumer: chunks out of a fetch, and commits of nothing but what was acknowledged to it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import faust
import pytest
from faust.types import TP

from inference_worker.agent import WorkerApp, create_app
from inference_worker.consumer import CHUNK, FETCH_WAIT_MS, Chunk, ChunkConsumer
from inference_worker.ledger import Ledger
from inference_worker.pipeline import Pipeline
from inference_worker.settings import Settings

ONE, OTHER = TP("t.posts", 0), TP("t.posts", 1)


@pytest.fixture
def consumer() -> ChunkConsumer:
    app: faust.App = create_app(Settings(namespace="t"), SimpleNamespace(name="m"))
    return cast(ChunkConsumer, app.consumer)


def record(tp: TP, offset: int) -> SimpleNamespace:
    return SimpleNamespace(
        topic=tp.topic,
        partition=tp.partition,
        offset=offset,
        timestamp=offset,
        timestamp_type=0,
        headers=(),
        key=b"k",
        value=b"v",
        checksum=None,
        serialized_key_size=1,
        serialized_value_size=1,
    )


async def test_a_fetch_becomes_chunks_of_neighbours_in_order(
    consumer: ChunkConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fetched(timeout: float) -> tuple[dict[TP, list[SimpleNamespace]], None]:
        return {ONE: [record(ONE, n) for n in range(CHUNK + 3)], OTHER: [record(OTHER, n) for n in (5, 6)]}, None

    monkeypatch.setattr(consumer, "_wait_next_records", fetched)
    monkeypatch.setattr(consumer, "highwater", lambda tp: 100)
    consumer.flow_active = True
    fetches = [(tp, chunk) async for tp, chunk in consumer.getmany(1.0)]
    chunks = [(tp, chunk) for tp, chunk in fetches if isinstance(chunk, Chunk)]
    assert len(chunks) == len(fetches)
    offsets = {tp: [[one.offset for one in chunk.messages] for of, chunk in chunks if of == tp] for tp in (ONE, OTHER)}
    assert offsets == {ONE: [[*range(CHUNK)], [*range(CHUNK, CHUNK + 3)]], OTHER: [[5, 6]]}
    assert [chunk.offset for tp, chunk in chunks if tp == ONE] == [CHUNK - 1, CHUNK + 2]
    assert chunks[0][1].messages[7].value == b"v"


def test_the_lag_of_a_partition_just_taken_over_is_not_known_before_its_first_seek(
    consumer: ChunkConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = cast(WorkerApp, consumer.app)
    app.pipeline = cast(Pipeline, SimpleNamespace(ledger=Ledger()))
    monkeypatch.setattr(consumer, "assignment", lambda: {ONE, OTHER})
    monkeypatch.setattr(consumer, "highwater", lambda tp: 1000)
    consumer._read_offset[ONE] = 989
    assert app.lags() == {0: 10, 1: None} and app.lag() is None
    consumer._read_offset[OTHER] = None  # nothing is committed of it: it begins with the first record
    assert app.lags() == {0: 10, 1: 1000} and app.lag() == 1010


def test_a_full_buffer_pauses_no_partition(consumer: ChunkConsumer) -> None:
    # faust sleeps a second where all are paused: a worker without a model did 2,500 posts a second, not 3,900
    consumer._set_active_tps({ONE, OTHER})
    for tp in (ONE, OTHER):
        consumer.on_buffer_full(tp)
    assert consumer._get_active_partitions() == {ONE, OTHER} and not consumer._buffered_partitions


def test_it_is_alone_with_all_partitions_of_its_topic(consumer: ChunkConsumer, monkeypatch: pytest.MonkeyPatch) -> None:
    consumer.topic = ONE.topic
    monkeypatch.setattr(consumer, "topic_partitions", lambda topic: 2)
    for assigned, is_alone in (set(), False), ({ONE, TP("letters", 0)}, False), ({ONE, OTHER}, True):
        monkeypatch.setattr(consumer, "assignment", lambda assigned=assigned: assigned)
        assert consumer.is_alone is is_alone


async def test_only_what_was_acknowledged_is_committed(consumer: ChunkConsumer) -> None:
    assert consumer._filter_committable_offsets([ONE, OTHER]) == {}
    consumer.acknowledge(ONE, 6)
    consumer.acknowledge(ONE, 9)
    await consumer._add_gap(ONE, 10, 20)  # offsets without a record, of transactions say
    consumer.ack(Chunk([consumer._to_message(OTHER, record(OTHER, 3))]))  # what faust skips while partitions move
    assert consumer._filter_committable_offsets([ONE, OTHER]) == {ONE: 10}
    consumer._committed_offset[ONE] = 10
    assert consumer._filter_committable_offsets([ONE]) == {}
    consumer.acknowledge(ONE, 21)
    assert consumer._filter_committable_offsets([ONE]) == {ONE: 22}


async def test_nothing_is_committed_that_redis_did_not_note(
    consumer: ChunkConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[dict[TP, int]] = []

    async def mark(offsets: dict[TP, int]) -> bool:
        noted.append(offsets)
        return False

    monkeypatch.setattr(consumer, "assignment", lambda: {ONE})
    consumer.resuming = SimpleNamespace(mark=mark)
    assert await consumer._commit_offsets({ONE: 7, OTHER: 9}) is False
    assert noted == [{ONE: 7}]
    consumer.acknowledge(ONE, 6)
    assert consumer._filter_committable_offsets([ONE]) == {ONE: 7}  # it is tried again


async def test_acknowledgements_do_not_outlive_an_assignment(consumer: ChunkConsumer) -> None:
    consumer.acknowledge(ONE, 199)
    consumer.forget([ONE, OTHER])
    consumer._committed_offset[ONE] = 50  # taken up there again
    assert consumer._filter_committable_offsets([ONE, OTHER]) == {}


async def test_a_broker_may_hold_a_fetch_for_a_few_milliseconds_only(consumer: ChunkConsumer) -> None:
    fetching = consumer._thread._create_worker_consumer(consumer.transport)
    assert fetching._fetch_max_wait_ms == FETCH_WAIT_MS == 20
    await fetching.stop()
