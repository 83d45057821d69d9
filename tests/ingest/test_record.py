from __future__ import annotations

import asyncio
import errno
import json
import os
import random
import signal
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import zstandard

from ingest import record
from ingest.authors import AuthorHash
from ingest.contract import Deletion, Image, Post
from ingest.errors import ArchiveUnwritable, BadSource
from ingest.media.sanitize import make_safe
from ingest.recording.files import JSONL, PARQUET, OpenFile, rewrite
from ingest.recording.recorder import DELETED, NOTHING_RECORDED, Recorder, Rotation
from ingest.recording.tombstones import JOURNAL, KEPT, Tombstones
from ingest.sources.archive import OwnArchive, draft_of, encoded_line, recorded_files, records_of, write_archive
from ingest.sources.archive_parquet import SCHEMA, is_own_parquet, read_parquet, write_parquet
from ingest.sources.detect import SourceOptions, open_source
from ingest.sources.items import Draft, Skipped
from tests.ingest.conftest import NOON

MakePost = Callable[..., Post]
SUFFIXES = pytest.mark.parametrize("suffix", [JSONL, PARQUET])


@pytest.fixture(scope="module")
def image(jpeg: bytes) -> Image:
    return make_safe(jpeg, alt="a grey ramp")


def deletion_of(post_id: str | None = None, *, author: str | None = None, at: datetime = NOON) -> Deletion:
    return Deletion(source="x", deleted_at=at, ingested_at=at, post_id=post_id, author=author)


def texts_in(path: Path) -> list[str]:
    return [item.post.text for item in OwnArchive(path).items() if isinstance(item, Draft)]


def all_bytes(folder: Path) -> bytes:
    """Everything in the folder, as it lies there and unpacked."""
    seen = b""
    for path in folder.iterdir():
        data = path.read_bytes()
        seen += data
        if path.name.endswith((JSONL, ".part")):
            seen += zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
        if path.name.endswith(PARQUET):
            for row in pq.read_table(path).to_pylist():
                seen += repr(row).encode() + b"".join(image["jpeg"] for image in row["images"] or ())
    return seen


async def record_all(folder: Path, records: list[Post | Deletion], **rotation: Any) -> Recorder:
    async with Recorder(folder, Rotation(**rotation)) as recorder:
        for one in records:
            await recorder.send(one)
        await recorder.flush()
    return recorder


@SUFFIXES
async def test_what_was_recorded_reads_back_the_same(
    tmp_path: Path, make_post: MakePost, image: Image, suffix: str
) -> None:
    posts = [
        make_post(
            "x:1", text='naïve 🚋\n"quoted"', lang="en", author="ab", reach=2**40, url="https://x/1", sensitive=True
        ),
        make_post("x:2", images=(image, image), topics=("trams", "a b"), label="negative"),
        make_post("x:2", revision=2, text="edited", original_created_at=NOON - timedelta(days=900)),
        make_post("y:3", text="", images=(image,), created_at=NOON + timedelta(microseconds=1)),
    ]
    recorder = await record_all(tmp_path, posts, suffix=suffix)
    assert recorder.sent == 4 and not recorder.failed
    [path] = recorded_files(tmp_path)
    assert path.name.startswith("posts-20") and path.name.endswith(suffix)
    assert list(records_of(path)) == posts
    assert list(OwnArchive(tmp_path).items()) == [draft_of(post) for post in posts]


def test_parquet_has_a_column_for_every_field_and_takes_deletions(tmp_path: Path, make_post: MakePost) -> None:
    assert {*SCHEMA.names} == {"type", *Post.__struct_fields__, *Deletion.__struct_fields__}
    records = [make_post(), deletion_of("x:1"), deletion_of(author="ab")]
    write_parquet(tmp_path / "a.parquet", records)
    assert list(read_parquet(tmp_path / "a.parquet")) == records


def test_parquet_of_others_of_a_newer_schema_or_damaged_is_told_apart(tmp_path: Path, mvsa_parquet: Path) -> None:
    newer = tmp_path / "newer.parquet"
    pq.write_table(SCHEMA.empty_table().replace_schema_metadata({b"moodstream.schema": b"9"}), newer)
    assert not is_own_parquet(mvsa_parquet) and is_own_parquet(newer)
    with pytest.raises(BadSource, match="schema 9, this reads up to 1: upgrade"):
        list(read_parquet(newer))
    newer.write_bytes(newer.read_bytes()[:-3])
    with pytest.raises(BadSource, match="cannot read .*newer.parquet"):
        list(read_parquet(newer))


