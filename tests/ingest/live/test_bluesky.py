"""What Bluesky's source does in its own way: records, accounts, revisions, cursors, several hosts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from ingest.authors import AuthorHash
from ingest.contract import EDIT_STEP, Deletion, decode, encode
from ingest.errors import BadSource, SourceUnreachable
from ingest.sources.bluesky import PUBLIC_HOSTS, Bluesky, open_bluesky
from ingest.sources.bluesky_posts import PostReader, tid_time
from ingest.sources.bluesky_wire import MAX_EVENT_BYTES, Account, Commit, Dictionary, Event, MalformedEvent, Position
from ingest.sources.detect import SourceOptions
from ingest.sources.items import Draft, Item, Skipped
from tests.ingest.live.feed import STEP, Feed, made_up_posts
from tests.ingest.live.jetstream import (
    Dialect,
    Jetstream,
    Subscription,
    cid,
    did,
    frame,
    image,
    made_up_dictionary,
    microseconds,
    post_record,
    tid,
)
from tests.ingest.live.upstream import Refuse, Waits

AUTHORS = AuthorHash(b"key")
NOW = datetime.now(UTC).replace(microsecond=0)
AUTHOR = did(1)
RKEY = tid(NOW)
Serve = Callable[..., Any]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts Jetstreams that end with the test."""
    async with AsyncExitStack() as stack:

        async def start(feed: Feed, **options: Any) -> str:
            return await stack.enter_async_context(Jetstream(feed.play, **options).serve())

        yield start


async def read(source: Bluesky, count: int) -> list[Item]:
    items: list[Item] = []
    async with asyncio.timeout(10), aclosing(aiter(source)) as stream:
        async for item in stream:
            items.append(item)
            if len(items) == count:
                break
    return items


def numbers_of(items: list[Item]) -> list[int]:
    return [int(item.post.text.rpartition(" ")[2]) for item in items if isinstance(item, Draft)]


def item_of(record: Any, *, operation: str = "create", rkey: str = RKEY, rev: str = RKEY) -> Item | str:
    raw = msgspec.Raw(json.dumps(record).encode()) if record is not None else msgspec.Raw()
    event = Event(AUTHOR, microseconds(NOW), "commit", Commit(operation, "app.bsky.feed.post", rkey, rev, raw))
    return PostReader(authors=AUTHORS, cdn="https://cdn.bsky.app").item_of(event)


def draft_of(**record: Any) -> Draft:
    item = item_of(post_record("hello", NOW, **record))
    assert isinstance(item, Draft)
    return item


def test_a_post_has_address_author_and_language() -> None:
    draft = draft_of(langs=["pt-BR", "en"])
    assert draft.post.id == f"bluesky:{AUTHOR}/{RKEY}"
    assert draft.post.url == f"https://bsky.app/profile/{AUTHOR}/post/{RKEY}"
    assert draft.post.author == AUTHORS("bluesky", AUTHOR)
    assert draft.post.lang == "pt"
    assert not draft.post.sensitive and not draft.is_reply


@pytest.mark.parametrize("langs", [[], None, [""]])
def test_a_post_may_name_no_language(langs: list[str] | None) -> None:
    assert draft_of(langs=langs).post.lang is None


@pytest.mark.parametrize("created_at", ["0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"])
def test_a_time_out_of_the_calendar_costs_no_post(created_at: str) -> None:
    post = draft_of(createdAt=created_at).post
    assert post.original_created_at is not None and abs(post.created_at - datetime.now(UTC)) < timedelta(days=3)
    assert decode(encode(post)) == post


def test_what_is_nested_a_thousand_deep_is_malformed() -> None:
    deep = b"[" * 5000 + b"]" * 5000
    raw = msgspec.Raw(b'{"text":"hello","x":' + deep + b"}")
    event = Event(AUTHOR, microseconds(NOW), "commit", Commit("create", "app.bsky.feed.post", RKEY, RKEY, raw))
    assert isinstance(PostReader(authors=AUTHORS).item_of(event), Skipped)


def test_a_forged_revision_and_size_stay_within_their_fields() -> None:
    draft = item_of(post_record("hello", NOW), operation="update", rev="jzzzzzzzzzzzz")
    assert isinstance(draft, Draft) and draft.post.revision < 1 << 31
    huge = image(1) | {"aspectRatio": {"width": 1 << 40, "height": 900}}
    (link,) = draft_of(embed={"$type": "app.bsky.embed.images", "images": [huge]}).links
    assert (link.width, link.height) == (None, None)


