from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import BadTopics
from ingest.settings import SHIPPED_TOPICS
from ingest.topics.definitions import Subject, TopicsFile, compile_topics, load_topics
from ingest.topics.index import TopicIndex
from ingest.topics.query import parse_query
from ingest.topics.reading import LETTER, Reading, normal


def matches(query: str, text: str = "", **facts: Any) -> bool:
    return compile_topics([("it", query)]).match(Subject(text, **facts)) == ("it",)


@pytest.mark.parametrize(
    ("query", "text", "expected"),
    [
        ("tram", "The TRAM!", True),
        ("tram", "trample the tramway", False),
        ("tram", "#tram @tram", True),
        ("tram", "e-tram", True),
        ("tram", "the_tram", False),
        ("line_9", "Line_9", True),
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
        ('"new york"', "new_york", True),
        ('"new york"', "new" + 40 * "." + "york", False),
        ('"new york"', "newest yorkshire", False),
        ('"new york"', "york new", False),
        ('"OR"', "this or that", True),
        ("#line9", "hello #Line9.", True),
        ("#line9", "line9", False),
        ("#line9", "#line99", False),
        ("#line9", "a#line9", False),
        ("$twtr", "long $TWTR!", True),
        ("$twtr", "twtr", False),
        ("$twtr", "$twtrx", False),
        ("$twtr", "us$twtr", False),
        ("$5", "only $5", True),
        ('"tram bus"~1', "tram or bus", True),
        ('"tram bus"~1', "tram and not bus", False),
        ('"tram bus"~2', "bus tram", True),
        ('"tram bus"~1', "bus tram", False),
        ('"tram bus"~6', "bus 1 2 3 4 tram", True),
        ('"tram bus"~6', "bus 1 2 3 4 5 tram", False),
        ('"tram bus"~3', "tram a b c d bus, tram bus", True),
        ('"a b c"~2', "a x b x c", True),
        ('"a b c"~1', "a x b x c", False),
        ('"tram bus"~1', "tram 猫 bus", True),
        ("has:hashtags", "#tram", True),
        ("has:hashtags", "# 1 a#b #9", False),
        ("has:mentions", "hi @ann", True),
        ("has:mentions", "a@b", False),
        ("has:cashtags", "$TWTR up", True),
        ("has:cashtags", "$5 off", False),
        ("has:links", "see https://example.org", True),
        ("has:links", "see www.example.org", True),
        ("has:links", "https and :// and a.b", False),
        ("url:example.org", "see https://www.Example.org/a?b=c", True),
        ("url:example.org", "see https://example.organic", False),
        ("url:example.org", "example.org without a link", False),
        ('url:"https://example.org/a"', "https://example.org/a-b", True),
        ("url:a/b", "https://example.org/a https://b.example", False),
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
        ("-bus tram", "tram", True),
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


@pytest.mark.parametrize(
    ("query", "lang", "expected"),
    [("lang:he", "iw", True), ("lang:in", "id", True), ("lang:zh-TW", "zh-tw", True), ("lang:zh-tw", "zh", False)],
)
def test_lang_takes_old_codes_and_regions(query: str, lang: str, expected: bool) -> None:
    assert matches(query, "x", lang=lang) is expected


def test_to_matches_the_author_answered() -> None:
    assert matches("to:@Ann is:reply", "x", reply_to="ann")
    assert not matches("to:ann", "to ann")


@pytest.mark.parametrize("kind", ["reply", "retweet", "quote"])
def test_is_matches_what_the_source_says(kind: str) -> None:
    assert matches(f"is:{kind}", "x", **{f"is_{kind}": True})
    assert matches(f"tram -is:{kind}", "tram")
    assert not matches(f"is:{kind}", kind)


def test_url_and_has_links_see_links_the_text_shortens() -> None:
    assert matches("url:example.org has:links", "see example.org/a...", urls=("https://example.org/abc",))


def test_has_media_matches_images_and_videos() -> None:
    assert matches("has:media", has_images=True)
    assert matches("has:media -has:images", has_video=True)
    assert not matches("has:media")


def test_a_sample_is_of_that_size_the_same_each_time_and_grows() -> None:
    posts = [Subject("tram", id=f"x:{number}") for number in range(2000)]
    fifth, half = (compile_topics([("it", f"tram sample:{size}")]) for size in (20, 50))
    kept = {post.id for post in posts if fifth.match(post)}
    assert 340 < len(kept) < 460
    assert kept == {post.id for post in posts if fifth.match(post)} < {post.id for post in posts if half.match(post)}


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
        ("tram place:berlin", 6, "'place:berlin' is not known; from:handle, to:handle, url:"),
        ("has:geo", 1, "'has:geo' is not known"),
        ("tram is:verified", 6, "'is:verified' is not known"),
        ("https://example.org", 1, "'https://example.org' is not known"),
        ("from:@ OR tram", 1, "'from:@' is not known"),
        ('lang:""', 1, "'lang:\"\"' is not known"),
        ("tram sample:0", 6, "from 1 to 100"),
        ("tram sample:half", 6, "from 1 to 100"),
        ("tram -sample:10", 6, "cannot be negated"),
        ('a "tram bus"~7', 3, "a distance is 1 to 6"),
        ('"tram bus"~0', 1, "a distance is 1 to 6"),
        ('"tram"~3', 1, "two words or more"),
        ('"tram bus tram"~3', 1, "all different"),
        ('"tram 猫"~3', 1, "words between spaces, which '猫' is not"),
        ('"tram bus"~', 1, "a distance is 1 to 6"),
        ("-bus", 1, "a negation cannot stand alone"),
        ("tram OR -bus", 9, "a negation cannot stand alone"),
        ("tram OR (-bus -train)", 10, "a negation cannot stand alone"),
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


def test_an_edited_file_is_read_again_and_a_bad_edit_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "topics.toml"
    path.write_text("[[topic]]\nname = 'x'\nquery = 'tram'\n")
    file = TopicsFile(path)
    assert not file.changed()
    path.write_text("[[topic]]\nname = 'x'\nquery = '(tram'\n")
    with pytest.raises(BadTopics, match="closing parenthesis"):
        file.changed()
    assert not file.changed() and file.topics.queries == {"x": "tram"}
    path.write_text("[[topic]]\nname = 'y'\nquery = 'bus'\n")
    assert file.changed() and file.topics.names == ("y",)


def test_a_file_of_ones_own_counts_as_soon_as_it_is_there(tmp_path: Path) -> None:
    own = tmp_path / "topics.toml"
    file = TopicsFile(SHIPPED_TOPICS, own=own)
    assert not file.changed() and len(file.topics.names) == 3
    own.write_text("[[topic]]\nname = 'mine'\nquery = 'bus'\n")
    assert file.changed() and file.topics.names == ("mine",)
    assert not file.changed()


def test_the_shipped_topics_load() -> None:
    assert load_topics(SHIPPED_TOPICS).names == ("Line 9 tram", "Bluebird Coffee", "Orbit One phone")


def test_matching_a_long_hostile_text_stays_fast() -> None:
    queries = [
        '"tram tram tram" OR "- -" OR #tram',
        '"- x"',
        '"_ x"',
        "has:hashtags has:links",
        "url:-a-b",
        '"a tram"~6',
    ]
    topics = compile_topics([(query, query) for query in queries])
    text = "a https://" + "a-" * 5000 + "#" * 5000 + "$" * 5000 + "tram " * 2000 + "-" * 10_000 + "_" * 10_000
    started = time.perf_counter()
    topics.match(Subject(text))
    assert time.perf_counter() - started < 1


# the index: whatever it leaves out does not match

ALPHABET = "aAbß9_-'’.!$#@ 猫の커é\u0301ﬁİ🚋½¨ท\n"
texts = st.text(ALPHABET, max_size=30) | st.text(max_size=10)
words = st.text(ALPHABET, min_size=1, max_size=4).map(lambda word: re.sub(r'[\s"():]', "", word)).filter(bool)
tags = st.builds("".join, st.tuples(st.sampled_from("#@$"), st.sampled_from(["a", "b9", "a_b", "ß"])))
phrases = st.lists(words, min_size=1, max_size=3).map(lambda some: '"' + " ".join(some) + '"')
operators = st.sampled_from(
    [
        "from:a",
        "to:@B",
        "url:a",
        "url:a.b",
        "url:猫",
        "lang:en",
        "lang:en-gb",
        "lang:iw",
        "sample:50",
        "has:images",
        "has:media",
        "has:links",
        "has:hashtags",
        "has:mentions",
        "has:cashtags",
        "is:reply",
        "is:retweet",
        "is:quote",
    ]
    + ['"a b"~2', '"b a 9"~6', 'url:"https://a/b"']
)
queries = st.recursive(
    words | tags | phrases | operators,
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=4).map(" ".join),
        st.lists(inner, min_size=2, max_size=4).map(lambda some: "(" + " OR ".join(some) + ")"),
        inner.map(lambda some: f"-({some})"),
    ),
    max_leaves=6,
)
subjects = st.builds(
    Subject,
    text=st.lists(texts | words | tags | st.sampled_from(["https://a.b/c", "www.猫.a"]), max_size=6).map(" ".join),
    lang=st.sampled_from([None, "", "en", "EN-gb", "he"]),
    handle=st.sampled_from([None, "", "@a", "b"]),
    has_images=st.booleans(),
    id=st.sampled_from(["x:1", "x:2", "x:3"]),
    urls=st.sampled_from([(), ("https://A.b",), ("https://a_b.org/9", "http://猫")]),
    reply_to=st.sampled_from([None, "b"]),
    is_reply=st.booleans(),
    is_retweet=st.booleans(),
    is_quote=st.booleans(),
    has_video=st.booleans(),
)


@given(st.lists(queries, min_size=1, max_size=8), st.lists(subjects, min_size=1, max_size=4))
def test_the_index_finds_what_checking_every_query_finds(some: list[str], posts: list[Subject]) -> None:
    conditions = []
    for query in some:
        with contextlib.suppress(BadTopics):
            conditions.append(parse_query(query))
    index = TopicIndex(conditions)
    for post in posts:
        expected = [number for number, condition in enumerate(conditions) if condition.matches(Reading(post))]
        assert index.matching(Reading(post)) == expected


@given(words, texts)
def test_a_keyword_matches_as_its_regular_expression_does(word: str, text: str) -> None:
    if word[0] in "-#@" or (word[0] == "$" and word[1:2].isalpha()) or word in ("OR", "AND"):
        return
    literal = normal(word)
    before = f"(?<!{LETTER})" if re.match(LETTER, literal[0]) else ""
    after = f"(?!{LETTER})" if re.match(LETTER, literal[-1]) else ""
    expected = re.search(before + re.escape(literal) + after, normal(text)) is not None
    assert matches(word, text) is expected