async def test_a_file_is_closed_at_its_size_and_at_its_age(tmp_path: Path, make_post: MakePost) -> None:
    now = NOON
    async with Recorder(tmp_path, Rotation(max_bytes=2000), now=lambda: now) as recorder:
        for number in range(4):
            await recorder.send(make_post(f"x:{number}", text=os.urandom(1500).hex()))
            await recorder.flush()
        await recorder.send(make_post("x:old"))
        await recorder.flush()
        now += timedelta(minutes=61)
        await recorder.flush()
        await recorder.send(make_post("x:new"))
        await recorder.flush()
        assert [len([*records_of(path)]) for path in recorded_files(tmp_path)] == [2, 2, 1, 1]
    names = [path.name for path in recorded_files(tmp_path)]
    assert names[0] == "posts-20260504T120030-000Z.jsonl.zst" and names[3] == "posts-20260504T130130-000Z.jsonl.zst"
    assert texts_in(tmp_path)[-1] == "a tram" and len(texts_in(tmp_path)) == 6


async def test_a_record_is_settled_once_it_is_on_the_disk(tmp_path: Path, make_post: MakePost) -> None:
    settled = []
    async with Recorder(tmp_path) as recorder:
        await recorder.send(make_post(), lambda: settled.append(texts_in(tmp_path)))
        assert not settled and recorder.sent == 0
        await recorder.flush()
        assert settled == [["a tram"]] and recorder.sent == 1


async def test_nothing_recorded_leaves_no_file(tmp_path: Path) -> None:
    await record_all(tmp_path, [])
    assert recorded_files(tmp_path) == []


# after a crash


async def test_what_a_crash_left_is_read_and_taken_over(tmp_path: Path, make_post: MakePost) -> None:
    crashed = OpenFile(tmp_path, NOON)
    for number in range(3):
        post = make_post(f"x:{number}", text=f"post {number}")
        crashed.write(encoded_line(post), ())
    crashed.abandon()
    cut = crashed.path.read_bytes()[:-7]
    crashed.path.write_bytes(cut)
    (tmp_path / "posts-20260101T000000-000Z.jsonl.zst.new").write_bytes(b"half")
    assert texts_in(tmp_path)[:2] == ["post 0", "post 1"]
    await record_all(tmp_path, [make_post("x:9", text="post 9"), deletion_of("x:1")])
    assert texts_in(tmp_path) == ["post 0", "post 9"]
    assert not [*tmp_path.glob("*.new"), *tmp_path.glob("*.part")]


async def test_a_file_left_twice_by_a_crash_is_read_once(tmp_path: Path, make_post: MakePost) -> None:
    await record_all(tmp_path, [make_post()])
    [path] = recorded_files(tmp_path)
    write_parquet(path.with_name(path.name.replace(JSONL, PARQUET)), [make_post()])
    assert texts_in(tmp_path) == ["a tram"]
    await record_all(tmp_path, [])
    assert [found.suffix for found in recorded_files(tmp_path)] == [".parquet"] and not path.exists()


async def test_a_file_that_is_closed_while_a_reader_gets_to_it_is_read(tmp_path: Path, make_post: MakePost) -> None:
    async with Recorder(tmp_path, Rotation(max_age=timedelta(0))) as recorder:
        for number in range(2):
            await recorder.send(make_post(f"x:{number}", text=str(number)))
            await recorder.flush()
        await recorder.send(make_post("x:2", text="2"))
        reader = OwnArchive(tmp_path).items()
        assert next(reader).post.text == "0"
        for path in recorded_files(tmp_path)[1:]:
            rewrite(path, path.with_name(path.name.replace(JSONL, PARQUET)), None)
            path.unlink()
        assert [item.post.text for item in reader][:1] == ["1"]


