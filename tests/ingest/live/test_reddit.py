"""Reddit beyond the suite: what its things become, paging, the rate limit, tokens, edits and deletions."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from ingest.authors import AuthorHash
from ingest.errors import BadCredentials, BadSource, SourceUnreachable
from ingest.sources.detect import SourceOptions
from ingest.sources.items import Draft, Item, MediaLink, Skipped
from ingest.sources.rechecks import FIRST_S
from ingest.sources.reddit import Reddit, open_reddit
from ingest.sources.reddit_things import Thing, draft_of
from tests.ingest.live.reading import reading, take, until
from tests.ingest.live.reddit_site import RedditSite
from tests.ingest.live.reddit_upstream import made_up_post, name_of
from tests.ingest.live.upstream import Waits, deletions_of, drafts_of, ids_of, text_of, time_of


@pytest.fixture
async def site() -> AsyncIterator[RedditSite]:
    async with RedditSite() as site:
        yield site


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def reddit(
    site: RedditSite,
    *,
    subreddits: tuple[str, ...] = ("r/trams",),
    cursor: str | None = None,
    waits: Waits | None = None,
    clock: Clock | None = None,
) -> Reddit:
    return Reddit(
        authors=AuthorHash(b"key"),
        subreddits=subreddits,
        client_id="made-up-id",
        client_secret="made-up-secret",
        auth_url=site.address,
        api_url=site.address,
        cursor=cursor,
        sleep=waits or Waits(),
        deadline_s=2.0,
        now=clock or Clock(),
    )


def made_up_comment(number: int, **changes: Any) -> dict[str, Any]:
    words = {"body": "so **late**", "body_html": '<div class="md"><p>so <strong>late</strong></p></div>'}
    return made_up_post(number) | words | {"name": name_of(number, "t1"), "title": ""} | changes


def item_of(data: dict[str, Any]) -> Item:
    return draft_of(msgspec.json.decode(json.dumps(data), type=Thing), authors=AuthorHash(b"key"))


def post_of(data: dict[str, Any]) -> Draft:
    item = item_of(data)
    assert isinstance(item, Draft)
    return item


def test_a_post_is_its_title_and_text() -> None:
    item = post_of(made_up_post(1, selftext="raw *text*", selftext_html="<div><p>one</p><p>two &amp; three</p></div>"))
    assert item.post.text == f"{text_of(1)}\n\none\n\ntwo & three"
    assert item.post.id == f"reddit:{name_of(1)}" and item.handle == "ann"
    assert item.post.url == f"https://www.reddit.com/r/trams/comments/{name_of(1)[3:]}/a_tram/"
    assert not item.is_reply and item.urls == ()


def test_a_comment_is_a_reply_by_the_same_author() -> None:
    item = post_of(made_up_comment(1))
    assert (item.post.id, item.post.text, item.is_reply) == (f"reddit:{name_of(1, 't1')}", "so late", True)
    assert item.post.author == post_of(made_up_post(2)).post.author


def test_a_link_is_told_to_queries_and_its_preview_is_not_taken() -> None:
    item = post_of(made_up_post(1, pictures=1) | {"url": "https://news.example/a", "post_hint": "link"})
    assert (item.urls, item.links) == (("https://news.example/a",), ())


def test_the_smallest_large_enough_rendition_is_taken() -> None:
    (link,) = post_of(made_up_post(1, pictures=1)).links
    assert link == MediaLink(url=f"https://preview.redd.it/{name_of(1)}.jpg?width=640", width=1600, height=1200)


def test_a_picture_without_preview_is_taken_whole() -> None:
    (link,) = post_of(made_up_post(1) | {"url": "https://i.redd.it/a.png"}).links
    assert link == MediaLink(url="https://i.redd.it/a.png")


def test_galleries_keep_order_captions_and_the_first_four() -> None:
    sizes = [{"x": width, "y": width, "u": f"https://preview.redd.it/{width}"} for width in (108, 320)]
    source = {"x": 900, "y": 900, "u": "https://preview.redd.it/900"}
    media = {f"m{place}": {"status": "valid", "e": "Image", "p": sizes, "s": source} for place in range(7)}
    media["m1"]["status"] = "failed"
    media["m2"] = {"status": "valid", "e": "AnimatedImage", "p": [], "s": {"gif": "https://i.redd.it/a.gif"}}
    items = [{"media_id": f"m{place}", "caption": f"no {place}"} for place in range(8)][::-1]
    links = post_of(made_up_post(1) | {"gallery_data": {"items": items}, "media_metadata": media}).links
    assert [link.alt for link in links] == ["no 6", "no 5", "no 4", "no 3"]
    assert links[0] == MediaLink(url="https://preview.redd.it/320", alt="no 6", width=900, height=900)


@pytest.mark.parametrize("broken", [{"images": []}, {"images": "none"}, [1], {"images": [{"source": {}}]}])
def test_a_preview_of_another_shape_leaves_the_text(broken: Any) -> None:
    assert post_of(made_up_post(1, pictures=1) | {"preview": broken}).links == ()


@pytest.mark.parametrize("mark", ["over_18", "spoiler"])
def test_what_is_marked_is_sensitive(mark: str) -> None:
    assert post_of(made_up_post(1) | {mark: True}).post.sensitive
    assert not post_of(made_up_post(1)).post.sensitive


def test_edits_raise_the_revision() -> None:
    assert [post_of(made_up_post(1, edit=edit)).post.revision for edit in (0, 1, 2)] == [0, 20, 40]
    assert post_of(made_up_post(1) | {"edited": True}).post.revision == 2


@pytest.mark.parametrize(
    "change",
    [{"author": "[deleted]"}, {"selftext": "[removed]"}, {"removed_by_category": "moderator"}, {"author": None}],
)
def test_what_is_gone_makes_no_post(change: dict[str, Any]) -> None:
    assert item_of(made_up_post(1) | change) == Skipped(reason="deleted or removed", item=name_of(1))


def test_the_moderation_bot_makes_no_post() -> None:
    assert item_of(made_up_post(1) | {"author": "AutoModerator"}) == Skipped(
        reason="automated account", item=name_of(1)
    )


async def test_posts_and_comments_of_all_subreddits_come_by_two_requests(site: RedditSite) -> None:
    site.write(made_up_post(1), made_up_comment(2))
    source = reddit(site, subreddits=("r/Trams", "buses", "/r/buses"))
    items = await take(source, 2)
    assert sorted(ids_of(items)) == [f"reddit:{name_of(2, 't1')}", f"reddit:{name_of(1)}"]
    assert {request.path for request in site.requests} <= {"/r/buses+trams/new", "/r/buses+trams/comments"}
    assert all(request.headers["User-Agent"].startswith("python:moodstream:") for request in site.requests)


async def test_more_than_a_page_comes_whole_and_in_order(site: RedditSite) -> None:
    site.write(made_up_post(1))
    async with reading(reddit(site)) as items:
        await until(lambda: items)
        site.write(*(made_up_post(number) for number in range(2, 352)))
        await until(lambda: len(items) == 351)
    assert ids_of(items) == [f"reddit:{name_of(number)}" for number in range(1, 352)]


async def test_a_removed_newest_post_does_not_stop_it(site: RedditSite) -> None:
    """Reddit finds nothing `before` a post that is no longer listed."""
    site.write(made_up_post(1), made_up_post(2))
    async with reading(reddit(site)) as items:
        await until(lambda: len(items) == 2)
        site.remove(name_of(2))
        site.write(*(made_up_post(number) for number in range(3, 200)))
        await until(lambda: len(items) == 199)
    assert ids_of(items) == [f"reddit:{name_of(number)}" for number in range(1, 200)]


async def test_a_post_approved_late_is_found(site: RedditSite) -> None:
    site.write(made_up_post(1), made_up_post(3))
    async with reading(reddit(site)) as items:
        await until(lambda: len(items) == 2)
        site.new.insert(1, made_up_post(2))
        await until(lambda: len(items) == 3)


async def test_what_left_the_listing_is_a_gap(site: RedditSite) -> None:
    site.write(*(made_up_post(number) for number in range(5, 1500)))
    source = reddit(site, cursor=json.dumps({"/r/trams/new": name_of(1)}))
    items = await take(source, 1000)
    assert ids_of(items)[-1] == f"reddit:{name_of(1499)}"
    assert source.state.gaps and "Reddit lists the newest 1,000 only" in source.state.gaps[0]


async def test_requests_are_spread_over_the_window(site: RedditSite) -> None:
    site.limits = {"X-Ratelimit-Used": "900", "X-Ratelimit-Remaining": "102", "X-Ratelimit-Reset": "200"}
    waits = Waits()
    async with reading(reddit(site, waits=waits)):
        await until(lambda: len(site.requests) > 4)
    assert len([wait for wait in waits.seconds if 1.5 < wait <= 2.0]) >= 3


async def test_a_window_that_is_used_up_is_waited_for(site: RedditSite) -> None:
    site.limits = {"X-Ratelimit-Used": "998", "X-Ratelimit-Remaining": "2", "X-Ratelimit-Reset": "321"}
    waits = Waits()
    async with reading(reddit(site, waits=waits)):
        await until(lambda: any(320 < wait <= 321 for wait in waits.seconds))


async def test_too_many_requests_wait_as_long_as_told(site: RedditSite) -> None:
    site.refusals["/r/trams/new"] = (429, {"message": "Too Many Requests", "error": 429})
    site.limits = {"Retry-After": "77"}
    waits = Waits()
    source = reddit(site, waits=waits)
    async with reading(source):
        await until(lambda: 77.0 in waits.seconds)
        assert "HTTP 429 Too Many Requests, again in 77 s" in source.state.detail


async def test_a_token_that_ends_is_renewed(site: RedditSite) -> None:
    site.write(made_up_post(1))
    async with reading(reddit(site)) as items:
        await until(lambda: items)
        site.tokens += 1  # the one in use is no longer good
        site.write(made_up_post(2))
        await until(lambda: len(items) == 2)
    assert site.tokens == 3


async def test_a_short_token_is_renewed_before_it_ends(site: RedditSite) -> None:
    site.lasts_s = 60
    async with reading(reddit(site)):
        await until(lambda: site.tokens >= 3)


@pytest.mark.parametrize("status", [400, 401])
async def test_a_wrong_secret_is_said_without_it(site: RedditSite, status: int) -> None:
    site.refusals["/api/v1/access_token"] = (status, {"error": "invalid_grant"})
    with pytest.raises(BadCredentials, match="MOODSTREAM_REDDIT_CLIENT_ID") as refusal:
        await take(reddit(site), 1)
    assert "made-up" not in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("path", ["/r/trams/new", "/api/v1/access_token"])
async def test_a_refusal_after_a_good_start_is_waited_out(site: RedditSite, path: str) -> None:
    site.write(made_up_post(1))
    source = reddit(site)
    async with reading(source) as items:
        await until(lambda: items and source.state.detail == "2 of 2 live")
        site.refusals[path] = (401, {"error": 401})
        site.tokens += 1  # the one in use is no longer good
        await until(lambda: "MOODSTREAM_REDDIT_CLIENT_ID" in source.state.detail)
        site.write(made_up_post(2))
        del site.refusals[path]
        await until(lambda: len(items) == 2 and source.state.detail == "2 of 2 live")


async def test_a_refusal_of_asking_again_does_not_end_what_works(site: RedditSite) -> None:
    clock = Clock()
    site.write(made_up_post(1))
    async with reading(reddit(site, clock=clock)) as items:
        await until(lambda: items)
        site.things[name_of(1)] = made_up_post(1, edit=1)
        site.refusals["/api/info"] = (403, {})
        clock.now = FIRST_S
        await until(lambda: [request.path for request in site.requests].count("/api/info") > 1)
        del site.refusals["/api/info"]
        await until(lambda: len(items) == 2)


async def test_an_answer_without_a_token_is_said(site: RedditSite) -> None:
    site.refusals["/api/v1/access_token"] = (200, {"error": "unsupported_grant_type"})
    with pytest.raises(BadCredentials, match="gives no token"):
        await take(reddit(site), 1)


@pytest.mark.parametrize(("status", "reason"), [(403, "private"), (404, "banned")])
async def test_a_subreddit_that_is_closed_is_said(site: RedditSite, status: int, reason: str) -> None:
    site.refusals["/r/trams/new"] = (status, {"reason": reason, "error": status})
    with pytest.raises(BadSource, match="Reddit has no public r/trams"):
        await take(reddit(site), 1)


async def test_a_subreddit_that_is_none_is_said(site: RedditSite) -> None:
    site.redirects["/r/trams/new"] = "/subreddits/search?q=trams"
    with pytest.raises(BadSource, match="Reddit has no public r/trams"):
        await take(reddit(site), 1)


async def test_an_unreachable_reddit_ends_in_one_line() -> None:
    site = RedditSite()
    site.address = "http://127.0.0.1:9"
    with pytest.raises(SourceUnreachable, match="no connection"):
        await take(reddit(site), 1)


async def test_edits_and_deletions_are_found_by_asking_again(site: RedditSite) -> None:
    clock = Clock()
    site.write(*(made_up_post(number) for number in range(1, 6)))
    async with reading(reddit(site, clock=clock)) as items:
        await until(lambda: len(items) == 5)
        site.things[name_of(1)] = made_up_post(1, edit=1)
        site.things[name_of(2)] = made_up_post(2, author="[deleted]", selftext="[deleted]")
        del site.things[name_of(3)]
        clock.now = FIRST_S
        await until(lambda: len(items) == 8)
        site.things[name_of(4)] = made_up_post(4, removed_by_category="moderator")
        clock.now = 2 * FIRST_S
        await until(lambda: len(items) == 9)
    edit = drafts_of(items)[-1].post
    assert (edit.id, edit.revision, edit.text) == (f"reddit:{name_of(1)}", 20, text_of(1, 1))
    assert [deletion.post_id for deletion in deletions_of(items)] == [f"reddit:{name_of(n)}" for n in (2, 3, 4)]


async def test_what_an_earlier_run_read_is_watched_again(site: RedditSite) -> None:
    clock = Clock()
    site.write(*(made_up_post(number) for number in range(1, 251)))
    cursor = json.dumps({"/r/trams/new": name_of(250)})
    async with reading(reddit(site, clock=clock, cursor=cursor)) as items:
        await until(lambda: len(items) == 250)
        del site.things[name_of(7)]
        clock.now = FIRST_S
        await until(lambda: len(items) == 251)
    assert deletions_of(items)[0].post_id == f"reddit:{name_of(7)}"


def test_old_things_make_no_post() -> None:
    item = item_of(made_up_post(1) | {"created_utc": time_of(1).timestamp() - 3 * 86400})
    assert item == Skipped(reason="older than two days", item=name_of(1))


async def test_an_empty_answer_deletes_nothing(site: RedditSite) -> None:
    clock = Clock()
    site.write(made_up_post(1), made_up_post(2))
    async with reading(reddit(site, clock=clock)) as items:
        await until(lambda: len(items) == 2)
        site.things.clear()
        clock.now = FIRST_S
        await until(lambda: any(request.path == "/api/info" for request in site.requests))
        site.write(made_up_post(3))
        await until(lambda: len(items) == 3)
    assert deletions_of(items) == []


async def test_asking_again_survives_a_refusal(site: RedditSite) -> None:
    clock = Clock()
    site.write(made_up_post(1))
    source = reddit(site, clock=clock)
    async with reading(source) as items:
        await until(lambda: items)
        site.things[name_of(1)] = made_up_post(1, edit=1)
        site.refusals["/api/info"] = (503, {})
        clock.now = FIRST_S
        await until(lambda: [request.path for request in site.requests].count("/api/info") > 2)
        assert source.state.phase == "live"
        del site.refusals["/api/info"]
        await until(lambda: len(items) == 2)


@pytest.mark.parametrize("name", ["r/", "r/a b", "u/ann", "r/" + "a" * 30, "https://www.reddit.com/r/trams"])
def test_a_name_that_is_none_is_refused(site: RedditSite, name: str) -> None:
    with pytest.raises(BadSource, match="write r/NAME"):
        reddit(site, subreddits=(name,))


def options(**environ: str) -> SourceOptions:
    return SourceOptions(authors=AuthorHash(b"key"), channels=("r/trams",), environ=environ)


def test_missing_credentials_say_where_to_get_them() -> None:
    with pytest.raises(BadCredentials, match="MOODSTREAM_REDDIT_CLIENT_SECRET is not set: make an app"):
        open_reddit(options(MOODSTREAM_REDDIT_CLIENT_ID="made-up-id"))


def test_subreddits_have_to_be_named() -> None:
    environ = {"MOODSTREAM_REDDIT_CLIENT_ID": "made-up", "MOODSTREAM_REDDIT_CLIENT_SECRET": "made-up"}
    with pytest.raises(BadSource, match="name the subreddits to read"):
        open_reddit(SourceOptions(authors=AuthorHash(b"key"), environ=environ))
