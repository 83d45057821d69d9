from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.contract import (
    SCHEMA_VERSION,
    Deletion,
    Image,
    MalformedRecord,
    NewerSchema,
    Post,
    dead_letters_topic,
    decode,
    decode_place,
    encode,
    encode_place,
    posts_topic,
    record_key,
)
from tests.ingest.conftest import NOON

IMAGE = Image(jpeg=b"\xff\xd8jpeg", sha256=bytes(32), phash=bytes(range(32)), width=1200, height=900, alt="a tram")


def test_a_full_post_survives_the_wire(make_post: Callable[..., Post]) -> None:
    post = make_post(
        revision=2,
        original_created_at=NOON,
        lang="en",
        author="a1",
        reach=12,
        url="https://example.org/1",
        sensitive=True,
        images=(IMAGE, IMAGE),
        topics=("tram", "Straßenbahn"),
        label="negative",
    )
    assert decode(encode(post)) == post


@pytest.mark.parametrize("of", [{"post_id": "x:1"}, {"author": "a1"}])
def test_a_deletion_survives_the_wire(of: dict[str, str]) -> None:
    deletion = Deletion(source="x", deleted_at=NOON, ingested_at=NOON, **of)
    assert decode(encode(deletion)) == deletion


@given(
    text=st.text(st.characters(codec="utf-8")),
    at=st.datetimes(timezones=st.just(UTC)),
    reach=st.none() | st.integers(0, 2**40),
)
def test_any_post_survives_the_wire(text: str, at: datetime, reach: int | None) -> None:
    post = Post(id="x:1", source="x", created_at=at, ingested_at=NOON, text=text, reach=reach)
    assert decode(encode(post)) == post


def test_a_newer_schema_is_refused_even_with_unknown_fields(make_post: Callable[..., Post]) -> None:
    fields = msgspec.msgpack.decode(encode(make_post()))
    newer = msgspec.msgpack.encode(fields | {"schema": SCHEMA_VERSION + 1, "text": ["paragraphs"], "type": "thread"})
    with pytest.raises(NewerSchema, match="upgrade the worker"):
        decode(newer)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"\x00" * 40,
        msgspec.msgpack.encode([1, 2]),
        msgspec.msgpack.encode({"type": "post"}),
        msgspec.msgpack.encode({"type": "post", "schema": "1"}),
        msgspec.msgpack.encode({"type": "like", "schema": 1}),
        msgspec.msgpack.encode({"type": "post", "schema": 1, "id": "y:1", "source": "x", "text": ""}),
    ],
)
def test_what_is_no_record_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedRecord):
        decode(data)


def test_every_cut_of_a_record_is_malformed(make_post: Callable[..., Post]) -> None:
    whole = encode(make_post(images=(IMAGE,)))
    for length in range(len(whole)):
        with pytest.raises(MalformedRecord):
            decode(whole[:length])


def test_a_post_id_starts_with_its_source(make_post: Callable[..., Post]) -> None:
    with pytest.raises(ValueError, match="must start with its source"):
        make_post("x:1", source="y")


def test_a_post_carries_at_most_four_images(make_post: Callable[..., Post]) -> None:
    with pytest.raises(ValueError, match="at most 4"):
        make_post(images=(IMAGE,) * 5)


def test_times_must_be_aware(make_post: Callable[..., Post]) -> None:
    with pytest.raises(ValueError, match="UTC-aware"):
        make_post(created_at=NOON.replace(tzinfo=None))


@pytest.mark.parametrize("of", [{}, {"post_id": "x:1", "author": "a1"}])
def test_a_deletion_names_one_thing(of: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="never both or neither"):
        Deletion(source="x", deleted_at=NOON, ingested_at=NOON, **of)


def test_all_of_one_post_has_one_key(make_post: Callable[..., Post]) -> None:
    deletion = Deletion(source="x", deleted_at=NOON, ingested_at=NOON, post_id="x:1")
    assert record_key(make_post("x:1")) == record_key(deletion) == b"x:1"


def test_the_deletion_of_an_author_has_no_key() -> None:
    assert record_key(Deletion(source="x", deleted_at=NOON, ingested_at=NOON, author="a1")) is None


def test_topics_carry_the_namespace() -> None:
    assert (posts_topic("live"), dead_letters_topic("live")) == ("live.posts", "live.dead-letters")


def test_the_place_of_a_record_comes_back_and_anything_else_is_none() -> None:
    assert decode_place(encode_place(31, 1_772_366_400_000)) == (31, 1_772_366_400_000)
    assert [decode_place(value) for value in (b"", b"31", b"31:", b":5", b"-1:5", b"a:b")] == [None] * 6


@pytest.mark.parametrize("words", [None, "", "two\nlines"])
def test_the_words_in_a_picture_survive_the_wire(make_post: Callable[..., Post], words: str | None) -> None:
    post = make_post(images=(msgspec.structs.replace(IMAGE, words=words),))
    assert decode(encode(post)) == post


def test_a_picture_written_before_words_were_read_has_none(make_post: Callable[..., Post]) -> None:
    fields = msgspec.msgpack.decode(encode(make_post(images=(IMAGE,))))
    del fields["images"][0]["words"]
    found = decode(msgspec.msgpack.encode(fields))
    assert isinstance(found, Post) and found.images == (IMAGE,)