@pytest.mark.parametrize("count", [1, 4])
def test_pictures_become_links_to_thumbnails(count: int) -> None:
    draft = draft_of(embed={"$type": "app.bsky.embed.images", "images": [image(number) for number in range(count)]})
    assert [link.url for link in draft.links] == [
        f"https://cdn.bsky.app/img/feed_thumbnail/plain/{AUTHOR}/{cid(number)}@jpeg" for number in range(count)
    ]
    assert (draft.links[0].alt, draft.links[0].width, draft.links[0].height) == ("picture no 0", 1200, 900)


def test_pictures_beside_a_quoted_post_count_too() -> None:
    media = {"$type": "app.bsky.embed.images", "images": [image(1)]}
    draft = draft_of(embed={"$type": "app.bsky.embed.recordWithMedia", "record": {"uri": "at://x"}, "media": media})
    assert len(draft.links) == 1 and draft.is_quote


def test_blobs_of_the_first_years_are_found() -> None:
    old = {"alt": "", "image": {"cid": cid(3), "mimeType": "image/png"}}
    assert draft_of(embed={"$type": "app.bsky.embed.images", "images": [old]}).links[0].url.endswith(f"{cid(3)}@jpeg")


@pytest.mark.parametrize("link", ["../../../admin", "bafk?x=1", "", "a/b"])
def test_what_is_no_cid_gets_into_no_address(link: str) -> None:
    bad = {"alt": "", "image": {"ref": {"$link": link}}}
    draft = draft_of(embed={"$type": "app.bsky.embed.images", "images": [bad, image(1)]})
    assert [link.url[-8:] for link in draft.links] == ["001@jpeg"]
    assert draft.warnings == ("picture without an address",)


def test_links_and_kinds_are_told_to_queries() -> None:
    facet = {"features": [{"$type": "app.bsky.richtext.facet#link", "uri": "https://example.org/long"}], "index": {}}
    external = {"$type": "app.bsky.embed.external", "external": {"uri": "https://example.org/card", "title": "t"}}
    draft = draft_of(facets=[facet, facet], embed=external, reply={"root": {}, "parent": {}})
    assert draft.urls == ("https://example.org/long", "https://example.org/card")
    assert draft.is_reply and not draft.is_quote and not draft.links
    assert draft_of(embed={"$type": "app.bsky.embed.video", "video": {}}).has_video
    assert draft_of(embed={"$type": "app.bsky.embed.record", "record": {}}).is_quote


@pytest.mark.parametrize(("label", "sensitive"), [("porn", True), ("graphic-media", True), ("!no-promote", False)])
def test_the_authors_own_labels_make_a_post_sensitive(label: str, sensitive: bool) -> None:
    labels = {"$type": "com.atproto.label.defs#selfLabels", "values": [{"val": label}]}
    assert draft_of(labels=labels).post.sensitive is sensitive


@pytest.mark.parametrize("part", ["embed", "facets", "labels"])
def test_a_part_that_does_not_fit_costs_no_post(part: str) -> None:
    draft = draft_of(**{part: {"images": 5, "values": 5}})
    assert draft.post.text == "hello"
    assert draft.warnings == (f"{part} not understood",)


def test_a_wrong_clock_is_clamped_and_no_clock_replaced() -> None:
    early = draft_of(createdAt="2011-01-01T00:00:00Z")
    assert early.post.original_created_at == datetime(2011, 1, 1, tzinfo=UTC)
    assert early.post.created_at > NOW - timedelta(hours=49)
    none = draft_of(createdAt="a fine day")
    assert none.post.created_at == NOW and none.warnings == ("time not understood, that of arrival taken",)


def test_record_keys_tell_their_time() -> None:
    assert tid_time(tid(NOW)) == NOW
    assert tid_time("self") is None


def test_edits_count_the_seconds_since_the_post() -> None:
    record = post_record("hello", NOW)
    edits = [
        item_of(record, operation="update", rev=tid(NOW + timedelta(seconds=s))) for s in (0, 5, 86_400 * 365 * 20)
    ]
    revisions = [item.post.revision for item in edits if isinstance(item, Draft)]
    assert revisions == [EDIT_STEP, 5 * EDIT_STEP, 86_400 * 365 * 20 * EDIT_STEP]
    assert revisions[-1] < 1 << 31
    odd = item_of(record, operation="update", rkey="self")
    assert isinstance(odd, Draft) and 0 < odd.post.revision < 1 << 31


