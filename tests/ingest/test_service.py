"""The whole service against the real embedded broker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from deploy.servers import start_broker
from ingest.contract import Deletion, Post, decode, posts_topic
from ingest.errors import BadSource, BrokerUnreachable
from ingest.producer import MAX_RECORD_BYTES, Producer, ensure_topic
from ingest.report import IngestReport
from ingest.service import ingest
from ingest.settings import Settings
from ingest.sources.items import Draft, Item, Kind, Picture, Skipped
from ingest.sources.live import SourceState
from ingest.sources.mvsa import MvsaParquet
from ingest.topics.definitions import Topics, compile_topics
from tests.ingest.conftest import NOON

ROOT = Path(__file__).parents[2]
TOPICS = compile_topics([("trams", "tram"), ("pictures", "has:images"), ("by ann", "from:ann")])


class Given:
    """A source of given items; raises `error` after them, or waits forever."""

    format: str

    def __init__(
        self, *items: Item, kind: Kind = "replay", error: Exception | None = None, endless: bool = False
    ) -> None:
        self.name, self.kind = "given", kind
        self.cursor, self.state, self.media_hosts = None, SourceState(), ()
        self._items, self._error, self._endless = items, error, endless

    async def __aiter__(self) -> AsyncGenerator[Item, None]:
        for item in self._items:
            yield item
        if self._error is not None:
            raise self._error
        if self._endless:
            await asyncio.Event().wait()


async def records(settings: Settings) -> list[ConsumerRecord]:
    """All there is in the topic, in order of each partition."""
    topic = posts_topic(settings.namespace)
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in sorted(await consumer_partitions(consumer, topic))]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found: list[ConsumerRecord] = []
        while len(found) < sum(ends.values()):
            for batch in (await consumer.getmany(timeout_ms=1000)).values():
                found += batch
        return found
    finally:
        await consumer.stop()


async def consumer_partitions(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    await consumer.topics()
    found: set[int] | None = consumer.partitions_for_topic(topic)
    assert found is not None
    return found


async def posts(settings: Settings) -> list[Post]:
    found = [decode(record.value) for record in await records(settings)]
    return [record for record in found if isinstance(record, Post)]


@pytest.fixture
def draft(make_post: Callable[..., Post]) -> Callable[..., Draft]:
    def make(post_id: str, *pictures: bytes, handle: str | None = None, **changes: object) -> Draft:
        post = make_post(post_id, **changes)
        return Draft(post=post, pictures=tuple(Picture(data=data) for data in pictures), handle=handle)

    return make


async def test_a_post_arrives_with_key_header_topics_and_images(
    settings: Settings, draft: Callable[..., Draft], jpeg: bytes
) -> None:
    before = datetime.now(UTC)
    report = await ingest(Given(draft("x:1", jpeg, jpeg, handle="Ann")), settings, topics=TOPICS, run="run-1")
    [record] = await records(settings)
    post = decode(record.value)
    assert isinstance(post, Post)
    assert record.key == b"x:1"
    assert list(record.headers) == [("run", b"run-1")]
    assert record.timestamp_type == 0
    assert post.topics == ("trams", "pictures", "by ann")
    assert len(post.images) == 2
    assert post.ingested_at >= before
    assert (report.run, report.read, report.sent, report.skipped, report.failed) == ("run-1", 1, 1, {}, {})


async def test_posts_of_one_key_keep_the_order_of_the_source(
    settings: Settings, draft: Callable[..., Draft], jpeg: bytes
) -> None:
    drafts = [
        draft(f"x:{number % 7}", *([jpeg] if number % 3 == 0 else []), text=f"tram {number}") for number in range(210)
    ]
    report = await ingest(Given(*drafts), settings, topics=TOPICS)
    assert report.sent == 210
    found = await posts(settings)
    for key in range(7):
        texts = [post.text for post in found if post.id == f"x:{key}"]
        assert texts == [f"tram {number}" for number in range(key, 210, 7)]


async def test_a_refused_picture_costs_the_post_its_picture_only(
    settings: Settings, draft: Callable[..., Draft], jpeg: bytes
) -> None:
    report = await ingest(Given(draft("x:1", b"<svg/>", jpeg, jpeg[:900])), settings, topics=TOPICS)
    [post] = await posts(settings)
    assert len(post.images) == 1
    assert report.warnings == {"image refused: unknown format": 1, "image refused: damaged": 1}


async def test_a_post_with_nothing_left_is_skipped(settings: Settings, draft: Callable[..., Draft]) -> None:
    source = Given(draft("x:1", b"<svg/>", text=""), draft("x:2", text=" \n"), draft("x:3"))
    report = await ingest(source, settings, topics=TOPICS)
    assert (report.read, report.sent, report.skipped) == (3, 1, {"neither text nor image": 2})
    assert report.warnings == {"image refused: unknown format": 1}


async def test_four_images_travel(settings: Settings, draft: Callable[..., Draft], jpeg: bytes) -> None:
    report = await ingest(Given(draft("x:1", *[jpeg] * 6)), settings, topics=TOPICS)
    [post] = await posts(settings)
    assert len(post.images) == 4
    assert report.warnings == {"images past the first 4 left out": 1}


async def test_what_an_archive_is_read_as_is_said_and_reported(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    source = Given()
    source.format = "CSV, gzip"
    with caplog.at_level("INFO"):
        report = await ingest(source, settings, topics=TOPICS)
    assert "given is read as CSV, gzip" in caplog.messages
    assert report.format == "CSV, gzip"


async def test_what_the_source_skips_is_counted_by_reason(settings: Settings, draft: Callable[..., Draft]) -> None:
    source = Given(Skipped(reason="bad row", item="1"), draft("x:1"), Skipped(reason="bad row", item="2"))
    report = await ingest(source, settings, topics=TOPICS)
    assert (report.read, report.sent, report.skipped) == (3, 1, {"bad row": 2})


async def test_a_record_too_large_for_kafka_is_counted_and_the_rest_sent(
    settings: Settings, draft: Callable[..., Draft]
) -> None:
    source = Given(draft("x:1", text="x" * (MAX_RECORD_BYTES + 1)), draft("x:2"))
    report = await ingest(source, settings, topics=TOPICS)
    assert (report.read, report.sent, report.failed) == (2, 1, {"MessageSizeTooLargeError": 1})


async def test_twenty_thousand_characters_travel(settings: Settings, draft: Callable[..., Draft]) -> None:
    await ingest(Given(draft("x:1", text="ä" * 20_000)), settings, topics=TOPICS)
    [post] = await posts(settings)
    assert post.text == "ä" * 20_000


async def test_the_deletion_of_a_post_follows_it_and_that_of_an_author_goes_everywhere(
    settings: Settings, draft: Callable[..., Draft]
) -> None:
    of_post = Deletion(source="x", deleted_at=NOON, ingested_at=NOON, post_id="x:1")
    of_author = Deletion(source="x", deleted_at=NOON, ingested_at=NOON, author="a1")
    report = await ingest(Given(draft("x:1"), of_post, of_author), settings, topics=TOPICS)
    found = await records(settings)
    assert report.sent == len(found) == 2 + settings.partitions
    of_one = [record for record in found if record.key == b"x:1"]
    assert len({record.partition for record in of_one}) == 1
    assert decode(of_one[1].value) == of_post
    assert {record.partition for record in found if decode(record.value) == of_author} == {0, 1, 2}


async def test_limit_counts_items_read(settings: Settings, draft: Callable[..., Draft]) -> None:
    source = Given(*(draft(f"x:{number}") for number in range(10)))
    report = await ingest(source, settings, topics=TOPICS, limit=4)
    assert (report.read, report.sent) == (4, 4)


async def test_stop_sends_what_was_read_and_reports(settings: Settings, draft: Callable[..., Draft]) -> None:
    stop = asyncio.Event()
    seen: list[IngestReport] = []

    def watch(report: IngestReport) -> None:
        seen.append(report)
        if report.sent == 3:
            stop.set()

    source = Given(*(draft(f"x:{number}") for number in range(3)), kind="live", endless=True)
    report = await ingest(source, settings, topics=TOPICS, stop=stop, on_progress=watch)
    assert (report.read, report.sent) == (3, 3)
    assert seen


async def test_what_the_source_raises_comes_after_what_was_read_is_sent(
    settings: Settings, draft: Callable[..., Draft]
) -> None:
    source = Given(draft("x:1"), draft("x:2"), error=BadSource("the file ends in the middle"))
    with pytest.raises(BadSource, match="in the middle"):
        await ingest(source, settings, topics=TOPICS)
    assert len(await posts(settings)) == 2


async def test_mvsa_pictures_arrive_byte_for_byte_when_small(settings: Settings, mvsa_parquet: Path) -> None:
    report = await ingest(MvsaParquet(mvsa_parquet), settings, topics=Topics())
    found = await posts(settings)
    assert report.sent == len(found) == 3
    assert {(post.images[0].width, post.images[0].height) for post in found} == {(1200, 900), (400, 300)}
    assert [post.topics for post in found] == [()] * 3


async def test_the_topic_is_created_once_with_its_partitions(settings: Settings) -> None:
    await ensure_topic(settings)
    await ensure_topic(replace(settings, partitions=7))
    async with Producer(settings, run="r") as producer:
        assert producer.partitions == [0, 1, 2]


async def test_an_unreachable_broker_is_named_with_the_remedy() -> None:
    settings = Settings(kafka="127.0.0.1:1")
    with pytest.raises(BrokerUnreachable, match=r"Kafka at 127.0.0.1:1 does not answer .*MOODSTREAM_KAFKA"):
        await ingest(Given(), settings, topics=TOPICS)


@pytest.mark.data
@pytest.mark.timeout(120)
async def test_the_airline_feed_is_sent_whole(settings: Settings, feeds: Path) -> None:
    result = await run_ingest(settings, str(feeds / "us_airline_2015.csv"))
    assert result["read"] == result["sent"] == 14_640
    assert (result["skipped"], result["failed"], result["warnings"]) == ({}, {}, {})


# the process


def command(settings: Settings, *arguments: str) -> tuple[list[str], dict[str, str]]:
    environment = os.environ | {
        "MOODSTREAM_KAFKA": settings.kafka,
        "MOODSTREAM_NAMESPACE": settings.namespace,
        "MOODSTREAM_KAFKA_IDEMPOTENCE": "0",
        "MOODSTREAM_START_TIMEOUT_S": "0",
        "PYTHONPATH": str(ROOT),
    }
    return [sys.executable, "-m", "ingest", *arguments], environment


async def run_ingest(settings: Settings, *arguments: str) -> dict[str, object]:
    argv, environment = command(settings, *arguments, "--json")
    process = await asyncio.create_subprocess_exec(*argv, env=environment, stdout=subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    report: dict[str, object] = json.loads(out.splitlines()[-1])
    return report


async def test_the_command_prints_its_report_last(settings: Settings, tweets_csv: Path) -> None:
    report = await run_ingest(
        settings, str(tweets_csv), "--map", "text=body", "created_at=when", "label=mood", "--speed", "max"
    )
    assert (report["read"], report["sent"]) == (6, 4)
    assert report["skipped"] == {"row without a readable time": 1, "row with too few columns": 1}
    assert len(await posts(settings)) == 4


async def test_the_sample_feed_runs_until_sigterm_which_loses_nothing(settings: Settings) -> None:
    argv, environment = command(settings, "sample", "--json")
    process = await asyncio.create_subprocess_exec(*argv, env=environment, stdout=subprocess.PIPE)
    await ensure_topic(settings)
    while len(await posts(settings)) < 309:
        await asyncio.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    out, _ = await process.communicate()
    report = json.loads(out.splitlines()[-1])
    assert process.returncode == 0
    found = await posts(settings)
    assert report["read"] == report["sent"] == len(found) == len({post.id for post in found})
    assert {name for post in found for name in post.topics} == {"Line 9 tram", "Bluebird Coffee", "Orbit One phone"}


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["nowhere.csv"], 2, "ingest: there is no source or file 'nowhere.csv'"),
        (["sample", "--split", "test"], 2, "ingest: --split test: sample has no splits"),
        (["sample", "--speed", "fast"], 2, "'fast' is neither 'max' nor a factor above 0"),
        (["x.csv", "--map", "text"], 2, "'text' is not FIELD=COLUMN"),
        (["sample", "--topics", "none.toml"], 2, "ingest: topics: cannot read none.toml"),
        (["sample"], 1, "ingest: Kafka at 127.0.0.1:1 does not answer"),
    ],
)
async def test_the_command_says_what_is_wrong_in_one_line(arguments: list[str], status: int, said: str) -> None:
    argv, environment = command(Settings(kafka="127.0.0.1:1"), *arguments)
    process = await asyncio.create_subprocess_exec(*argv, env=environment, stderr=subprocess.PIPE)
    _, err = await process.communicate()
    assert process.returncode == status
    last = err.decode().splitlines()[-1]
    assert said in last
    assert "Traceback" not in err.decode()


@pytest.mark.slow
async def test_a_broker_lost_on_the_way_ends_the_run(
    draft: Callable[..., Draft], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.producer.REQUEST_TIMEOUT_MS", 2000)
    child, address = await start_broker(tmp_path / "broker.log")
    settings = Settings(kafka=address, idempotence=False)

    class Endless(Given):
        async def __aiter__(self) -> AsyncGenerator[Item, None]:
            for number in range(100_000):
                if number == 50:
                    await child.stop()
                yield draft(f"x:{number}")
                await asyncio.sleep(0.05)

    with pytest.raises(BrokerUnreachable, match=address):
        await ingest(Endless(), settings, topics=TOPICS)


@pytest.mark.slow
async def test_a_stop_does_not_wait_for_ever_for_a_lost_broker(
    draft: Callable[..., Draft], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.service.DRAIN_TIMEOUT_S", 0.5)
    child, address = await start_broker(tmp_path / "broker.log")
    stop = asyncio.Event()

    class Stopped(Given):
        async def __aiter__(self) -> AsyncGenerator[Item, None]:
            await child.stop()
            yield draft("x:1")
            stop.set()
            await asyncio.Event().wait()

    with pytest.raises(BrokerUnreachable, match="no acknowledgement within"):
        await ingest(Stopped(), Settings(kafka=address, idempotence=False), topics=TOPICS, stop=stop)
