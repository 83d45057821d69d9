"""Live sources against the real embedded broker: what is sent, in which order, and where a restart would begin."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.servers import start_broker
from ingest.contract import Deletion, Post, decode
from ingest.cursors import CursorFile
from ingest.errors import BadTopics, MalformedMedia, MediaUnavailable, SourceUnreachable
from ingest.live_run import LiveRun
from ingest.producer import Producer
from ingest.service import ingest
from ingest.settings import Settings
from ingest.sources.items import Draft, MediaLink
from ingest.topics.definitions import TopicsFile, compile_topics
from tests.ingest.conftest import NOON
from tests.ingest.scripted import Pictures, Scripted
from tests.ingest.test_service import posts, records

TOPICS = compile_topics([("trams", "tram"), ("pictures", "has:images")])
PICTURE = "https://pictures.example/1.jpg"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text waits for pictures only so long that a picture at hand still is in time."""
    monkeypatch.setattr("ingest.media.pictures.TEXT_WAITS_S", 0.2)


@pytest.fixture
def draft(make_post: Callable[..., Post]) -> Callable[..., Draft]:
    def make(post_id: str = "x:1", *urls: str, **changes: Any) -> Draft:
        links = tuple(MediaLink(url=url, alt=f"alt of {url[-5]}") for url in urls)
        return Draft(post=make_post(post_id, **changes), links=links)

    return make


def deletion(**of: str) -> Deletion:
    return Deletion(source="x", deleted_at=NOON, ingested_at=NOON, **of)


@asynccontextmanager
async def running(
    source: Scripted, pictures: Pictures, settings: Settings, *, keep_all: bool = False
) -> AsyncIterator[tuple[LiveRun, Producer]]:
    """A run that has begun to read; at the end it has sent all there was."""
    async with Producer(settings, run="r") as producer:
        run = LiveRun(source, producer, TOPICS, image_of=pictures, keep_all=keep_all)
        reading = asyncio.create_task(run.read(None))
        try:
            yield run, producer
            source.end()
            await reading
            await run.finish(stopped=False)
        finally:
            reading.cancel()
            await run.close()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


async def revisions(settings: Settings) -> list[tuple[int, int]]:
    """(revision, number of images) of the posts sent, in order."""
    return [(post.revision, len(post.images)) for post in await posts(settings)]