def test_a_post_without_a_safe_address_is_skipped() -> None:
    assert isinstance(item_of(post_record("x", NOW), rkey="a b"), Skipped)


@pytest.mark.parametrize("status", ["deleted", "takendown", "suspended", "deactivated", None, "new word"])
def test_an_account_that_goes_is_forgotten(status: str | None) -> None:
    event = Event(AUTHOR, microseconds(NOW), "account", account=Account(False, status))
    deletion = PostReader(authors=AUTHORS).item_of(event)
    assert isinstance(deletion, Deletion)
    assert (deletion.author, deletion.post_id, deletion.deleted_at) == (AUTHORS("bluesky", AUTHOR), None, NOW)


@pytest.mark.parametrize(("active", "status"), [(True, None), (False, "throttled"), (False, "desynchronized")])
def test_an_account_in_passing_trouble_is_not(active: bool, status: str | None) -> None:
    event = Event(AUTHOR, microseconds(NOW), "account", account=Account(active, status))
    assert PostReader(authors=AUTHORS).item_of(event) == "accounts still there"


@pytest.mark.parametrize("has_size", [True, False])
def test_a_compressed_bomb_is_malformed(has_size: bool) -> None:
    data = made_up_dictionary()
    bomb = zstandard.ZstdCompressor(dict_data=zstandard.ZstdCompressionDict(data), write_content_size=has_size)
    with pytest.raises(MalformedEvent):
        Dictionary(data).inflate(bomb.compress(b" " * (MAX_EVENT_BYTES * 64)))


@pytest.mark.parametrize("dialects", [("v1",), ("v2",), ("v1", "v2")])
async def test_a_host_is_asked_in_v2_then_in_v1(serve: Serve, dialects: tuple[Dialect, ...]) -> None:
    newest = max(dialects)
    url = await serve(Feed(made_up_posts(3), dialect=newest), dialects=dialects)
    source = Bluesky(authors=AUTHORS, hosts=(url,))
    assert numbers_of(await read(source, 3)) == [0, 1, 2]
    assert newest in source.state.detail


async def test_another_host_takes_over_by_time(serve: Serve) -> None:
    happenings = list(made_up_posts(40))
    asked: list[Subscription] = []
    first = await serve(Feed(happenings[:20], cuts=[15]), refuse=lambda _: Refuse(503) if asked else asked.append(_))
    # The other one counts otherwise, and reads from where the first was a minute before.
    second = await serve(Feed(happenings))
    source = Bluesky(authors=AUTHORS, hosts=(first, second), sleep=Waits())
    assert numbers_of(await read(source, 40)) == list(range(40))
    assert source.state.reconnects == 1 and source.state.gaps == []
    assert source.cursor and source.cursor.endswith(second.removeprefix("ws://"))


async def test_a_cursor_too_old_goes_on_by_time_and_the_gap_is_told(serve: Serve) -> None:
    feed = Feed(made_up_posts(3))
    told = {"$type": "network.bsky.jetstream.subscribeEvents#info", "name": "OutdatedCursor", "message": "from seq 7"}
    feed._frames.insert(0, frame(json.dumps({"$type": "message", "payload": told}).encode()))

    def refuse(subscription: Subscription) -> bytes | None:
        return b'{"error": "CursorTooOld", "message": "floor is 7"}' if not subscription.is_time else None

    url = await serve(feed, refuse=refuse)
    cursor = str(Position(microseconds(NOW - timedelta(days=3)), 5, url.removeprefix("ws://")))
    source = Bluesky(authors=AUTHORS, hosts=(url,), cursor=cursor)
    assert numbers_of(await read(source, 3)) == [0, 1, 2]
    assert len(source.state.gaps) == 1 and "from seq 7" in source.state.gaps[0]


async def test_v1_is_known_to_keep_36_hours(serve: Serve) -> None:
    url = await serve(Feed(made_up_posts(3), dialect="v1"), dialects=("v1",))
    source = Bluesky(authors=AUTHORS, hosts=(url,), cursor=str(microseconds(NOW - timedelta(hours=40))))
    await read(source, 3)
    assert len(source.state.gaps) == 1 and "does not go back further" in source.state.gaps[0]