@pytest.mark.slow
def test_a_killed_recording_keeps_all_it_had_settled(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ingest.record", "sample", "--out", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while not any(path.stat().st_size > 100_000 for path in recorded_files(tmp_path)):
            assert process.poll() is None
        process.kill()
    items = list(OwnArchive(tmp_path).items())
    assert len(items) > 10
    assert sum(isinstance(item, Skipped) for item in items) <= 1
    assert record.compact(tmp_path).erased == 0
    assert all(isinstance(item, Draft) for item in OwnArchive(tmp_path).items())


# forgetting


@SUFFIXES
async def test_no_byte_of_a_deleted_post_is_left(
    tmp_path: Path, make_post: MakePost, image: Image, suffix: str
) -> None:
    gone = make_post(
        "x:777777", text="regrettable words", author="f00dfeed" * 4, images=(image,), url="https://x.example/777777"
    )
    kept = [make_post(f"x:{number}", text=f"kept {number}", author="beef" * 8) for number in range(3)]
    recorder = await record_all(tmp_path, [kept[0], gone, kept[1], deletion_of("x:777777"), kept[2]], suffix=suffix)
    assert recorder.compacted.erased == 1
    seen = all_bytes(tmp_path)
    for trace in (
        b"regrettable",
        b"f00dfeed",
        b"777777",
        b"a grey ramp",
        image.jpeg,
        b64encode(image.jpeg),
        image.phash,
    ):
        assert trace not in seen
    assert b"kept 1" in seen
    assert texts_in(tmp_path) == ["kept 0", "kept 1", "kept 2"]


@SUFFIXES
async def test_a_deleted_post_is_left_out_before_its_bytes_are_gone(
    tmp_path: Path, make_post: MakePost, suffix: str
) -> None:
    await record_all(tmp_path, [make_post("x:1", text="one"), make_post("x:2", text="two")], suffix=suffix)
    async with Recorder(tmp_path, Rotation(suffix=suffix)) as recorder:
        await recorder.send(deletion_of("x:1"))
        assert texts_in(tmp_path) == texts_in(recorded_files(tmp_path)[0]) == ["two"]
        assert Skipped(reason="deleted since it was recorded", item="x:1") in list(OwnArchive(tmp_path).items())
        assert len([*records_of(recorded_files(tmp_path)[0])]) == 2
    assert len([*records_of(recorded_files(tmp_path)[0])]) == 1


async def test_an_authors_deletion_covers_what_came_before_it(tmp_path: Path, make_post: MakePost) -> None:
    def by_ann(post_id: str, minutes: int) -> Post:
        return make_post(post_id, text=post_id, author="ann", ingested_at=NOON + timedelta(minutes=minutes))

    await record_all(tmp_path, [by_ann("x:1", 0), by_ann("x:2", 1), make_post("x:3", text="x:3", author="bob")])
    later = [deletion_of(author="ann", at=NOON + timedelta(minutes=2)), by_ann("x:4", 3)]
    recorder = await record_all(tmp_path, later)
    assert recorder.compacted.erased == 2
    assert texts_in(tmp_path) == ["x:3", "x:4"]


async def test_a_file_without_a_post_left_is_removed(tmp_path: Path, make_post: MakePost) -> None:
    await record_all(tmp_path, [make_post(), deletion_of("x:1")])
    assert recorded_files(tmp_path) == [] and not [*tmp_path.glob("*.keys")]


async def test_a_post_that_comes_again_after_its_deletion_is_refused(tmp_path: Path, make_post: MakePost) -> None:
    again = await record_all(tmp_path, [make_post("x:1"), deletion_of("x:1"), make_post("x:1", revision=1)])
    assert (again.sent, again.failed) == (2, {DELETED: 1})
    after_restart = await record_all(tmp_path, [make_post("x:1"), make_post("x:2", text="two")])
    assert after_restart.failed == {DELETED: 1} and texts_in(tmp_path) == ["two"]


async def test_a_deletion_before_its_post_or_of_nothing_is_counted(tmp_path: Path, make_post: MakePost) -> None:
    recorder = await record_all(tmp_path, [deletion_of("x:1"), make_post("x:1"), deletion_of(author="ann")])
    assert recorder.failed == {NOTHING_RECORDED: 2, DELETED: 1}
    assert not (tmp_path / JOURNAL).exists()


async def test_only_files_a_deletion_concerns_are_rewritten(tmp_path: Path, make_post: MakePost) -> None:
    for number in range(3):
        await record_all(tmp_path, [make_post(f"x:{number}"), make_post(f"x:{number}0", text=str(number))])
    before = [path.stat().st_ino for path in recorded_files(tmp_path)]
    await record_all(tmp_path, [deletion_of("x:1")])
    after = [path.stat().st_ino for path in recorded_files(tmp_path)]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]


