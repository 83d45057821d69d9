"""Topics edited: comments stay, a bad edit changes nothing, nobody's edit is lost, what is retained follows."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from dashboard import topic_editing
from dashboard.topic_editing import (
    TopicsChanged,
    TopicsUnwritable,
    backfill,
    changed,
    opened,
    preview,
    rewritten,
    save,
    untold,
    without,
)
from inference_worker.contract import Results
from ingest.topics.definitions import BadTopics, TopicsFile, compile_topics
from tests.dashboard.seeding import NOW, Seed, prediction

FILE = """# mine

# the tram
[[topic]]
name = "Tram"
query = 'tram OR "line 9"'  # both

[[topic]]
name = "Tea"
query = "tea"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "topics.toml"
    path.write_text(FILE)
    return path


def test_an_edit_keeps_what_it_does_not_touch(path: Path) -> None:
    edited = opened(path, kind="live")
    save(edited, changed(edited.definitions, "Tea", "Tea", 'tea OR "a cup" \\ #chai'))
    text = path.read_text()
    assert text.startswith(FILE[: FILE.index('[[topic]]\nname = "Tea"')])
    assert opened(path, kind="live").queries["Tea"] == 'tea OR "a cup" \\ #chai'


def test_ingest_sees_the_edit(path: Path) -> None:
    file, edited = TopicsFile(path), opened(path, kind="live")
    save(edited, without(edited.definitions, "Tram"))
    assert file.changed() and file.topics.names == ("Tea",)


@given(st.lists(st.tuples(st.text("ab\"\\'#é😀 \x7f", min_size=1, max_size=9), st.just('tea OR "a b"')), max_size=4))
def test_what_is_written_is_what_is_read(definitions: list[tuple[str, str]]) -> None:
    try:
        compile_topics(definitions)
    except BadTopics:
        return
    assert rewritten(rewritten(FILE, definitions), definitions) == rewritten(FILE, definitions)


def test_a_bad_query_changes_nothing(path: Path) -> None:
    edited = opened(path, kind="live")
    with pytest.raises(BadTopics, match="column 6"):
        changed(edited.definitions, None, "New", "tea (")
    with pytest.raises(BadTopics, match="two topics have this name"):
        changed(edited.definitions, "Tea", "Tram", "tea")
    assert path.read_text() == FILE


def test_an_edit_made_meanwhile_is_not_lost(path: Path) -> None:
    edited = opened(path, kind="live")
    path.write_text(FILE.replace("Tea", "Mate"))
    with pytest.raises(TopicsChanged, match="changed by somebody else"):
        save(edited, without(edited.definitions, "Tram"))
    assert "Mate" in path.read_text()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(TopicsUnwritable, match="cannot be written .No such file or directory."):
        save(opened(tmp_path / "nowhere" / "topics.toml", kind="live"), [("Tea", "tea")])


@pytest.mark.parametrize(("kind", "count"), [("sample", 3), ("live", 7)])
def test_the_first_edit_makes_ones_own_of_the_shipped_file(
    kind: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    edited = opened(None, kind=kind)
    shipped = edited.path.read_bytes()
    assert edited.is_shipped and len(edited.definitions) == count
    save(edited, [*edited.definitions, ("Tea", "tea")])
    assert edited.path.read_bytes() == shipped
    assert len(opened(None, kind=kind).definitions) == count + 1
    with pytest.raises(TopicsChanged):
        save(edited, edited.definitions)


@pytest.mark.parametrize(
    ("query", "asks"),
    [
        ("tea", ()),
        ('"from: here" tea', ()),
        ("tea -from:ann (url:bbc OR is:reply)", ("from:", "url:", "is:")),
        ("has:images has:links", ("has:links",)),
    ],
)
def test_what_cannot_be_told_of_scored_posts(query: str, asks: tuple[str, ...]) -> None:
    assert untold(query) == asks


def test_a_preview_counts_by_hour() -> None:
    posts = [prediction(n, NOW - timedelta(hours=n), text=text) for n, text in enumerate(("tea", "a tea", "coffee"))]
    found = preview("tea", posts)
    assert (len(found.matching), found.read, [count for _, count in found.by_hour]) == (2, 3, [1, 1])


def test_a_backfill_of_a_busy_hour_says_how_far_it_came(
    seed: Seed, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_editing, "BACKFILLED", 4)
    seed([prediction(n, NOW - timedelta(minutes=n), text="tea") for n in range(10)])
    results, topics, start = Results(redis, "live"), compile_topics([("Tea", "tea")]), NOW - timedelta(hours=4)
    end, rounds = NOW + timedelta(seconds=1), 0
    while rounds < 9:
        *_, done = backfill(results, topics, start, end)
        rounds += 1
        if done.is_done:
            break
        end = done.reached
    assert rounds > 2
    assert results.total("Tea").posts == 10


def test_a_backfill_moves_posts_once_and_leaves_what_it_cannot_tell(seed: Seed, redis: Redis) -> None:
    at = [NOW - timedelta(minutes=40 * n) for n in range(4)]
    seed(
        [
            prediction(0, at[0], text="tea", topics=("Old",)),
            prediction(1, at[1], text="coffee", topics=("Tea", "Ann")),
            prediction(2, at[2], text="tea and tram"),
            prediction(3, at[3], text="nothing"),
        ]
    )
    results = Results(redis, "live")
    topics = compile_topics([("Tram", "tram"), ("Tea", "tea"), ("Ann", "from:ann")])
    span = (NOW - timedelta(hours=4), NOW + timedelta(seconds=1))
    *_, done = backfill(results, topics, *span)
    assert (done.looked_at, done.moved, done.is_done) == (4, 3, True)
    found = [results.prediction(f"sample:{n}") for n in range(4)]
    assert [set(post.topics) for post in found if post] == [{"Old", "Tea"}, {"Ann"}, {"Tram", "Tea"}, set()]
    assert results.total("Tea").posts == 2
    *_, again = backfill(results, topics, *span)
    assert again.moved == 0
    *_, dropped = backfill(results, topics, *span, drop_unknown=True)
    assert dropped.moved == 1 and results.total("Old").posts == 0
