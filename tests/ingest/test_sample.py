from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingest.errors import BadSource
from ingest.media.sanitize import make_safe
from ingest.sample.draw import HERE, picture, posts, read_feed
from ingest.sample.scenes import ALT_TEXTS
from ingest.settings import SHIPPED_TOPICS
from ingest.sources import sample
from ingest.sources.archive import OwnArchive, write_archive
from ingest.sources.items import Draft
from ingest.sources.sample import FEED, SampleFeed
from ingest.topics.definitions import Subject, Topics, load_topics


@pytest.fixture(scope="module")
def feed() -> list[Draft]:
    return [item for item in OwnArchive(FEED).items() if isinstance(item, Draft)]


@pytest.fixture(scope="module")
def topics() -> Topics:
    return load_topics(SHIPPED_TOPICS)


def topics_of(draft: Draft, topics: Topics) -> tuple[str, ...]:
    text = "\n".join((draft.post.text, *(picture.alt for picture in draft.pictures)))
    return topics.match(Subject(text, draft.post.lang, None, bool(draft.pictures)))


def test_the_feed_is_large_enough_and_small_enough(feed: list[Draft]) -> None:
    assert len(feed) >= 300
    assert FEED.stat().st_size < 1_500_000


def test_the_feed_has_every_kind_of_post(feed: list[Draft]) -> None:
    kinds = Counter((bool(draft.post.text), bool(draft.pictures)) for draft in feed)
    assert kinds == {(True, False): 177, (True, True): 110, (False, True): 22}
    assert sum("caption" in draft.pictures[0].alt for draft in feed if draft.pictures) >= 15
    assert sum(draft.post.sensitive for draft in feed) == 3
    assert len({draft.post.lang for draft in feed}) >= 6
    assert len({draft.post.author for draft in feed}) > 100
    assert all(draft.post.label for draft in feed)


def test_the_feed_spans_three_hours(feed: list[Draft]) -> None:
    times = [draft.post.created_at for draft in feed]
    assert times == sorted(times)
    assert timedelta(hours=2.9) < times[-1] - times[0] <= timedelta(hours=3)


def test_every_topic_is_well_filled(feed: list[Draft], topics: Topics) -> None:
    counts = Counter(name for draft in feed for name in topics_of(draft, topics))
    assert all(counts[name] >= 70 for name in topics.names)
    assert sum(not topics_of(draft, topics) for draft in feed) < 30


def test_the_tram_topic_swings_and_recovers(feed: list[Draft], topics: Topics) -> None:
    def mood(start: int, end: int) -> float:
        first = feed[0].post.created_at
        labels = [
            draft.post.label
            for draft in feed
            if "Line 9 tram" in topics_of(draft, topics)
            and timedelta(minutes=start) <= draft.post.created_at - first < timedelta(minutes=end)
        ]
        return (labels.count("positive") - labels.count("negative")) / len(labels)

    assert mood(0, 50) > 0.4
    assert mood(55, 105) < -0.7
    assert mood(130, 180) > 0.4


def test_every_picture_is_kept_byte_for_byte(feed: list[Draft]) -> None:
    pictures = [picture for draft in feed for picture in draft.pictures]
    assert all(make_safe(picture.data).jpeg == picture.data for picture in pictures)
    assert len({picture.data for picture in pictures}) > 120


async def test_the_first_pass_is_the_last_ten_minutes_at_once() -> None:
    started = datetime.now(UTC)
    source = aiter(SampleFeed())
    times = [(await anext(source)).post.created_at for _ in range(300)]  # type: ignore[union-attr]
    await source.aclose()
    assert datetime.now(UTC) - started < timedelta(seconds=10)
    assert timedelta(0) <= times[0] - (started - timedelta(minutes=10)) < timedelta(seconds=5)
    assert times[-1] <= started + timedelta(seconds=5)


async def test_later_passes_are_paced_and_have_new_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, feed: list[Draft]
) -> None:
    monkeypatch.setattr(sample, "PASS", timedelta(seconds=1.5))
    path = tmp_path / "short.jsonl.zst"
    write_archive(path, (draft.post for draft in feed[::40]))
    source = aiter(SampleFeed(path))
    items = [await anext(source) for _ in range(20)]
    await source.aclose()
    found = [item.post for item in items if isinstance(item, Draft)]
    assert len({post.id for post in found}) == 20
    assert len({post.text for post in found}) <= 8
    times = [post.created_at for post in found]
    assert times == sorted(times)
    assert times[-1] <= datetime.now(UTC)


async def test_an_empty_feed_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl.zst"
    write_archive(path, [])
    with pytest.raises(BadSource, match="holds no posts"):
        await anext(aiter(SampleFeed(path)))


def test_the_committed_feed_is_what_the_texts_say(feed: list[Draft]) -> None:
    written = sorted(read_feed(HERE / "feed.txt"), key=lambda line: line.minute)
    assert [line.text for line in written] == [draft.post.text for draft in feed]
    assert [line.label for line in written] == [draft.post.label for draft in feed]
    assert [bool(line.picture) for line in written] == [bool(draft.pictures) for draft in feed]


@pytest.mark.parametrize(("scene", "mood"), ALT_TEXTS)
def test_every_scene_can_be_drawn_again(scene: str, mood: str) -> None:
    first = picture(f"meme {scene} {mood} / TOP / BOTTOM", seed="1")
    assert picture(f"meme {scene} {mood} / TOP / BOTTOM", seed="1") == first
    assert first.alt == f"{ALT_TEXTS[scene, mood]}; caption: TOP / BOTTOM"


def test_a_line_that_is_no_post_is_named(tmp_path: Path) -> None:
    path = tmp_path / "feed.txt"
    path.write_text("== tram 0 10\n+ hello\n")
    with pytest.raises(ValueError, match="line 2: not 'LABEL"):
        list(posts(path))