async def test_lost_keys_are_read_from_the_file_again(tmp_path: Path, make_post: MakePost) -> None:
    await record_all(tmp_path, [make_post("x:1"), make_post("x:2", text="two")])
    [keys] = tmp_path.glob("*.keys")
    keys.unlink()
    await record_all(tmp_path, [deletion_of("x:1")])
    assert texts_in(tmp_path) == ["two"]


async def test_at_any_time_an_archive_holds_what_was_not_deleted(tmp_path: Path, make_post: MakePost) -> None:
    chance = random.Random(6)
    alive: dict[str, str] = {}
    for run in range(4):
        suffix = chance.choice([JSONL, PARQUET])
        async with Recorder(tmp_path, Rotation(suffix=suffix, max_bytes=600), now=lambda: NOON) as recorder:
            for number in range(40):
                post_id, author = f"x:{run}-{number}", f"author {chance.randrange(20)}"
                act = chance.random()
                at = NOON + timedelta(seconds=run * 1000 + number)
                if act < 0.7:
                    await recorder.send(make_post(post_id, text=post_id, author=author, ingested_at=at))
                    alive[post_id] = author
                elif act < 0.85 and alive:
                    post_id = chance.choice([*alive])
                    beside = chance.choice([recorder.flush, recorder.compact])
                    await asyncio.gather(beside(), recorder.send(deletion_of(post_id, at=at)))
                    del alive[post_id]
                elif act < 0.88:
                    await recorder.send(deletion_of(author=author, at=at))
                    alive = {post_id: other for post_id, other in alive.items() if other != author}
                elif act < 0.94:
                    await asyncio.gather(recorder.flush(), recorder.compact())
                else:
                    await recorder.flush()
                    assert sorted(texts_in(tmp_path)) == sorted(alive)
        raw = [one.text for path in recorded_files(tmp_path) for one in records_of(path) if isinstance(one, Post)]
        assert sorted(raw) == sorted(alive)


def test_a_tombstone_goes_when_no_source_can_repeat_its_post(tmp_path: Path, make_post: MakePost) -> None:
    stones, now = Tombstones(tmp_path), datetime.now(UTC)
    stones.add(deletion_of("x:1"))
    stones.settle((), now + 2 * KEPT)
    assert stones.covers(make_post("x:1")), "its bytes may still be there"
    stones.settle(stones.pending(), now + KEPT / 2)
    assert Tombstones(tmp_path).covers(make_post("x:1")) and not Tombstones(tmp_path).pending()
    stones.settle((), now + 2 * KEPT)
    assert not Tombstones(tmp_path) and not (tmp_path / JOURNAL).exists()


async def test_a_cut_off_last_line_of_the_journal_is_taken_back(tmp_path: Path, make_post: MakePost) -> None:
    await record_all(tmp_path, [make_post("x:1"), make_post("x:2", text="two"), make_post("x:3", text="three")])
    Tombstones(tmp_path).add(deletion_of("x:1"))
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(b'{"key":12')
    await record_all(tmp_path, [deletion_of("x:2")])
    assert texts_in(tmp_path) == ["three"]


async def test_a_damaged_journal_is_an_error(tmp_path: Path, make_post: MakePost) -> None:
    await record_all(tmp_path, [make_post()])
    (tmp_path / JOURNAL).write_bytes(b"?\n")
    with pytest.raises(BadSource, match="tombstones.jsonl is damaged"):
        list(OwnArchive(tmp_path).items())


# the folder


async def test_files_older_than_asked_are_removed(tmp_path: Path, make_post: MakePost) -> None:
    for days in (0, 9, 20):
        now = NOON + timedelta(days=days)
        async with Recorder(tmp_path, Rotation(keep=timedelta(days=15)), now=lambda now=now: now) as recorder:
            await recorder.send(make_post(f"x:{days}", text=f"day {days}"))
    assert texts_in(tmp_path) == ["day 9", "day 20"]
    record.compact(tmp_path, keep=timedelta(days=1))
    assert not recorded_files(tmp_path) and not [*tmp_path.glob("*.keys")]


