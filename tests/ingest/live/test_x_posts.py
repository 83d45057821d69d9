"""X API v2 posts become drafts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from ingest.sources.items import Draft, Skipped
from ingest.sources.x_posts import draft_of, read_message, rendition
from tests.ingest.live.upstream import time_of
from tests.ingest.live.x_payloads import AUTHOR, id_of, post_of
from tests.ingest.live.x_play import AUTHORS, NOON


def draft(message: Mapping[str, Any], at: datetime | None = None) -> Draft:
    read = read_message(json.dumps(message))
    found = draft_of(read.posts[0], read.includes, authors=AUTHORS, at=at or datetime.now(UTC))
    assert isinstance(found, Draft)
    return found


def test_a_post_is_read_whole() -> None:
    read = draft(post_of(1, pictures=2, lang="de", possibly_sensitive=True))
    assert read.post.id == f"x:{id_of(1)}" and read.post.url == f"https://x.com/i/web/status/{id_of(1)}"
    assert (read.post.created_at, read.post.lang, read.post.reach) == (time_of(1), "de", 512)
    assert read.post.author == AUTHORS("x", AUTHOR) and read.handle == "somebody" and read.post.sensitive
    assert [link.url for link in read.links] == [
        f"https://pbs.twimg.com/media/3_1{picture}.jpg?name=small" for picture in range(2)
    ]
    assert (read.links[0].width, read.links[0].height, read.warnings) == (1200, 900, ())


def test_long_posts_are_not_cut_and_escapes_are_undone() -> None:
    assert draft(post_of(1, note_tweet={"text": "x" * 3000})).post.text == "x" * 3000
    assert draft(post_of(1, note_post={"text": "y"})).post.text == "y"
    assert draft(post_of(1, text="a &lt;b&gt; &amp;amp; &copy")).post.text == "a <b> &amp; &copy"


def test_a_repost_takes_text_and_pictures_of_the_other_post() -> None:
    message = post_of(2, text="RT @other: the first words…", referenced_tweets=[{"type": "retweeted", "id": id_of(1)}])
    other = post_of(1, pictures=1, note_tweet={"text": "the first words and all the others"}, possibly_sensitive=True)
    assert draft(message).warnings == ("repost without the whole text",)
    message["includes"] = {"tweets": [other["data"]], "media": other["includes"]["media"]}
    read = draft(message)
    assert (read.post.id, read.post.text) == (f"x:{id_of(2)}", "the first words and all the others")
    assert len(read.links) == 1 and read.post.sensitive and read.is_retweet and read.warnings == ()


def test_a_quote_keeps_its_own_text() -> None:
    assert draft(post_of(2, text="so true", referenced_tweets=[{"type": "quoted", "id": "1"}])).post.text == "so true"


def test_an_edit_keeps_id_and_time_of_the_first_version() -> None:
    read = draft(post_of(1, edit=2))
    assert (read.post.id, read.post.revision, read.post.created_at) == (f"x:{id_of(1)}", 4, time_of(1))
    late = post_of(1, edit_history_tweet_ids=[id_of(1), id_of(1, 1)])
    assert draft(late).post.revision == 0, "the first version, told after it was edited"
    newly_named = post_of(1, edit=1, edit_history_tweet_ids=[], edit_history_post_ids=[id_of(1), id_of(1, 1)])
    assert draft(newly_named).post.revision == 2


def test_queries_are_told_what_they_can_ask_for() -> None:
    entities = {
        "urls": [
            {"url": "https://t.co/a", "expanded_url": "https://bit.ly/b", "unwound_url": "https://example.org/tram"}
        ],
        "mentions": [{"username": "else", "id": "4"}, {"username": "asked", "id": "5"}],
    }
    references = [{"type": "replied_to", "id": "1"}, {"type": "quoted", "id": "2"}]
    read = draft(post_of(1, entities=entities, in_reply_to_user_id="5", referenced_tweets=references))
    assert (read.reply_to, read.urls) == ("asked", ("https://example.org/tram",))
    assert (read.is_reply, read.is_quote, read.is_retweet, read.has_video) == (True, True, False, False)
    plain = draft(post_of(1, entities={"mentions": [{"username": "else"}]}))
    assert (plain.reply_to, plain.urls, plain.is_reply, plain.is_quote) == (None, (), False, False)


def test_a_post_without_all_but_id_and_text_is_one() -> None:
    read = draft({"data": {"id": "1234567890", "text": "Hello"}}, at=NOON)
    assert (read.post.created_at, read.warnings) == (NOON, ("no time of its own",))
    assert (read.post.author, read.post.reach, read.links) == (None, None, ())


@pytest.mark.parametrize("code", ["und", "qme", "zxx"])
def test_codes_for_no_language_are_none(code: str) -> None:
    assert draft(post_of(1, lang=code)).post.lang is None


def test_what_is_withheld_is_left_out() -> None:
    withheld = read_message(json.dumps(post_of(1, withheld={"copyright": False, "country_codes": ["DE"]})))
    assert isinstance(draft_of(withheld.posts[0], withheld.includes, authors=AUTHORS, at=NOON), Skipped)
    assert draft(post_of(1, withheld={"copyright": False, "country_codes": []}))


def test_of_a_video_the_still_is_taken_and_of_an_unknown_picture_nothing() -> None:
    message = post_of(1, attachments={"media_keys": ["7_1", "3_9"]})
    still = "https://pbs.twimg.com/ext_tw_video_thumb/1/pu/img/a.jpg"
    message["includes"]["media"] = [
        {
            "media_key": "7_1",
            "type": "video",
            "preview_image_url": still,
            "alt_text": "a dance",
            "width": 720,
            "height": 1280,
        }
    ]
    read = draft(message)
    assert [(link.url, link.alt) for link in read.links] == [(f"{still}?name=small", "a dance")]
    assert read.warnings == ("pictures not told where",) and read.has_video


@pytest.mark.parametrize(
    ("url", "size", "wanted"),
    [
        ("https://pbs.twimg.com/media/a.jpg", (1200, 900), "https://pbs.twimg.com/media/a.jpg?name=small"),
        ("https://pbs.twimg.com/media/a.jpg", (None, None), "https://pbs.twimg.com/media/a.jpg?name=small"),
        ("https://pbs.twimg.com/media/a.jpg", (2000, 500), "https://pbs.twimg.com/media/a.jpg?name=medium"),
        ("https://pbs.twimg.com/media/a.jpg", (100, 4000), "https://pbs.twimg.com/media/a.jpg?name=large"),
        (
            "https://pbs.twimg.com/media/a?format=png&name=orig",
            (9, 9),
            "https://pbs.twimg.com/media/a?format=png&name=small",
        ),
        ("https://example.org/a.jpg?name=orig", (9, 9), "https://example.org/a.jpg?name=orig"),
        ("https://pbs.twimg.com.example.org/a.jpg", (9, 9), "https://pbs.twimg.com.example.org/a.jpg"),
    ],
)
def test_the_smallest_rendition_with_256_pixels_is_asked_for(
    url: str, size: tuple[int | None, int | None], wanted: str
) -> None:
    assert rendition(url, *size) == wanted
