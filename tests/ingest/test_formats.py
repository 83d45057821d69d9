"""Every line format in every container: the same items come out, and the format is told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingest.authors import AuthorHash
from ingest.contract import Deletion, decode, encode
from ingest.errors import BadSource
from ingest.sources.detect import SourceOptions, open_source
from ingest.sources.items import Draft, Item, Skipped, Source
from tests.ingest.made_archives import CONTAINERS, DID, MADE, X_V1, X_V2, Made, contained, lines, tar_of

Read = Callable[..., list[Item]]


def open_it(path: Path, **options: Any) -> Source:
    return open_source(str(path), SourceOptions(authors=AuthorHash(b"key"), **options))


def read(path: Path, **options: Any) -> list[Item]:
    async def collect() -> list[Item]:
        return [item async for item in open_it(path, **options)]

    return asyncio.run(collect())


def told(items: list[Item]) -> list[str]:
    """As `Made.out` has it."""
    return [
        item.post.id
        if isinstance(item, Draft)
        else f"-{item.post_id or 'author'}"
        if isinstance(item, Deletion)
        else f"!{item.reason}"
        for item in items
    ]


def drafts(items: list[Item]) -> list[Draft]:
    return [item for item in items if isinstance(item, Draft)]


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", MADE)
def test_a_format_is_the_same_in_every_container(name: str, container: str, tmp_path: Path) -> None:
    made = MADE[name]
    path = contained(made, container, tmp_path)
    assert open_it(path, **made.options).format == made.format + CONTAINERS[container]  # type: ignore[attr-defined]
    items = read(path, **made.options)
    assert told(items) == made.out
    for draft in drafts(items):
        assert decode(encode(draft.post)) == draft.post
        assert draft.post.created_at.utcoffset() == timedelta(0)
        assert draft.post.original_created_at is None
        assert not draft.links, "nothing is fetched for an archive"


def made_items(made: Made, folder: Path) -> list[Item]:
    return read(contained(made, "plain", folder), **made.options)


def test_answers_messages_and_flattened_posts_of_x_are_alike(tmp_path: Path) -> None:
    answer, message, flat = drafts(made_items(MADE["x v2"], tmp_path))
    assert answer.post.text == message.post.text == flat.post.text == "a tram & a bus"
    assert answer.post.created_at == datetime(2022, 7, 21, 6, 9, 32, 264000, UTC)
    assert [draft.post.reach for draft in (answer, message, flat)] == [12, 12, 12]
    assert [draft.warnings for draft in (answer, message, flat)] == [
        ("picture not at hand",),
        ("pictures not told where",),
        ("picture not at hand",),
    ]


def test_a_repost_of_a_flattened_file_has_the_whole_text(tmp_path: Path) -> None:
    repost = {
        "id": "1550000000000000005",
        "text": "RT @ann: a tr…",
        "author_id": "8",
        "referenced_tweets": [{"type": "retweeted", "id": "1550000000000000000", "text": "a tram that is whole"}],
    }
    (tmp_path / "flat.jsonl").write_bytes(lines(repost))
    [draft] = drafts(read(tmp_path / "flat.jsonl"))
    assert (draft.post.text, draft.is_retweet) == ("a tram that is whole", True)


def test_tweets_of_v1_are_whole_and_timed_by_their_ids(tmp_path: Path) -> None:
    deletion, tweet, _, retweet, _ = made_items(MADE["x v1.1"], tmp_path)
    assert isinstance(deletion, Deletion) and isinstance(tweet, Draft) and isinstance(retweet, Draft)
    assert deletion.deleted_at == datetime(2012, 6, 6, 20, 7, 10, tzinfo=UTC)
    assert tweet.post.text == "a long tweet that is whole"
    assert tweet.post.created_at == datetime(2012, 6, 6, 20, 7, 10, 10000, UTC)
    assert tweet.post.author == AuthorHash(b"key")("x", "7")
    assert tweet.warnings == ("picture not at hand",)
    assert (retweet.post.text, retweet.is_retweet) == ("all of it", True)


def test_jetstream_keeps_its_own_clock(tmp_path: Path) -> None:
    _, post, deletion, account = made_items(MADE["jetstream v1"], tmp_path)
    assert isinstance(post, Draft) and isinstance(deletion, Deletion) and isinstance(account, Deletion)
    assert post.post.created_at == datetime(2024, 9, 9, 19, 46, 2, 102000, UTC)
    assert deletion.deleted_at == datetime(2024, 9, 9, 19, 46, 2, 329310, UTC)
    assert account.author == AuthorHash(b"key")("bluesky", DID)


def test_a_status_is_told_at_its_own_time_and_without_its_picture(tmp_path: Path) -> None:
    [draft] = drafts(made_items(MADE["mastodon lines"], tmp_path))
    assert draft.post.created_at == datetime(2024, 8, 21, 10, tzinfo=UTC)
    assert draft.warnings == ("picture not at hand",)
    assert draft.handle == "ann@toot.example"


def test_a_deletion_of_a_capture_has_the_time_of_what_came_before(tmp_path: Path) -> None:
    [deletion] = [item for item in made_items(MADE["mastodon sse"], tmp_path) if isinstance(item, Deletion)]
    assert deletion.deleted_at == datetime(2024, 8, 21, 10, tzinfo=UTC)


def test_mapped_json_reaches_into_objects(tmp_path: Path) -> None:
    [draft] = drafts(made_items(MADE["jsonl"], tmp_path))
    assert (draft.post.text, draft.post.label, draft.post.author) == ("good", "positive", None)
    assert draft.post.created_at == datetime(2015, 2, 24, 19, 35, 52, tzinfo=UTC)


def test_a_name_with_a_dot_is_a_field_before_it_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "feed").write_bytes(lines({"a.b": "yes", "a": {"b": "no"}}))
    [draft] = drafts(read(tmp_path / "feed", column_map={"text": "a.b"}))
    assert draft.post.text == "yes"


@pytest.mark.parametrize(
    ("column_map", "problem"),
    [
        ({"text": "nope"}, "--map text=nope: .* has no field 'nope'; its fields are 'nr', 'at'"),
        ({"label": "mood"}, "text must be given"),
    ],
)
def test_a_wrong_map_of_json_is_explained(tmp_path: Path, column_map: dict[str, str], problem: str) -> None:
    (tmp_path / "feed").write_bytes(lines({"nr": 1, "at": "2024-03-01"}))
    with pytest.raises(BadSource, match=problem):
        open_it(tmp_path / "feed", column_map=column_map)


@pytest.mark.parametrize("name", [name for name, made in MADE.items() if not made.options])
def test_options_that_do_not_fit_a_known_format_are_refused(name: str, tmp_path: Path) -> None:
    path = contained(MADE[name], "plain", tmp_path)
    with pytest.raises(BadSource, match=r"--split test: .*leave it out"):
        open_it(path, split="test")


def test_a_map_for_a_capture_of_events_is_refused(tmp_path: Path) -> None:
    path = contained(MADE["mastodon sse"], "plain", tmp_path)
    with pytest.raises(BadSource, match="--map: only CSV, TSV and JSON Lines"):
        open_it(path, column_map={"text": "content"})


def test_a_map_wins_over_a_known_format(tmp_path: Path) -> None:
    path = tmp_path / "feed"
    path.write_bytes(lines({"id": "1550000000000000000", "text": "a", "author_id": "7", "note": "b"}))
    [draft] = drafts(read(path, column_map={"text": "note"}))
    assert draft.post.text == "b"


def test_a_folder_is_read_in_order_and_its_strangers_are_named(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("what this is, and more\n")
    (tmp_path / "b.jsonl").write_bytes(X_V2)
    (tmp_path / "a.jsonl").write_bytes(X_V1)
    (tmp_path / "c.jsonl").write_bytes(X_V1)
    (tmp_path / "d.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0")
    (tmp_path / "e").touch()
    items = read(tmp_path)
    unknown = [item.item for item in items if isinstance(item, Skipped) and item.reason == "file of unknown kind"]
    assert unknown == [
        "README.md: begins with 'what this is, and more\\n'",
        'b.jsonl: begins with \'{"data": [{"id": "1550000000000000000", \'',
        "d.png: begins with '\\\\x89PNG\\r\\n\\x1a\\n\\x00\\x00\\x00'",
        "e: begins with nothing: it is empty",
    ]
    assert len(drafts(items)) == 4


def test_of_several_csv_files_those_with_the_first_header_are_read(tmp_path: Path) -> None:
    path = tmp_path / "feed.tar"
    path.write_bytes(tar_of({"a": b"text\none\n", "b": b"text\ntwo\n", "c": b"words\nthree\n"}))
    items = read(path, column_map={"text": "text"})
    assert told(items) == ["csv:a#1", "csv:b#1", "!file of unknown kind"]


def test_rows_without_ids_are_told_apart_by_their_files(tmp_path: Path) -> None:
    path = tmp_path / "feed.tar"
    path.write_bytes(tar_of({"20/00.csv": b"text\none\n", "21/00.csv": b"text\ntwo\n"}))
    assert told(read(path, column_map={"text": "text"})) == ["csv:20/00#1", "csv:21/00#1"]


def test_a_csv_in_a_tar_keeps_its_order_also_when_paced(tmp_path: Path) -> None:
    path = tmp_path / "feed.tar"
    path.write_bytes(tar_of({"a": b"text,at\none,2024-03-02\ntwo,2024-03-01\n"}))
    items = read(path, column_map={"text": "text", "created_at": "at"}, in_time_order=True)
    assert [draft.post.text for draft in drafts(items)] == ["one", "two"]


@pytest.mark.data
def test_the_real_captures(data: Path) -> None:
    payloads = data.parent / "payloads"
    assert Counter(type(item).__name__ for item in read(payloads / "bluesky_jetstream_v1.jsonl")) == {
        "Skipped": 134,
        "Draft": 17,
        "Deletion": 1,
    }
    [draft] = drafts(read(payloads / "mastodon_stream.sse"))
    assert draft.post.text == "it's cool guy"
