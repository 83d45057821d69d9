"""One conformance test for all sources, then what each does in its own way."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import zstandard

from ingest.authors import AuthorHash
from ingest.contract import SCHEMA_VERSION, Deletion, Image, Post, decode, encode
from ingest.errors import BadSource
from ingest.media.sanitize import make_safe
from ingest.sources.archive import OwnArchive, write_archive
from ingest.sources.columns import NO_TIME_START
from ingest.sources.detect import SourceOptions, open_source
from ingest.sources.items import Draft, Item, Skipped, Source, in_thread, label_of
from ingest.sources.mvsa import MvsaFolder, MvsaParquet, joint_label
from ingest.sources.times import parse_time, snowflake_time
from tests.ingest.conftest import NOON

MAP = {"created_at": "when", "author": "who", "text": "body", "label": "mood"}
Open = Callable[..., Source]


async def collect(source: Source, limit: int = 1_000_000) -> list[Item]:
    items: list[Item] = []
    async for item in source:
        items.append(item)
        if len(items) == limit:
            break
    return items


def drafts_of(items: list[Item]) -> list[Draft]:
    return [item for item in items if isinstance(item, Draft)]


@pytest.fixture(scope="session")
def open_it(authors: AuthorHash) -> Open:
    def open_named(name: object, **options: object) -> Source:
        return open_source(str(name), SourceOptions(authors=authors, **options))  # type: ignore[arg-type]

    return open_named


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory, jpeg: bytes, make_post: Callable[..., Post]) -> Path:
    path = tmp_path_factory.mktemp("archive") / "posts.jsonl.zst"
    image = make_safe(jpeg, alt="a gradient")
    records = [
        make_post("x:1", text="zwölf 🚋", images=(image, image), topics=("old",), label="positive", reach=3),
        make_post("x:2", text="", images=(image,), author="a1", lang="de"),
        Deletion(source="x", deleted_at=NOON, ingested_at=NOON, post_id="x:1"),
        make_post("x:1", revision=1),
    ]
    assert write_archive(path, records) == 4
    return path


@pytest.fixture(params=["csv", "csv in time order", "archive", "mvsa folder", "mvsa parquet", "sample"])
def source(request: pytest.FixtureRequest, open_it: Open) -> Source:
    """Every source there is, on a small input."""
    if request.param.startswith("csv"):
        path = request.getfixturevalue("tweets_csv")
        return open_it(path, column_map=MAP, in_time_order=request.param.endswith("order"))
    if request.param == "sample":
        return open_it("sample")
    return open_it(request.getfixturevalue(request.param.replace(" ", "_")))


async def test_a_source_conforms(source: Source) -> None:
    items = await collect(source, limit=300)
    drafts = drafts_of(items)
    assert source.name and source.kind in ("live", "sample", "replay")
    assert drafts
    for draft in drafts:
        post = draft.post
        assert decode(encode(post)) == post
        assert post.id.startswith(f"{post.source}:") and len(post.id) > len(post.source) + 1
        assert post.created_at.utcoffset() == timedelta(0)
        assert post.images == () and post.topics == (), "the service makes pictures safe and matches topics"
        assert draft.handle is None or draft.handle not in encode(post).decode("latin-1")
        for picture in draft.pictures:
            make_safe(picture.data)
    assert all(item.reason for item in items if isinstance(item, Skipped))


async def test_a_source_can_be_left_early_and_read_again(source: Source) -> None:
    first = await collect(source, limit=1)
    again = await collect(source, limit=1)
    assert type(first[0]) is type(again[0])


async def test_a_source_leaves_the_event_loop_free(source: Source) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    await collect(source, limit=1)
    ticking.cancel()
    assert ticks > 1


async def test_blocking_reads_run_in_another_thread_and_are_closed() -> None:
    threads: set[int] = set()
    closed: list[bool] = []

    def blocking():  # type: ignore[no-untyped-def]
        try:
            while True:
                threads.add(threading.get_ident())
                yield 1
        finally:
            closed.append(True)

    numbers = in_thread(blocking(), chunk=3)
    assert await anext(numbers) == 1
    await numbers.aclose()
    assert threading.get_ident() not in threads
    assert closed == [True]


# CSV


@pytest.fixture(scope="module")
def airline(open_it: Open, feeds: Path) -> list[Draft]:
    return drafts_of(asyncio.run(collect(open_it(feeds / "us_airline_2015.csv"))))


@pytest.mark.data
def test_the_airline_feed_is_read_whole_with_times_from_its_ids(airline: list[Draft]) -> None:
    drafts = airline
    assert len(drafts) == 14_640
    assert len({draft.post.id for draft in drafts}) == 14_485
    assert Counter(draft.post.label for draft in drafts) == {"negative": 9178, "neutral": 3099, "positive": 2363}
    first = drafts[0].post
    assert first.id == "x:570306133677760513"
    assert first.text == "@VirginAmerica What @dhepburn said."
    # The file says 11:35, which is 8 hours behind UTC and has no seconds.
    assert first.created_at == datetime(2015, 2, 24, 19, 35, 52, 701000, UTC)
    assert not any(draft.warnings for draft in drafts)


@pytest.mark.data
async def test_the_boston_feed_is_read_whole_without_labels(open_it: Open, feeds: Path) -> None:
    drafts = drafts_of(await collect(open_it(feeds / "boston_2013.csv")))
    assert len(drafts) == len({draft.post.id for draft in drafts}) == 10_012
    assert drafts[0].post.id == "x:325208201740029952"
    assert {draft.post.label for draft in drafts} == {None}
    times = [draft.post.created_at for draft in drafts]
    assert min(times).date().isoformat() == "2013-04-15"
    assert max(times).date().isoformat() == "2013-04-19"


@pytest.mark.data
async def test_a_paced_feed_comes_in_time_order_and_is_the_same_feed(
    airline: list[Draft], open_it: Open, feeds: Path
) -> None:
    items = await collect(open_it(feeds / "us_airline_2015.csv", in_time_order=True))
    in_order, as_is = ([draft.post for draft in drafts] for drafts in (drafts_of(items), airline))
    times = [post.created_at for post in in_order]
    assert times == sorted(times)
    assert sorted((post.id, post.text) for post in in_order) == sorted((post.id, post.text) for post in as_is)


async def test_a_mapped_csv_gives_posts_and_counts_what_it_cannot_read(open_it: Open, tweets_csv: Path) -> None:
    items = await collect(open_it(tweets_csv, column_map=MAP))
    skipped = [item.reason for item in items if isinstance(item, Skipped)]
    drafts = drafts_of(items)
    assert skipped == ["row without a readable time", "row with too few columns"]
    assert [draft.post.text for draft in drafts] == [
        "Good morning",
        'two\nlines; and a "quote"',
        "what a mood",
        "bad � byte",
    ]
    assert [draft.post.label for draft in drafts] == ["positive", "negative", None, "neutral"]
    assert drafts[0].post.id == "csv:tweets#1"
    assert drafts[0].post.created_at == datetime(2024, 3, 1, 10, tzinfo=UTC)
    assert drafts[2].warnings == ("time without a zone taken as UTC", "unknown label 'puzzled'")


async def test_rows_in_time_order_keep_their_ids(open_it: Open, tweets_csv: Path) -> None:
    drafts = drafts_of(await collect(open_it(tweets_csv, column_map=MAP, in_time_order=True)))
    assert [draft.post.id for draft in drafts] == ["csv:tweets#2", "csv:tweets#1", "csv:tweets#5", "csv:tweets#6"]


async def test_authors_are_hashed_alike_and_under_the_key(open_it: Open, tweets_csv: Path) -> None:
    drafts = drafts_of(await collect(open_it(tweets_csv, column_map=MAP)))
    assert drafts[2].post.author == drafts[3].post.author == AuthorHash(b"key")("csv", "@Cleo")
    assert drafts[2].post.author != AuthorHash(b"other key")("csv", "cleo")
    assert drafts[2].handle == "cleo"


async def test_many_unknown_labels_share_one_warning(open_it: Open, tmp_path: Path) -> None:
    path = tmp_path / "moods.csv"
    path.write_text("text,mood\n" + "".join(f"hi,mood {number}\n" for number in range(50)))
    drafts = drafts_of(await collect(open_it(path, column_map={"text": "text", "label": "mood"})))
    counted = Counter(warning for draft in drafts for warning in draft.warnings if "label" in warning)
    assert len(counted) == 21
    assert counted["unknown label (others)"] == 30


async def test_a_file_without_times_gets_the_same_made_up_ones_every_time(open_it: Open, tmp_path: Path) -> None:
    path = tmp_path / "plain.csv"
    path.write_text("text\none\ntwo\n")
    drafts = drafts_of(await collect(open_it(path, column_map={"text": "text"})))
    assert [draft.post.created_at for draft in drafts] == [NO_TIME_START + timedelta(seconds=n) for n in (1, 2)]
    assert drafts[0].warnings == ("no time in the file: rows stand one second apart",)


async def test_a_huge_cell_is_skipped_and_the_rest_read(open_it: Open, tmp_path: Path) -> None:
    path = tmp_path / "huge.csv"
    path.write_text(f"text\nbefore\n{'x' * 200_000}\nafter\n")
    items = await collect(open_it(path, column_map={"text": "text"}))
    assert [draft.post.text for draft in drafts_of(items)] == ["before", "after"]
    assert [item.reason for item in items if isinstance(item, Skipped)] == ["unreadable row"]


@pytest.mark.parametrize(
    ("column_map", "problem"),
    [
        ({}, "unknown layout: say which column holds what.*its columns are 'when', 'who', 'body', 'mood'"),
        ({"text": "tweet"}, "--map text=tweet: .* has no column 'tweet'; its columns are"),
        ({"label": "mood"}, "text must be given"),
        ({"text": "body", "colour": "mood"}, "colour.*it takes text, id, created_at"),
        ({"text": "body", "source": "a:b"}, "use a plain word"),
    ],
)
def test_a_wrong_map_is_explained(open_it: Open, tweets_csv: Path, column_map: dict[str, str], problem: str) -> None:
    with pytest.raises(BadSource, match=problem):
        open_it(tweets_csv, column_map=column_map)


@pytest.mark.parametrize(
    ("word", "label"),
    [
        ("Positive", "positive"),
        (" NEG ", "negative"),
        ("neutral", "neutral"),
        ("0", None),
        ("on-topic", None),
        ("", None),
    ],
)
def test_labels_in_common_spellings(word: str, label: str | None) -> None:
    assert label_of(word) == label


@pytest.mark.parametrize(
    ("tweet_id", "expected"),
    [
        ("570306133677760513", "2015-02-24T19:35:52.701000+00:00"),
        ("'325208201740029952'", "2013-04-19T11:24:12.028000+00:00"),
        ("29700859247", "2010-11-04T01:43:01.738000+00:00"),
        ("29700859246", None),
        ("1234", None),
        ("9223372036854775807", None),
        ("99999999999999999999", None),
        ("tweet 5", None),
        ("7" * 5000, None),
        ("", None),
        ("٣٢٥٢٠٨٢٠١٧٤٠٠٢٩٩٥٢", None),
    ],
)
def test_time_of_a_tweet_id(tweet_id: str, expected: str | None) -> None:
    found = snowflake_time(tweet_id)
    assert (found.isoformat() if found else None) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-03-01T10:00:00Z", "2024-03-01T10:00:00+00:00"),
        ("2024-03-01 10:00:00", "2024-03-01T10:00:00"),
        ("2024-03-01", "2024-03-01T00:00:00"),
        ("Wed Aug 27 13:08:45 +0000 2008", "2008-08-27T13:08:45+00:00"),
        ("Wed, 27 Aug 2008 13:08:45 +0200", "2008-08-27T13:08:45+02:00"),
        ("2/24/2015 11:35", "2015-02-24T11:35:00"),
        ("24.02.2015 11:35", "2015-02-24T11:35:00"),
        ("1424806552", "2015-02-24T19:35:52+00:00"),
        ("1424806552701", "2015-02-24T19:35:52.701000+00:00"),
        ("yesterday", None),
        ("20150224", "2015-02-24T00:00:00"),
        ("nan", None),
        ("inf", None),
        ("", None),
    ],
)
def test_times_in_common_forms(text: str, expected: str | None) -> None:
    found = parse_time(text)
    assert (found.isoformat() if found else None) == expected


async def test_an_id_that_contradicts_the_time_column_is_no_tweet_id(open_it: Open, tmp_path: Path) -> None:
    path = tmp_path / "toots.csv"
    path.write_text("id,at,text\n109348474929474747,2022-11-15T16:00:00Z,a toot\n")
    [draft] = drafts_of(await collect(open_it(path, column_map={"id": "id", "created_at": "at", "text": "text"})))
    assert draft.post.created_at == datetime(2022, 11, 15, 16, tzinfo=UTC)


@pytest.mark.parametrize("when", ["0001-01-01T00:00:00+05:00", "9999-12-31T23:59:00-05:00"])
async def test_a_time_outside_the_calendar_is_none(when: str, open_it: Open, tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text(f"at,text\n{when},a toot\n")
    [item] = await collect(open_it(tmp_path / "old.csv", column_map={"created_at": "at", "text": "text"}))
    assert isinstance(item, Skipped) and item.reason == "row without a readable time"


# MVSA


async def test_the_mvsa_folder_joins_labels_by_the_published_rule(mvsa_folder: Path, jpeg: bytes) -> None:
    items = await collect(MvsaFolder(mvsa_folder))
    drafts = drafts_of(items)
    assert [(draft.post.id, draft.post.text, draft.post.label) for draft in drafts] == [
        ("mvsa:1", "café über alles", "positive"),
        ("mvsa:2", "just a door", "negative"),
    ]
    assert drafts[0].pictures[0].data == jpeg
    assert [item.reason for item in items if isinstance(item, Skipped)] == [
        "labels contradict",
        "post without text and image files",
    ]


@pytest.mark.parametrize(
    ("pairs", "label"),
    [
        (["positive,positive"], "positive"),
        (["neutral,positive"], "positive"),
        (["negative,neutral"], "negative"),
        (["neutral,neutral"], "neutral"),
        (["positive,negative"], None),
        (["positive,positive", "positive,neutral", "negative,positive"], "positive"),
        (["positive,positive", "neutral,positive", "negative,positive"], None),
        (["what,positive"], None),
        (["positive"], None),
    ],
)
def test_joint_label(pairs: list[str], label: str | None) -> None:
    assert joint_label([pair.split(",") for pair in pairs]) == label


@pytest.mark.parametrize(
    ("split", "ids"),
    [(None, ["1", "2", "3"]), ("train", ["1"]), ("val", ["2"]), ("validation", ["2"]), ("dev", ["2"]), ("test", ["3"])],
)
async def test_the_mvsa_parquet_gives_a_split(mvsa_parquet: Path, split: str | None, ids: list[str]) -> None:
    drafts = drafts_of(await collect(MvsaParquet(mvsa_parquet, split=split)))
    assert [draft.post.id.removeprefix("mvsa:") for draft in drafts] == ids


async def test_mvsa_posts_keep_the_size_of_the_original(mvsa_parquet: Path) -> None:
    [draft] = drafts_of(await collect(MvsaParquet(mvsa_parquet, split="train")))
    assert (draft.pictures[0].width, draft.pictures[0].height) == (1200, 900)


@pytest.mark.data
async def test_the_test_split_of_mvsa_single(open_it: Open, data: Path) -> None:
    drafts = drafts_of(await collect(open_it(data / "mvsa_single.parquet", split="test")))
    assert Counter(draft.post.label for draft in drafts) == {"positive": 268, "neutral": 47, "negative": 135}
    assert all(len(draft.pictures) == 1 for draft in drafts)


# our own archive


async def test_an_archive_gives_back_what_was_written(archive: Path, jpeg: bytes) -> None:
    items = await collect(OwnArchive(archive))
    first, second, deletion, edit = items
    assert isinstance(first, Draft) and isinstance(second, Draft) and isinstance(edit, Draft)
    assert (first.post.text, first.post.label, first.post.reach) == ("zwölf 🚋", "positive", 3)
    assert (second.post.author, second.post.lang) == ("a1", "de")
    assert edit.post.revision == 1
    assert deletion == Deletion(source="x", deleted_at=NOON, ingested_at=NOON, post_id="x:1")
    image = make_safe(jpeg, alt="a gradient")
    picture = first.pictures[1]
    assert make_safe(picture.data, alt=picture.alt, width=picture.width, height=picture.height) == image


async def test_an_archive_is_read_uncompressed_as_well(archive: Path, tmp_path: Path, open_it: Open) -> None:
    plain = tmp_path / "posts.jsonl"
    with archive.open("rb") as packed, plain.open("wb") as file:
        zstandard.ZstdDecompressor().copy_stream(packed, file)
    assert await collect(open_it(plain)) == await collect(open_it(archive))


async def test_bad_lines_of_an_archive_are_counted_and_the_rest_read(
    tmp_path: Path, make_post: Callable[..., Post]
) -> None:
    path = tmp_path / "posts.jsonl"
    good = msgspec.json.encode(make_post())
    lines = [good, b"{", b'{"type":"post","schema":1}', b"\xff\xfe", good]
    path.write_bytes(b"\n".join(lines) + b"\n")
    items = await collect(OwnArchive(path))
    assert [type(item).__name__ for item in items] == ["Draft", "Skipped", "Skipped", "Skipped", "Draft"]


async def test_a_line_without_end_is_read_past(
    tmp_path: Path, make_post: Callable[..., Post], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.sources.lines.MAX_LINE_BYTES", 1000)
    path = tmp_path / "posts.jsonl"
    good = msgspec.json.encode(make_post())
    path.write_bytes(good + b"\n" + b"x" * 5500 + b"\n" + good)
    items = await collect(OwnArchive(path))
    assert [getattr(item, "reason", "post") for item in items] == ["post", "line too long", "post"]


async def test_a_cut_off_archive_gives_what_is_whole_and_says_so(
    tmp_path: Path, make_post: Callable[..., Post]
) -> None:
    path = tmp_path / "posts.jsonl.zst"
    image = Image(jpeg=bytes(range(256)) * 400, sha256=bytes(32), phash=bytes(32), width=1, height=1)
    write_archive(path, [make_post(f"x:{number}", text=f"{number**9}", images=(image,)) for number in range(200)])
    path.write_bytes(path.read_bytes()[:-2000])
    items = await collect(OwnArchive(path))
    assert isinstance(items[0], Draft)
    assert isinstance(items[-1], Skipped)


async def test_an_archive_of_a_newer_schema_is_refused(tmp_path: Path, make_post: Callable[..., Post]) -> None:
    path = tmp_path / "posts.jsonl"
    path.write_bytes(msgspec.json.encode(msgspec.to_builtins(make_post()) | {"schema": SCHEMA_VERSION + 1}))
    with pytest.raises(BadSource, match="schema 2, this reads up to 1: upgrade"):
        await collect(OwnArchive(path))


def test_an_archive_appears_whole_or_not_at_all(tmp_path: Path, make_post: Callable[..., Post]) -> None:
    path = tmp_path / "posts.jsonl.zst"

    def failing():  # type: ignore[no-untyped-def]
        yield make_post()
        raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError):
        write_archive(path, failing())
    assert not path.exists()


# what a name or path turns out to be


@pytest.mark.parametrize(
    ("contents", "problem"),
    [
        (b"", "is empty, or holds nothing that can be read; ingest reads 'sample'; CSV, TSV and JSON Lines"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "of no kind known here"),
        (
            b'{"created_at": "Wed"}\n',
            "JSON Lines of an unknown layout: .*--map text=FIELD.*its fields are 'created_at'",
        ),
        (b"<html>", "of no kind known here, it begins with '<html>'"),
        (b"[{}]", "a JSON array: .*jq"),
        (b"PK\x03\x04\0", "a ZIP file: unpack it first"),
        ("text\nhä\n".encode("utf-16"), "UTF-16 text: turn it into UTF-8"),
        ("text\nhi\n".encode("utf-16-le"), "UTF-16 text: turn it into UTF-8"),
        (b"PAR1 and nothing else", "as Parquet"),
    ],
)
def test_an_unknown_file_is_explained(open_it: Open, tmp_path: Path, contents: bytes, problem: str) -> None:
    path = tmp_path / "feed"
    path.write_bytes(contents)
    with pytest.raises(BadSource, match=problem):
        open_it(path)


def test_a_missing_file_is_named(open_it: Open) -> None:
    with pytest.raises(BadSource, match=r"no source or file 'nope.csv'"):
        open_it("nope.csv")


def test_a_folder_of_something_else_is_explained(open_it: Open, tmp_path: Path) -> None:
    with pytest.raises(BadSource, match="is empty, or holds nothing that can be read"):
        open_it(tmp_path)


def test_an_unknown_split_is_answered_with_the_known_ones(open_it: Open, mvsa_parquet: Path) -> None:
    with pytest.raises(BadSource, match="--split dress: .* has the splits test, train, validation"):
        open_it(mvsa_parquet, split="dress")


@pytest.mark.parametrize("fixture", ["tweets_csv", "archive", "mvsa_folder"])
def test_a_split_of_something_without_splits_is_refused(
    open_it: Open, request: pytest.FixtureRequest, fixture: str
) -> None:
    with pytest.raises(BadSource, match="--split test: .*leave it out"):
        open_it(request.getfixturevalue(fixture), split="test")


def test_a_map_for_something_without_columns_is_refused(open_it: Open, archive: Path) -> None:
    with pytest.raises(BadSource, match="only CSV, TSV and JSON Lines have columns to map"):
        open_it(archive, column_map={"text": "text"})
