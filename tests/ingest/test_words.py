"""Words in pictures: which are looked at, how many wait, and that the real reader reads them."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest

from ingest.archive_run import ArchiveRun
from ingest.clock import ReplayClock
from ingest.contract import Image, Post
from ingest.cursors import Cursors, Held
from ingest.errors import BadSettings
from ingest.media import words as words_module
from ingest.media.lettering import has_lettering
from ingest.media.ocr import Found
from ingest.media.pictures import LatePictures
from ingest.media.process import Process
from ingest.media.words import Words, opened_words
from ingest.report import Tally
from ingest.service import ingest
from ingest.settings import Settings
from ingest.sources.archive import OwnArchive, write_archive
from ingest.sources.archive_parquet import write_parquet
from ingest.sources.items import MediaLink, Picture
from ingest.topics.definitions import Topics
from tests.ingest.conftest import NOON
from tests.ingest.memes import background, meme, safe

needs_ocr = pytest.mark.skipif(
    find_spec("rapidocr") is None and not os.environ.get("MOODSTREAM_REQUIRE_ALL"),
    reason="the extra ocr is not installed",
)
FIRST = "I love this tram, it is"
SECOND = "late every single morning"


class Slow(Process[Found]):
    """Answers once it is let, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.go = asyncio.Event()

    async def ask(self, data: bytes) -> Found:
        self.asked += 1
        await self.go.wait()
        return Found(words=f"answer {self.asked}")


def test_lettering_is_told_from_none() -> None:
    assert has_lettering(safe(meme(FIRST, SECOND)).jpeg)
    assert not has_lettering(safe(background()).jpeg)


def test_the_look_for_lettering_costs_next_to_nothing() -> None:
    jpeg = safe(meme(FIRST, SECOND)).jpeg
    spent = []
    for _ in range(20):
        began = time.process_time()
        has_lettering(jpeg)
        spent.append(time.process_time() - began)
    assert min(spent) < 0.004


async def test_a_picture_without_lettering_is_not_read() -> None:
    reader = Slow()
    words = Words(reader)
    assert (await words.read(safe(background()), is_patient=True)).words == ""
    assert reader.asked == 0
    assert words.counts == {"words: no lettering": 1}


async def test_a_copy_of_another_size_is_not_read_again_but_another_caption_is() -> None:
    reader = Slow()
    reader.go.set()
    words = Words(reader)
    first = await words.read(safe(meme(FIRST, SECOND)), is_patient=True)
    smaller = safe(meme(FIRST, SECOND).resize((400, 500)))
    assert smaller.sha256 != first.sha256
    assert (await words.read(smaller, is_patient=True)).words == first.words == "answer 1"
    other = safe(meme("nobody has ever seen", "a bus as punctual as this"))
    assert (await words.read(other, is_patient=True)).words == "answer 2"
    assert words.counts == {"words: read": 2, "words: known": 1}


async def test_what_is_remembered_is_bounded() -> None:
    reader = Slow()
    reader.go.set()
    words = Words(reader, remembered=1)
    one, other = safe(meme(FIRST)), safe(meme("nobody has ever seen", "a bus as punctual as this"))
    for image in (one, other, one):
        await words.read(image, is_patient=True)
    assert reader.asked == 3


async def test_more_than_may_wait_go_without_and_are_counted() -> None:
    reader = Slow()
    words = Words(reader, max_waiting=1)
    image = safe(meme(FIRST, SECOND))
    waiting = asyncio.create_task(words.read(image, is_patient=False))
    while not reader.asked:
        await asyncio.sleep(0.001)
    impatient = await words.read(image, is_patient=False)
    assert impatient.words is None
    assert words.counts["words: not read, too many wait"] == 1
    patient = asyncio.create_task(words.read(image, is_patient=True))
    reader.go.set()
    assert (await waiting).words == (await patient).words == "answer 1"


async def test_words_that_are_known_are_kept() -> None:
    reader = Slow()
    known = Image(jpeg=b"", sha256=bytes(32), phash=bytes(32), width=1, height=1, words="as recorded")
    assert await Words(reader).read(known, is_patient=True) == known
    assert reader.asked == 0


