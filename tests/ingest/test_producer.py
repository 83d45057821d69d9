from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from aiokafka.errors import TopicAuthorizationFailedError
from aiokafka.partitioner import murmur2 as reference
from hypothesis import given
from hypothesis import strategies as st

from ingest.contract import MAX_IMAGES, Deletion, Image, Post, decode
from ingest.errors import BrokerUnreachable
from ingest.partitioning import murmur2, partition_of
from ingest.producer import MAX_BATCH_BYTES, RECORD_ROOM, Producer
from ingest.settings import Settings
from tests.ingest.conftest import NOON
from tests.ingest.test_service import records


@given(st.binary(max_size=200))
def test_keys_go_where_every_kafka_client_puts_them(key: bytes) -> None:
    assert murmur2(key) == reference(key) & 0xFFFFFFFF
    assert partition_of(key, 5) == (reference(key) & 0x7FFFFFFF) % 5


async def test_records_of_a_key_keep_their_order_over_many_batches(
    settings: Settings, make_post: Callable[..., Post]
) -> None:
    settled: list[int] = []
    async with Producer(settings, run="r") as producer:
        for number in range(300):
            post = make_post(f"x:{number % 5}", text=f"{number} " + "x" * 6000)
            await producer.send(post, lambda number=number: settled.append(number))  # type: ignore[misc]
        await producer.flush()
        assert producer.sent == len(settled) == 300
    assert 2 * settings.partitions * MAX_BATCH_BYTES < 300 * 6000
    found = [decode(record.value) for record in await records(settings)]
    for key in range(5):
        numbers = [int(post.text.split()[0]) for post in found if isinstance(post, Post) and post.id == f"x:{key}"]
        assert numbers == list(range(key, 300, 5))


async def test_a_record_of_the_largest_size_travels_and_a_larger_one_is_settled_as_failed(
    settings: Settings, make_post: Callable[..., Post]
) -> None:
    settled: list[str] = []
    image = Image(jpeg=b"j" * (RECORD_ROOM // MAX_IMAGES - 200), sha256=b"s" * 32, phash=b"p" * 32, width=1, height=1)
    async with Producer(settings, run="r") as producer:
        await producer.send(make_post("x:1", images=(image,) * MAX_IMAGES), lambda: settled.append("sent"))
        await producer.send(make_post("x:2", text="x" * RECORD_ROOM), lambda: settled.append("failed"))
        await producer.flush()
        assert (producer.sent, dict(producer.failed)) == (1, {"MessageSizeTooLargeError": 1})
    assert settled == ["failed", "sent"]


async def test_the_deletion_of_an_author_is_settled_once_it_is_everywhere(settings: Settings) -> None:
    settled: list[int] = []
    async with Producer(settings, run="r") as producer:
        deletion = Deletion(source="x", deleted_at=NOON, ingested_at=NOON, author="a1")
        await producer.send(deletion, lambda: settled.append(producer.sent))
        assert settled == []
        await producer.flush()
    assert settled == [settings.partitions]


async def test_who_waits_for_room_and_is_cancelled_has_sent_nothing(
    settings: Settings, make_post: Callable[..., Post], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.producer.MAX_IN_FLIGHT_BYTES", 1)
    async with Producer(settings, run="r") as producer:
        await producer.send(make_post("x:1"))
        waiting = asyncio.create_task(producer.send(make_post("x:2")))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        await producer.flush()
        assert producer.sent == 1


async def test_an_error_that_is_not_about_the_record_ends_the_run_and_settles_nothing(
    settings: Settings, make_post: Callable[..., Post], monkeypatch: pytest.MonkeyPatch
) -> None:
    settled: list[str] = []

    async def refused(*_: object, **__: object) -> None:
        raise TopicAuthorizationFailedError("no right to write")

    async with Producer(settings, run="r") as producer:
        monkeypatch.setattr(producer._kafka, "send_batch", refused)
        await producer.send(make_post("x:1"), lambda: settled.append("x:1"))
        with pytest.raises(BrokerUnreachable, match="no right to write"):
            for number in range(100):
                await producer.send(make_post(f"x:{number}"))
                await asyncio.sleep(0.05)
    assert settled == []