async def test_a_folder_and_its_files_are_sources(tmp_path: Path, make_post: MakePost, authors: AuthorHash) -> None:
    await record_all(tmp_path, [make_post()])
    await record_all(tmp_path, [make_post("x:2")], suffix=PARQUET)
    for path, count in ((tmp_path, 2), (recorded_files(tmp_path)[1], 1)):
        source = open_source(str(path), SourceOptions(authors=authors))
        assert source.kind == "replay" and len([item async for item in source]) == count
        with pytest.raises(BadSource, match="--split test"):
            open_source(str(path), SourceOptions(authors=authors, split="test"))


async def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    async with Recorder(tmp_path):
        with pytest.raises(ArchiveUnwritable, match="another process records there"):
            async with Recorder(tmp_path):
                pass
        with pytest.raises(ArchiveUnwritable, match="another process records there"):
            record.compact(tmp_path)
    record.compact(tmp_path)


async def test_a_full_disk_ends_the_recording_and_settles_nothing(
    tmp_path: Path, make_post: MakePost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    settled: list[str] = []
    async with Recorder(tmp_path) as recorder:
        await recorder.send(make_post("x:1"), lambda: settled.append("x:1"))
        await recorder.flush()
        monkeypatch.setattr(OpenFile, "write", full)
        await recorder.send(make_post("x:2"), lambda: settled.append("x:2"))
        with pytest.raises(ArchiveUnwritable, match=r"cannot record to .*: No space left on device; let --out"):
            await recorder.flush()
        with pytest.raises(ArchiveUnwritable):
            await recorder.send(make_post("x:3"))
    assert settled == ["x:1"] and recorder.sent == 1 and texts_in(tmp_path) == ["a tram"]


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArchiveUnwritable, match="cannot record to .*file"):
        await record_all(tmp_path / "file", [])


# the command


def run_record(*arguments: str | Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any], str]:
    status = record.main([*map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    return status, json.loads(out.splitlines()[-1]) if out else {}, err


def test_the_command_records_an_archive_with_its_topics_and_deletions(
    tmp_path: Path, make_post: MakePost, image: Image, capsys: pytest.CaptureFixture[str]
) -> None:
    topics = tmp_path / "topics.toml"
    topics.write_text("[[topic]]\nname = 'trams'\nquery = 'tram has:images'\n")
    archive = tmp_path / "feed.jsonl.zst"
    posts = [make_post("x:1", images=(image,)), make_post("x:2", text="sorry"), make_post("x:3", text="a bus")]
    write_archive(archive, [*posts, deletion_of("x:2")])
    status, report, _ = run_record(
        archive, "--out", tmp_path / "out", "--topics", topics, "--format", "parquet", capsys=capsys
    )
    assert status == 0
    assert (report["read"], report["sent"], report["erased"]) == (4, 4, 1)
    [path] = recorded_files(tmp_path / "out")
    first, second = [one for one in records_of(path) if isinstance(one, Post)]
    assert (first.id, first.topics, first.images) == ("x:1", ("trams",), (image,))
    assert (second.id, second.topics) == ("x:3", ())


def test_the_command_compacts_and_converts_a_folder(
    tmp_path: Path, make_post: MakePost, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(record_all(tmp_path, [make_post("x:1"), make_post("x:2", text="two")]))
    Tombstones(tmp_path).add(deletion_of("x:1"))
    status, report, _ = run_record("--compact", tmp_path, "--format", "parquet", capsys=capsys)
    assert (status, report) == (0, {"folder": str(tmp_path), "files": 1, "erased": 1})
    assert texts_in(tmp_path) == ["two"] and recorded_files(tmp_path)[0].suffix == ".parquet"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["sample"], "record needs --out DIR"),
        (["--compact", "nowhere"], "nowhere is no folder with files of `moodstream record`"),
        (["nowhere", "--out", "out"], "there is no source or file 'nowhere'"),
    ],
)
def test_misuse_is_one_line(
    arguments: list[str],
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, err = run_record(*arguments, capsys=capsys)
    assert status == 2 and problem in err and err.count("\n") == 1


@pytest.mark.slow
def test_a_recording_that_is_stopped_closes_its_file(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ingest.record", "sample", "--out", str(tmp_path), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        while not recorded_files(tmp_path):
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
    report = json.loads(out)
    assert process.returncode == 0 and report["sent"] > 0
    assert len(texts_in(tmp_path)) == report["sent"] and recorded_files(tmp_path)[0].name.endswith(JSONL)