async def test_what_no_topic_matches_is_dropped_before_its_pictures_are_asked_for(
    settings: Settings, draft: Callable[..., Draft], jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = compile_topics([("trams", "tram")])
    monkeypatch.setattr("tests.ingest.test_service_live.TOPICS", topics)
    pictures = Pictures(jpeg)
    source = Scripted(draft("x:1", PICTURE, text="a bus"), draft("x:2", text="a ship"), draft("x:3"))
    async with running(source, pictures, settings) as (run, _):
        pass
    assert [post.id for post in await posts(settings)] == ["x:3"]
    assert pictures.asked == []
    assert run.tally.skipped == {"no topic matches": 2}


async def test_all_posts_are_sent_if_asked_for(settings: Settings, draft: Callable[..., Draft], jpeg: bytes) -> None:
    async with running(Scripted(draft(text="a bus")), Pictures(jpeg), settings, keep_all=True):
        pass
    [post] = await posts(settings)
    assert post.topics == ()


async def test_the_description_of_a_picture_is_matched_before_it_is_fetched(
    settings: Settings, draft: Callable[..., Draft], jpeg: bytes
) -> None:
    link = MediaLink(url=PICTURE, alt="a yellow tram")
    async with running(Scripted(Draft(post=draft(text="look").post, links=(link,))), Pictures(jpeg), settings):
        pass
    [post] = await posts(settings)
    assert post.topics == ("trams", "pictures")
    assert post.images[0].alt == "a yellow tram"


async def test_a_picture_in_time_comes_with_the_text_as_the_completed_revision(
    settings: Settings, draft: Callable[..., Draft], jpeg: bytes
) -> None:
    async with running(Scripted(draft("x:1", PICTURE)), Pictures(jpeg), settings) as (run, _):
        pass
    assert await revisions(settings) == [(1, 1)]
    assert run.tally.media == {"in time": 1}


async def test_text_does_not_wait_for_a_late_picture(
    settings: Settings, draft: Callable[..., Draft], jpeg: bytes
) -> None:
    pictures = Pictures(jpeg, PICTURE)
    async with running(Scripted(draft("x:1", PICTURE, revision=4), endless=True), pictures, settings) as (
        run,
        producer,
    ):
        await until(lambda: producer.sent == 1)
        assert await revisions(settings) == [(4, 0)]
        pictures.let_go(PICTURE)
    assert await revisions(settings) == [(4, 0), (5, 1)]
    assert run.tally.media == {"late": 1}


async def test_other_posts_pass_one_that_waits_for_its_pictures(
    settings: Settings, draft: Callable[..., Draft], jpeg: bytes
) -> None:
    pictures = Pictures(jpeg, PICTURE)
    source = Scripted(draft("x:1", PICTURE), draft("x:2"), draft("x:3"), endless=True)
    async with running(source, pictures, settings) as (_, producer):
        await until(lambda: producer.sent == 3)
        pictures.let_go(PICTURE)
    assert producer.sent == 4


async def test_an_edit_ends_the_wait_for_the_pictures_of_what_it_replaces(
    settings: Settings, draft: Callable[..., Draft], jpeg: bytes
) -> None:
    pictures = Pictures(jpeg, PICTURE)
    source = Scripted(draft("x:1", PICTURE), endless=True)
    async with running(source, pictures, settings) as (_, producer):
        await until(lambda: producer.sent == 1)
        source.say(draft("x:1", revision=2, text="no tram at all"))
        await until(lambda: producer.sent == 2)
        pictures.let_go(PICTURE)
    assert [(post.revision, post.text) for post in await posts(settings)] == [(0, "a tram"), (2, "no tram at all")]


async def test_an_edit_before_anything_was_sent_is_all_that_is_sent(
    settings: Settings, draft: Callable[..., Draft], jpeg: bytes
) -> None:
    source = Scripted(draft("x:1", PICTURE), draft("x:1", PICTURE[:-5] + "2.jpg", revision=2))
    async with running(source, Pictures(jpeg, PICTURE), settings) as (run, _):
        pass
    assert await revisions(settings) == [(3, 1)]
    assert run.tally.skipped == {"edited before its pictures came": 1}


@pytest.mark.parametrize("of", [{"post_id": "x:1"}, {"author": "a1"}])
async def test_a_deletion_is_the_last_that_is_heard_of_a_post(
    settings: Settings, draft: Callable[..., Draft], jpeg: bytes, of: dict[str, str]
) -> None:
    pictures = Pictures(jpeg, PICTURE)
    source = Scripted(draft("x:1", PICTURE, author="a1"), endless=True)
    async with running(source, pictures, settings) as (_, producer):
        await until(lambda: producer.sent == 1)
        source.say(deletion(**of))
        await until(lambda: producer.sent > 1)
        pictures.let_go(PICTURE)
    of_post = [record for record in await records(settings) if record.key in (b"x:1", None)]
    by_partition: dict[int, list[type]] = {}
    for record in of_post:
        by_partition.setdefault(record.partition, []).append(type(decode(record.value)))
    assert [kinds for kinds in by_partition.values() if Post in kinds] == [[Post, Deletion]]


async def test_a_post_deleted_before_its_picture_came_is_not_sent(
    settings: Settings, draft: Callable[..., Draft], jpeg: bytes
) -> None:
    source = Scripted(draft("x:1", PICTURE), deletion(post_id="x:1"))
    async with running(source, Pictures(jpeg, PICTURE), settings) as (run, _):
        pass
    assert [type(decode(record.value)) for record in await records(settings)] == [Deletion]
    assert run.tally.skipped == {"deleted before its pictures came": 1}


async def test_pictures_that_fail_cost_the_post_nothing_else(
    settings: Settings, draft: Callable[..., Draft], jpeg: bytes
) -> None:
    urls = [f"https://pictures.example/{number}.jpg" for number in range(3)]
    errors = {urls[0]: MediaUnavailable("HTTP 404"), urls[1]: MalformedMedia("damaged", "half a JPEG")}
    source = Scripted(draft("x:1", *urls[:2]), draft("x:2", *urls), draft("x:3", urls[0], text=" "))
    async with running(source, Pictures(jpeg, errors=errors), settings) as (run, _):
        pass
    assert {post.id: (post.revision, len(post.images)) for post in await posts(settings)} == {
        "x:1": (0, 0),
        "x:2": (1, 1),
    }
    assert run.tally.media == {"in time": 1, "not fetched: HTTP 404": 3, "refused: damaged": 2}
    assert run.tally.skipped == {"neither text nor image": 1}


async def test_a_source_that_can_go_back_is_held_up_while_too_many_posts_wait_for_pictures(
    settings: Settings, draft: Callable[..., Draft], jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.media.pictures.MAX_PENDING", 2)
    source = Scripted(*(draft(f"x:{number}", PICTURE) for number in range(9)))
    async with running(source, Pictures(jpeg), settings) as (run, _):
        pass
    assert {post.id: len(post.images) for post in await posts(settings)} == {f"x:{number}": 1 for number in range(9)}
    assert run.tally.media == {"in time": 9}


async def test_of_a_source_that_cannot_go_back_posts_beyond_those_that_may_wait_go_without_pictures(
    settings: Settings, draft: Callable[..., Draft], jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.media.pictures.MAX_PENDING", 1)
    source = Scripted(draft("x:1", PICTURE), draft("x:2", PICTURE, PICTURE), forgets=True)
    async with running(source, Pictures(jpeg), settings) as (run, _):
        pass
    assert {post.id: len(post.images) for post in await posts(settings)} == {"x:1": 1, "x:2": 0}
    assert run.tally.media == {"in time": 1, "left out: too many posts wait for theirs": 2}


async def test_a_repetition_does_not_start_the_pictures_again(
    settings: Settings, draft: Callable[..., Draft], jpeg: bytes
) -> None:
    pictures = Pictures(jpeg)
    source = Scripted(draft("x:1", PICTURE), draft("x:1", PICTURE))
    async with running(source, pictures, settings) as (run, _):
        pass
    assert pictures.asked == [PICTURE]
    assert run.tally.skipped == {"repeated while its pictures are fetched": 1}


async def test_an_edit_that_matches_no_more_replaces_what_was_sent(
    settings: Settings, draft: Callable[..., Draft], jpeg: bytes
) -> None:
    source = Scripted(draft("x:1"), draft("x:1", revision=2, text="a bus"), draft("x:2", revision=2, text="a bus"))
    async with running(source, Pictures(jpeg), settings):
        pass
    assert [(post.id, post.text, post.topics) for post in await posts(settings)] == [
        ("x:1", "a tram", ("trams",)),
        ("x:1", "a bus", ()),
    ]


async def test_an_unexpected_failure_of_a_picture_ends_the_run(
    settings: Settings, draft: Callable[..., Draft], jpeg: bytes
) -> None:
    pictures = Pictures(jpeg, errors={PICTURE: ZeroDivisionError("a bug")})
    with pytest.raises(ZeroDivisionError):
        async with running(Scripted(draft("x:1", PICTURE), endless=True), pictures, settings) as (run, _):
            await until(lambda: run._pictures.failure.done())


# cursors


async def test_the_cursor_stays_before_a_post_that_waits_for_its_picture(
    settings: Settings, draft: Callable[..., Draft], jpeg: bytes
) -> None:
    pictures = Pictures(jpeg, PICTURE)
    source = Scripted(draft("x:1"), draft("x:2", PICTURE), draft("x:3"), endless=True)
    async with running(source, pictures, settings) as (run, producer):
        await until(lambda: producer.sent == 3)
        assert run.cursor == "1"
        pictures.let_go(PICTURE)
        await until(lambda: producer.sent == 4)
        await until(lambda: run.cursor == "3")


async def test_a_stop_sends_the_text_and_leaves_the_cursor_before_it(
    settings: Settings, draft: Callable[..., Draft], jpeg: bytes
) -> None:
    async with Producer(settings, run="r") as producer:
        source = Scripted(draft("x:1"), draft("x:2", PICTURE), draft("x:3"))
        run = LiveRun(source, producer, TOPICS, image_of=Pictures(jpeg, PICTURE), keep_all=False)
        await run.read(None)
        await run.finish(stopped=True)
        assert producer.sent == 3
        assert run.cursor == "1"
    assert [(post.id, post.revision) for post in await posts(settings) if post.id == "x:2"] == [("x:2", 0)]


async def test_the_cursor_moves_with_what_is_dropped(
    settings: Settings, draft: Callable[..., Draft], jpeg: bytes
) -> None:
    source = Scripted(draft("x:1"), *[draft(f"x:{number}", text="a bus") for number in range(2, 10)])
    async with running(source, Pictures(jpeg), settings) as (run, _):
        pass
    assert run.cursor == "9"


async def test_the_cursor_is_kept_in_a_file_and_only_after_the_acknowledgement(
    settings: Settings, draft: Callable[..., Draft], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.service.CURSOR_EVERY_S", 0.02)
    child, address = await start_broker(tmp_path / "broker.log")
    try:
        settings = replace(settings, kafka=address, cursor_dir=tmp_path / "state")
        source, stop = Scripted(draft("x:1"), endless=True), asyncio.Event()
        going = asyncio.create_task(ingest(source, settings, topics=TOPICS, stop=stop))
        file = CursorFile(tmp_path / "state", namespace=settings.namespace, source="scripted")
        await until(lambda: file.load() == "1")
        os.kill(child.pid, signal.SIGSTOP)
        source.say(draft("x:2"), draft("x:3", text="a bus"))
        await until(lambda: source.cursor == "3")
        await asyncio.sleep(0.2)  # ten turns of the saving, none of which may move the cursor
        assert file.load() == "1"
        os.kill(child.pid, signal.SIGCONT)
        await until(lambda: file.load() == "3")
        stop.set()
        report = await going
        assert (report.read, report.sent, report.skipped) == (3, 2, {"no topic matches": 1})
    finally:
        os.kill(child.pid, signal.SIGCONT)
        await child.stop()


async def test_a_slow_kafka_holds_the_source_up_and_loses_nothing(
    settings: Settings, draft: Callable[..., Draft], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.producer.MAX_IN_FLIGHT_BYTES", 64 << 10)
    child, address = await start_broker(tmp_path / "broker.log")
    source = Scripted(*(draft(f"x:{number}") for number in range(2000)))
    try:
        settings = replace(settings, kafka=address)
        async with Producer(settings, run="r") as producer:
            os.kill(child.pid, signal.SIGSTOP)
            run = LiveRun(source, producer, TOPICS, image_of=Pictures(b""), keep_all=False)
            reading = asyncio.create_task(run.read(None))
            await asyncio.sleep(0.3)
            assert 0 < run.tally.read < 100
            assert producer.silent_s > 0.1
            os.kill(child.pid, signal.SIGCONT)
            await reading
            await run.finish(stopped=False)
            assert producer.sent == 2000
            assert producer.waited_s > 0.1
    finally:
        os.kill(child.pid, signal.SIGCONT)
        await child.stop()


async def test_a_source_lost_for_good_is_told_after_what_was_read_is_safe(
    settings: Settings, draft: Callable[..., Draft], tmp_path: Path
) -> None:
    source = Scripted(draft("x:1"), draft("x:2"))
    source.error = SourceUnreachable("nobody.example does not answer: check its name")
    with pytest.raises(SourceUnreachable, match="nobody.example"):
        await ingest(source, replace(settings, cursor_dir=tmp_path), topics=TOPICS)
    assert len(await posts(settings)) == 2
    assert CursorFile(tmp_path, namespace=settings.namespace, source="scripted").load() == "2"


# topics


async def test_topics_are_read_again_and_a_bad_edit_keeps_the_old_ones(
    settings: Settings,
    draft: Callable[..., Draft],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("ingest.service.TOPICS_EVERY_S", 0.02)
    path = tmp_path / "topics.toml"
    path.write_text('[[topic]]\nname = "trams"\nquery = "tram"\n')
    file = TopicsFile(path)

    def save(text: str) -> None:
        """In one step: looks come so fast here that two of them would find the file that is yet to be written."""
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").replace(path)

    source, stop = Scripted(draft("x:1"), endless=True), asyncio.Event()
    source.refusal = BadTopics("no such operator there")
    going = asyncio.create_task(ingest(source, settings, topics=file.topics, topics_file=file, stop=stop))
    await until(lambda: source.cursor == "1")
    save('[[topic]]\nname = "trams"\nquery = "(tram"\n')
    await until(lambda: "the old topics stay" in caplog.text)
    source.say(draft("x:2"), draft("x:3", text="a bus"))
    await until(lambda: source.cursor == "3")
    save('[[topic]]\nname = "buses"\nquery = "bus"\n')
    await until(lambda: bool(source.followed))
    source.say(draft("x:4"), draft("x:5", text="a bus"))
    await until(lambda: source.cursor == "5")
    stop.set()
    await going
    assert source.followed == [{"buses": "bus"}]
    assert {post.id: post.topics for post in await posts(settings)} == {
        "x:1": ("trams",),
        "x:2": ("trams",),
        "x:5": ("buses",),
    }
    assert caplog.text.count("the old topics stay") == 1
    assert "scripted does not take the new topics: topics: no such operator there" in caplog.text
