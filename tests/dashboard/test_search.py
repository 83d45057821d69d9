"""A search in a link, and the posts that answer it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis

from dashboard.errors import InvalidView
from dashboard.search import Search, Stretch, matching, moment, read, search_of
from ingest.topics.definitions import BadTopics
from tests.dashboard.seeding import NOW, Seed, prediction

POSTS = [
    prediction(1, NOW, text="the tram is late", lang="en"),
    prediction(2, NOW, text="coffee", fused=(0.1, 0.3, 0.6), abstained=True),
    prediction(
        3, NOW, text="", text_probabilities=None, image_probabilities=(0.9, 0.05, 0.05), images=1, alt=("a tram",)
    ),
    prediction(4, NOW, text="x", image_probabilities=(0.1, 0.1, 0.8), images=1, source="sample", label="negative"),
    prediction(5, NOW, text="y", correction="neutral"),
]


@pytest.mark.parametrize(
    ("asked", "numbers"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"labels": ("negative",)}, [2]),
        ({"labels": ("neutral",)}, [5]),
        ({"confidence": (0, 65)}, [2]),
        ({"modality": "image"}, [3]),
        ({"modality": "both"}, [4]),
        ({"only": ("disagree",)}, [4]),
        ({"only": ("image", "wrong")}, [4]),
        ({"only": ("abstained",)}, [2]),
        ({"only": ("corrected",)}, [5]),
        ({"lang": "en"}, [1]),
        ({"lang": "unknown"}, [2, 3, 4, 5]),
        ({"source": "elsewhere"}, []),
        ({"words": "TRAM"}, [1, 3]),
        ({"words": '"is late"'}, [1]),
        ({"words": "tram -late"}, [3]),
    ],
)
def test_posts_that_answer(asked: dict[str, object], numbers: list[int]) -> None:
    found = matching(POSTS, Search(namespace="live", **asked))  # type: ignore[arg-type]  # fields by name
    assert [int(post.id.partition(":")[2]) for post in found] == numbers


def test_words_that_are_no_query_are_refused_with_their_column() -> None:
    with pytest.raises(BadTopics) as caught:
        matching(POSTS, Search(namespace="live", words="-tram"))
    assert caught.value.column == 1


def test_a_search_goes_through_a_link_and_back() -> None:
    asked = Search(
        namespace="live",
        topics=("a", "b"),
        labels=("negative",),
        confidence=(40, 60),
        modality="both",
        only=("image", "disagree"),
        lang="en",
        source="x",
        words="tram",
        start=NOW,
        end=datetime(2026, 5, 4, 13, tzinfo=UTC),
    )
    link = {name: value if isinstance(value, list) else [value] for name, value in asked.params.items()}
    assert link["from"] == ["2026-05-04T12:30:20Z"]
    assert search_of("live", lambda name: link.get(name, [])) == asked


def test_what_a_link_cannot_mean_is_left_out() -> None:
    link = {"class": ["angry"], "confidence": ["90-10"], "modality": ["smell"], "only": ["<b>"]}
    assert search_of("live", lambda name: link.get(name, [])) == Search(namespace="live")


@pytest.mark.parametrize(
    ("said", "hour"), [("2026-05-04T12:30Z", 12), ("2026-05-04 12:30", 12), ("2026-05-04T12:30+02:00", 10)]
)
def test_times_are_utc(said: str, hour: int) -> None:
    assert moment(said) == datetime(2026, 5, 4, hour, 30, tzinfo=UTC)


@pytest.mark.parametrize("said", ["soon", "2026-13-01", "0001-01-01T00:00+14:00"])
def test_a_time_that_is_none_is_refused(said: str) -> None:
    with pytest.raises(InvalidView, match="cannot be read"):
        moment(said)


def read_all(redis: Redis, *topics: str, start: datetime | None = None, end: datetime | None = None) -> Stretch:
    return read(redis, "live", topics, start, end, first=NOW - timedelta(days=9), address="here", limit=10)


def test_posts_and_their_count_are_of_the_same_minutes(redis: Redis, seed: Seed) -> None:
    seed([prediction(n, NOW - timedelta(seconds=10 * n)) for n in range(1, 10)])
    start = datetime(2026, 5, 4, 12, 29, 20, tzinfo=UTC)
    found = read_all(redis, start=start, end=start + timedelta(seconds=20))
    assert (found.start.second, found.end.second) == (0, 0)
    assert len(found.posts) == found.scored == 6


def test_posts_of_a_week_are_of_its_whole_hours(redis: Redis, seed: Seed) -> None:
    seed([prediction(n, NOW - timedelta(days=5, minutes=10 * n)) for n in range(6)] + [prediction(9, NOW)])
    found = read_all(redis, start=NOW - timedelta(days=5))
    assert found.start == datetime(2026, 4, 29, 12, tzinfo=UTC)
    assert len(found.posts) == found.scored == 5


def test_topics_share_what_is_read_and_none_looks_rarer_than_it_is(redis: Redis, seed: Seed) -> None:
    busy = [prediction(n, NOW - timedelta(seconds=n), topics=("busy",)) for n in range(1, 30)]
    calm = [prediction(100 + n, NOW - timedelta(seconds=4 * n - 0.5), topics=("calm",)) for n in range(1, 4)]
    seed([*busy, *calm])
    found = read_all(redis, "busy", "calm")
    assert [post.topics[0] for post in found.posts] == ["busy", "busy", "busy", "calm", "busy", "busy"]
    assert found.left_out
    assert not read_all(redis, "calm").left_out