async def test_a_slow_reader_is_told_so_and_reads_on(serve: Serve) -> None:
    feed = Feed(made_up_posts(4), cuts=[3])
    feed._frames[2] = frame(b'{"$type": "error", "error": "ConsumerTooSlow", "message": "too far behind"}')
    waits, said = Waits(), []
    source = Bluesky(authors=AUTHORS, hosts=(await serve(feed),), sleep=waits)
    async with asyncio.timeout(10), aclosing(aiter(source)) as stream:
        async for item in stream:
            said.append(numbers_of([item]))
            if len(said) == 2:
                feed._frames[2] = feed._frames[0]
            if said[-1] == [3]:
                break
    assert said == [[0], [1], [3]] and source.state.reconnects == 1


async def test_a_wait_asked_for_is_kept(serve: Serve) -> None:
    refusals = [Refuse(429, {"Retry-After": "37"})]
    waits = Waits()
    url = await serve(Feed(made_up_posts(1)), refuse=lambda _: refusals.pop() if refusals else None)
    await read(Bluesky(authors=AUTHORS, hosts=(url,), sleep=waits), 1)
    assert waits.seconds == [37.0]


async def test_a_retired_dictionary_means_plain_frames(serve: Serve) -> None:
    def refuse(subscription: Subscription) -> bytes | None:
        return b'{"error": "UnknownZstdDictionary"}' if "zstdDictionary" in subscription.parameters else None

    url = await serve(Feed(made_up_posts(2)), refuse=refuse, dictionary=made_up_dictionary())
    assert numbers_of(await read(Bluesky(authors=AUTHORS, hosts=(url,)), 2)) == [0, 1]


async def test_only_posts_and_accounts_are_asked_for(serve: Serve) -> None:
    asked: list[Subscription] = []
    url = await serve(Feed(made_up_posts(1)), refuse=asked.append)
    await read(Bluesky(authors=AUTHORS, hosts=(url,)), 1)
    assert asked[0].parameters["collections"] == ["app.bsky.feed.post"]
    assert asked[0].parameters["kinds"] == ["commit", "account"]


async def test_slow_taking_is_no_silence(serve: Serve) -> None:
    source = Bluesky(authors=AUTHORS, hosts=(await serve(Feed(made_up_posts(5))),), silence_s=0.02)
    count = 0
    async with aclosing(aiter(source)) as stream:
        async for _ in stream:
            count += 1
            await asyncio.sleep(0.1)
            if count == 5:
                break
    assert source.state.reconnects == 0


async def test_a_lively_host_without_news_is_left_for_another(serve: Serve) -> None:
    mute = await serve(Feed())
    lively = await serve(Feed(made_up_posts(2)))
    source = Bluesky(authors=AUTHORS, hosts=(mute, lively), silence_s=0.02, quiet_s=0.1, sleep=Waits())
    assert numbers_of(await read(source, 2)) == [0, 1]


async def test_a_network_that_is_not_there_is_one_line() -> None:
    source = Bluesky(authors=AUTHORS, hosts=("ws://127.0.0.1:9", "wss://jetstream.invalid"), sleep=Waits())
    with pytest.raises(SourceUnreachable, match="127.0.0.1:9.*jetstream.invalid.*--host") as error:
        await read(source, 1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    ["ftp://host", "wss://host/other", "wss://me:secret@host", "wss://", "wss://host?x=1", "ws://h:99999", "ws://[h"],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(BadSource, match="no Jetstream") as error:
        Bluesky(authors=AUTHORS, hosts=(url,))
    assert "secret" not in str(error.value)


def test_bad_options_are_refused(tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_bytes(b"not a dictionary")
    for options in (
        {"channels": ("r/all",)},
        {"cursor": "yesterday"},
        {"environ": {"MOODSTREAM_JETSTREAM_DICTIONARY": str(bad)}},
        {"environ": {"MOODSTREAM_JETSTREAM_DICTIONARY": str(tmp_path / "missing")}},
        {"environ": {"MOODSTREAM_BLUESKY_CDN": "cdn.bsky.app"}},
    ):
        with pytest.raises(BadSource):
            open_bluesky(SourceOptions(authors=AUTHORS, **{"environ": {}} | options))


def test_defaults_are_the_public_hosts() -> None:
    source = open_bluesky(SourceOptions(authors=AUTHORS, environ={}))
    assert source.media_hosts == ("cdn.bsky.app",) and len(PUBLIC_HOSTS) == 4
    assert source.cursor is None


@pytest.mark.parametrize("position", [Position(1783175888085434), Position(1783175888085434, 12, "host:80")])
def test_a_cursor_survives_as_text(position: Position) -> None:
    assert Position.parse(str(position)) == position


def test_feed_times_are_apart() -> None:
    first, second = made_up_posts(2)
    assert second.time_us - first.time_us == STEP // timedelta(microseconds=1)
