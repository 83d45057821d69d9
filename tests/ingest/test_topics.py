from __future__ import annotations

import time
from pathlib import Path

import pytest

from ingest.errors import BadTopics
from ingest.settings import SHIPPED_TOPICS
from ingest.topics import Subject, compile_topics, load_topics


def matches(
    query: str, text: str = "", *, lang: str | None = None, handle: str | None = None, has_images: bool = False
) -> bool:
    return compile_topics([("it", query)]).match(Subject(text, lang, handle, has_images)) == ("it",)


@pytest.mark.parametrize(
    ("query", "text", "expected"),
    [
        ("tram", "The TRAM!", True),
        ("tram", "trample the tramway", False),
        ("tram", "#tram @tram", True),
        ("tram", "e-tram", True),
        ("coca-cola", "Coca-Cola please", True),
        ("can't", "I can’t even", True),
        ("straße", "STRASSE gesperrt", True),
        ("café", "cafe\u0301 au lait", True),
        ("猫", "黒猫です", True),
        ("bluebird", "Bluebirdのラテ", True),
        ("커피", "커피를 마신다", True),
        ("🚋", "off we go🚋!", True),
        ('"new york"', "New   York!", True),
        ('"new york"', "New-York", True),
        ('"new york"', "newest yorkshire", False),
        ('"new york"', "york new", False),
        ('"OR"', "this or that", True),
        ("#line9", "hello #Line9.", True),
        ("#line9", "line9", False),
        ("#line9", "#line99", False),
        ("#line9", "a#line9", False),
        ("@ann", "hi @Ann, hi", True),
        ("@ann", "hi @annabel", False),
        ("@ann", "mail@ann", False),
        ("tram bus", "bus and tram", True),
        ("tram bus", "only a tram", False),
        ("tram OR bus", "only a bus", True),
        ("tram or bus", "tram bus", False),
        ("tram bus OR train", "train", True),
        ("tram bus OR train", "tram", False),
        ("tram (bus OR train)", "tram train", True),
        ("tram (bus OR train)", "train", False),
        ("tram -bus", "tram", True),
        ("tram -bus", "tram bus", False),
        ("tram -(bus OR train)", "tram and train", False),
        ('tram -"line 9"', "tram on line 8", True),
        ("-bus", "anything", True),
        ("((tram))", "tram", True),
        ("tram\n  OR bus", "bus", True),
    ],
)
def test_query_matches(query: str, text: str, expected: bool) -> None:
    assert matches(query, text) is expected


def test_from_matches_the_handle() -> None:
    assert matches("from:Ann", "x", handle="@ann")
    assert not matches("from:ann", "from ann", handle="anna")
    assert not matches("from:ann", "x")


def test_lang_matches_the_language_with_or_without_region() -> None:
    assert matches("tram lang:en", "tram", lang="en-GB")
    assert not matches("tram lang:en", "tram", lang="de")
    assert not matches("tram lang:en", "tram")


def test_has_images_matches_posts_with_images() -> None:
    assert matches("has:images", has_images=True)
    assert matches("tram -has:images", "tram")
    assert not matches("has:images", "images")


def test_a_post_can_be_in_several_topics_in_the_order_of_the_file() -> None:
    topics = compile_topics([("b", "tram"), ("a", "bus"), ("c", "train")])
    assert topics.match(Subject("a tram and a bus")) == ("b", "a")


@pytest.mark.parametrize(
    ("query", "column", "problem"),
    [
        ("tram OR", 8, "ends where a word should follow"),
        ("tram OR OR bus", 9, "unexpected 'OR'"),
        ("OR tram", 1, "unexpected 'OR'"),
        ("tram (bus OR train", 19, "closing parenthesis is missing"),
        ("tram bus)", 9, r"unexpected '\)'"),
        ("tram ()", 7, r"unexpected '\)'"),
        ('tram "new york', 6, "not closed"),
        ('tram ""', 6, "empty phrase"),
        ("tram url:example", 6, "'url:example' is not known; from:handle, lang:en and has:images are"),
        ("has:links", 1, "'has:links' is not known"),
        ("tram AND bus", 6, "AND is understood"),
        ("tram --bus", 7, "unexpected '-'"),
        ("tram #", 6, "unexpected '#'"),
        ("", 1, "empty query"),
        ("   ", 4, "empty query"),
    ],
)
def test_an_error_names_topic_query_and_column(query: str, column: int, problem: str) -> None:
    with pytest.raises(BadTopics, match=problem) as raised:
        compile_topics([("fine", "tram"), ("mine", query)])
    assert (raised.value.topic, raised.value.query, raised.value.column) == ("mine", query, column)
    assert f"topic 'mine', column {column} of the query {query!r}" in str(raised.value)


@pytest.mark.parametrize("query", ["x" * 1025, "(" * 60 + "tram" + ")" * 60])
def test_too_long_or_deep_a_query_is_refused(query: str) -> None:
    with pytest.raises(BadTopics, match="at most|more than"):
        compile_topics([("mine", query)])


@pytest.mark.parametrize(
    ("name", "problem"), [("all", "built in"), ("", "1 to 60"), ("a\nb", "1 to 60"), ("x" * 61, "1 to 60")]
)
def test_a_name_that_cannot_be_is_refused(name: str, problem: str) -> None:
    with pytest.raises(BadTopics, match=problem):
        compile_topics([(name, "tram")])


def test_two_topics_of_one_name_are_refused() -> None:
    with pytest.raises(BadTopics, match="two topics"):
        compile_topics([("tram", "tram"), ("tram", "bus")])


@pytest.mark.parametrize(
    "contents", ["[[topic]]\nname = 'x'", "topic = 3", "[[topics]]\nname='x'\nquery='y'", "[[topic", "\x00"]
)
def test_a_file_that_is_no_list_of_topics_is_refused(tmp_path: Path, contents: str) -> None:
    path = tmp_path / "topics.toml"
    path.write_text(contents)
    with pytest.raises(BadTopics, match="topics.toml"):
        load_topics(path)


def test_a_missing_file_is_named_with_its_variable(tmp_path: Path) -> None:
    with pytest.raises(BadTopics, match="none.toml .MOODSTREAM_TOPICS."):
        load_topics(tmp_path / "none.toml")


def test_the_shipped_topics_load() -> None:
    assert load_topics(SHIPPED_TOPICS).names == ("Line 9 tram", "Bluebird Coffee", "Orbit One phone")


def test_matching_a_long_hostile_text_stays_fast() -> None:
    topics = compile_topics([("a", '"tram tram tram" OR "- -" OR #tram')])
    text = "tram " * 2000 + "-" * 10_000 + "_" * 10_000
    started = time.perf_counter()
    topics.match(Subject(text))
    assert time.perf_counter() - started < 1