async def test_switched_on_without_the_extra_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words_module, "find_spec", lambda name: None)
    with pytest.raises(BadSettings, match=r"^MOODSTREAM_OCR is 1, but RapidOCR.*pip install 'moodstream\[ocr\]'"):
        async with opened_words():
            pass


def test_it_is_off_unless_asked_for() -> None:
    assert not Settings.from_env({}).reads_words
    assert Settings.from_env({"MOODSTREAM_OCR": "1"}).reads_words


async def test_a_reader_that_dies_costs_its_picture_the_words_alone() -> None:
    process = Process(
        "ingest.media.gone", Found, doing="reading words", doer="reader of words", limit_s=5, memory_bytes=1
    )
    words = Words(process)
    assert (await words.read(safe(meme(FIRST, SECOND)), is_patient=True)).words is None
    assert words.counts == {"words: not read, reader of words does not start": 1}


class Kept:
    """A sink that keeps what it is sent."""

    def __init__(self) -> None:
        self.records: list[Post] = []
        self.sent = self.copies = 0
        self.failed: Counter[str] = Counter()
        self.waited_s = self.silent_s = 0.0

    async def __aenter__(self) -> Kept:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    async def send(self, record: Post, settled: object = None, *, number: int | None = None) -> None:
        self.records.append(record)

    async def flush(self) -> None:
        return None


@pytest.mark.parametrize("ending", ["jsonl.zst", "parquet"])
async def test_words_of_a_recorded_picture_survive_its_archive(tmp_path: Path, ending: str) -> None:
    image = msgspec.structs.replace(safe(meme(FIRST)), words="as recorded")
    path = tmp_path / f"memes.{ending}"
    posts = [Post(id="x:1", source="x", created_at=NOON, ingested_at=NOON, images=(image,))]
    write_parquet(path, posts) if ending == "parquet" else write_archive(path, posts)
    sink = Kept()
    run = ArchiveRun(OwnArchive(path), sink, Topics(()), clock=ReplayClock())
    await run.read(None)
    await run.finish(stopped=False)
    await run.close()
    assert [post.images for post in sink.records] == [(image,)]


async def test_of_live_posts_only_those_without_text_wait_for_words() -> None:
    reader = Slow()
    image = safe(meme(FIRST, SECOND))
    sent: list[Post] = []

    async def image_of(media: MediaLink | Picture) -> Image:
        return image

    async def send(post: Post, held: Held) -> None:
        sent.append(post)

    tally = Tally()
    late = LatePictures(image_of, send, tally, Words(reader))
    link = MediaLink(url="https://example.org/meme.jpg")
    for post_id, text in (("x:meme", ""), ("x:text", "look at this")):
        post = Post(id=post_id, source="x", created_at=NOON, ingested_at=NOON, text=text)
        late.start(post, [link], Cursors(None).hold(None))
    while not (sent and reader.asked):
        await asyncio.sleep(0.001)
    assert [(post.id, post.images[0].words) for post in sent] == [("x:text", None)]
    reader.go.set()
    await late.finish()
    assert [(post.id, post.images[0].words) for post in sent[1:]] == [("x:meme", "answer 1")]
    assert reader.asked == 1


@needs_ocr
@pytest.mark.timeout(120)
async def test_an_archives_memes_arrive_with_their_words(tmp_path: Path) -> None:
    image = safe(meme(FIRST, SECOND))
    posts = [
        Post(id="x:1", source="x", created_at=NOON, ingested_at=NOON, images=(image,)),
        Post(id="x:2", source="x", created_at=NOON, ingested_at=NOON, images=(image,), text="look"),
        Post(id="x:3", source="x", created_at=NOON, ingested_at=NOON, images=(safe(background()),)),
    ]
    write_archive(tmp_path / "memes.jsonl.zst", posts)
    sink = Kept()
    archive = OwnArchive(tmp_path / "memes.jsonl.zst")
    report = await ingest(archive, Settings(reads_words=True), topics=Topics(), sink=sink)
    found = {post.id: post.images[0].words for post in sink.records}
    assert " ".join((found["x:1"] or "").lower().split()) == f"{FIRST} {SECOND}".lower()
    assert found["x:2"] is None  # it has a text of its own
    assert found["x:3"] == ""
    assert report.media == {"words: read": 1, "words: no lettering": 1}
