"""Mastodon beyond the suite: several servers and channels, what its statuses become, pauses, tokens."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ingest.authors import AuthorHash
from ingest.errors import BadCredentials, BadSource, SourceUnreachable
from ingest.sources.detect import SourceOptions
from ingest.sources.items import Draft, Item, MediaLink, Skipped
from ingest.sources.mastodon import Mastodon, open_mastodon
from ingest.sources.mastodon_server import Server, tokens_in
from ingest.sources.mastodon_status import draft_of, id_of_uri, read_status
from tests.ingest.live.mastodon_instance import Instance
from tests.ingest.live.mastodon_upstream import made_up_picture, made_up_status, number_of, sse
from tests.ingest.live.reading import reading, take, until
from tests.ingest.live.upstream import Waits, deletions_of, drafts_of, ids_of, text_of

HOME = "https://trams.example"


@pytest.fixture
async def instance() -> AsyncIterator[Instance]:
    async with Instance() as instance:
        yield instance


def mastodon(*instances: Instance, channels: tuple[str, ...] = ("public",), cursor: str | None = None) -> Mastodon:
    return Mastodon(
        authors=AuthorHash(b"key"),
        servers=[instance.address for instance in instances],
        channels=channels,
        cursor=cursor,
        sleep=Waits(),
        silence_s=2.0,
    )


def draft(number: int = 1, *, host: str = "trams.example", **changes: Any) -> Item:
    status = read_status(json.dumps(made_up_status(number, HOME, **changes)))
    assert status is not None
    return draft_of(status, host, authors=AuthorHash(b"key"), skip_bots=True)


def post_of(**changes: Any) -> Draft:
    item = draft(**changes)
    assert isinstance(item, Draft)
    return item


def reason_of(item: Item) -> str:
    assert isinstance(item, Skipped)
    return item.reason


def account(**changes: Any) -> dict[str, Any]:
    return made_up_status(1, HOME)["account"] | changes


def test_a_content_warning_is_part_of_the_text_and_makes_it_sensitive() -> None:
    post = post_of(spoiler_text="food", content="<p>Soup &amp; bread<br>again</p><p>good</p>").post
    assert (post.text, post.sensitive) == ("food\n\nSoup & bread\nagain\n\ngood", True)


def test_a_status_carries_what_the_server_tells() -> None:
    item = post_of()
    assert item.post.id == f"mastodon:trams.example/{number_of(1)}"
    assert (item.post.lang, item.post.reach, item.handle) == ("de", 17, "ann@trams.example")
    assert item.post.url == f"{HOME}/@ann/{number_of(1)}"


def test_pictures_come_small_with_their_description_and_first_size() -> None:
    pictures = [made_up_picture(HOME, place) for place in range(6)]
    pictures[1] |= {"type": "gifv"}
    pictures[2] |= {"type": "video"}
    pictures[3] |= {"type": "audio"}
    pictures[4] |= {"preview_url": None, "description": None, "meta": None}
    item = post_of(media_attachments=pictures)
    assert item.links[0] == MediaLink(url=f"{HOME}/media/0-small.png", alt="a tram", width=1200, height=900)
    assert [link.url for link in item.links] == [
        f"{HOME}/media/{name}.png" for name in ("0-small", "1-small", "4", "5-small")
    ]
    assert item.has_video


def test_replies_and_quotes_are_told_to_queries() -> None:
    item = post_of(
        in_reply_to_id="5", in_reply_to_account_id="8", mentions=[{"id": "8", "acct": "bob@else.example"}], quote={}
    )
    assert (item.is_reply, item.reply_to, item.is_quote) == (True, "bob@else.example", True)


@pytest.mark.parametrize("visibility", ["unlisted", "private", "direct", "something new"])
def test_only_public_statuses_make_posts(visibility: str) -> None:
    assert reason_of(draft(visibility=visibility)) == "not public"


def test_boosts_and_automated_accounts_are_passed_over() -> None:
    assert reason_of(draft(reblog=made_up_status(2, HOME))) == "boost"
    assert reason_of(draft(account=account(bot=True))) == "automated account"


@pytest.mark.parametrize(
    "wish",
    [
        {"noindex": True},
        {"note": "<p>painter #nobot</p>"},
        {"note": '<p><a href="https://trams.example/tags/NoBots" class="mention hashtag">#<span>NoBots</span></a></p>'},
        {"note": "#noindex"},
    ],
)
def test_authors_who_opted_out_are_passed_over(wish: dict[str, Any]) -> None:
    assert reason_of(draft(account=account(**wish))).startswith("author opted out")


def test_a_status_is_the_same_post_by_the_same_author_on_every_server() -> None:
    here = post_of()
    there = post_of(id="109", host="else.example", account=account(acct="ann@trams.example", id="9"))
    assert (here.post.id, here.post.author, here.handle) == (there.post.id, there.post.author, there.handle)


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("https://a.example/users/ann/statuses/12", "mastodon:a.example/12"),
        ("https://a.example/ap/users/7/statuses/12", "mastodon:a.example/12"),
        ("https://A.example:8443/users/ann/statuses/12", "mastodon:a.example:8443/12"),
    ],
)
def test_ids_come_from_the_uri_and_name_nobody(uri: str, name: str) -> None:
    assert id_of_uri(uri) == name


def test_other_software_has_other_uris() -> None:
    name = id_of_uri("https://b.example/users/ann/notes/abc")
    assert name.startswith("mastodon:b.example/") and "ann" not in name
    assert name != id_of_uri("https://b.example/users/ann/notes/abd")


@pytest.mark.parametrize("uri", ["nonsense", "https://[", "https://" + "a" * 300 + "/users/x/statuses/1"])
def test_a_uri_that_is_none_is_counted(uri: str) -> None:
    assert reason_of(draft(uri=uri)) == "malformed status"


def test_revisions_rise_with_the_time_of_the_edit_and_fit() -> None:
    revisions = [post_of(edit=edit).post.revision for edit in (0, 1, 2)]
    assert revisions == [0, 20, 40]
    assert post_of(edited_at="2199-01-01T00:00:00Z").post.revision < 1 << 31


def test_an_old_clock_is_clamped_and_kept() -> None:
    post = post_of(created_at="2020-01-01T00:00:00.000Z").post
    assert post.original_created_at == datetime(2020, 1, 1, tzinfo=UTC)
    assert post.ingested_at - post.created_at == timedelta(hours=48)


async def test_a_status_on_two_servers_is_one_post_and_either_may_delete_it() -> None:
    async with Instance() as home, Instance() as other:
        source = mastodon(home, other)
        async with reading(source) as items:
            await until(lambda: home.listeners() and other.listeners())
            status = made_up_status(1, home.address)
            home.write(status)
            await until(lambda: items)
            other.write(status | {"id": "109000000000000001"})
            other.write(made_up_status(2, other.address))
            await until(lambda: len(items) == 2)
            other.say(sse("delete", "109000000000000001"))
            home.say(sse("delete", status["id"]))
            other.say(sse("delete", number_of(2)))
            await until(lambda: len(deletions_of(items)) == 2)
    first, second = f"mastodon:{home.host}/{number_of(1)}", f"mastodon:{other.host}/{number_of(2)}"
    assert ids_of(items) == [first, second]
    assert [deletion.post_id for deletion in deletions_of(items)] == [first, second]


async def test_channels_are_read_side_by_side(instance: Instance) -> None:
    source = mastodon(instance, channels=("local", "hashtag:trams", "hashtag:#Öffis"))
    async with reading(source) as items:
        await until(lambda: instance.listeners("public/local") and instance.listeners("hashtag:Öffis"))
        await until(lambda: source.state.detail == "3 of 3 live")
        instance.write(made_up_status(1, instance.address), channel="public/local")
        instance.write(made_up_status(2, instance.address), channel="hashtag:trams")
        instance.write(made_up_status(2, instance.address), channel="hashtag:Öffis")
        await until(lambda: source.state.skipped["read before"] == 1 and len(items) == 2)
    timelines = {(r.path, r.query.get("local")) for r in instance.requests if "timelines" in r.path}
    public, tags = ("/api/v1/timelines/public", "true"), ("trams", "Öffis")
    assert timelines == {public, *((f"/api/v1/timelines/tag/{tag}", None) for tag in tags)}


async def test_a_server_may_stream_from_another_address(instance: Instance) -> None:
    async with Instance() as streaming:
        instance.streaming = streaming.address.replace("http", "ws", 1) + "/"
        async with reading(mastodon(instance)) as items:
            await until(streaming.listeners)
            streaming.say(sse("update", json.dumps(made_up_status(1, instance.address))))
            await until(lambda: items)


def test_a_token_is_not_sent_in_the_clear() -> None:
    server = Server("https://trams.example", {"trams.example": "made-up"})
    for told, taken in (("ws://else.example", None), ("wss://s.trams.example/", "https://s.trams.example")):
        assert server._streaming_url_in({"configuration": {"urls": {"streaming": told}}}) == taken


async def test_a_long_pause_is_refilled_page_by_page(instance: Instance) -> None:
    source = mastodon(instance)
    async with reading(source) as items:
        await until(instance.listeners)
        instance.write(made_up_status(1, instance.address))
        await until(lambda: items)
        instance.refusals["/api/v1/streaming/public"] = 503
        instance.cut()
        await until(lambda: source.state.phase == "waiting")
        for number in range(2, 132):
            instance.write(made_up_status(number, instance.address))
        del instance.refusals["/api/v1/streaming/public"]
        await until(lambda: len(items) == 131)
    assert [item.post.text for item in drafts_of(items)] == [text_of(number) for number in range(1, 132)]
    assert source.state.gaps == []


async def test_a_pause_before_the_first_status_is_refilled(instance: Instance) -> None:
    source = mastodon(instance)
    async with reading(source) as items:
        await until(lambda: source.state.phase == "live")
        instance.cut()
        instance.write(made_up_status(1, instance.address))
        await until(lambda: items)


async def test_edits_and_deletions_of_a_pause_are_asked_for(instance: Instance) -> None:
    source = mastodon(instance)
    async with reading(source) as items:
        await until(lambda: source.state.phase == "live")
        for number in (1, 2, 3):
            instance.write(made_up_status(number, instance.address))
        await until(lambda: len(items) == 3)
        instance.timeline[number_of(1)] = made_up_status(1, instance.address, edit=1)
        del instance.timeline[number_of(2)]
        instance.cut()
        await until(lambda: len(items) == 5)
    edit, deletion = drafts_of(items)[-1], deletions_of(items)[0]
    assert (edit.post.text, edit.post.revision) == (text_of(1, 1), 20)
    assert deletion.post_id == f"mastodon:{instance.host}/{number_of(2)}"


async def test_what_an_old_server_cannot_tell_is_a_gap() -> None:
    async with Instance(recheck=False) as instance:
        source = mastodon(instance)
        async with reading(source) as items:
            await until(lambda: source.state.phase == "live")
            instance.write(made_up_status(1, instance.address))
            await until(lambda: items)
            instance.cut()
            await until(lambda: source.state.gaps)
        assert "edits and deletions of a pause may be missing: HTTP 404" in source.state.gaps[0]


async def test_a_timeline_that_is_closed_is_a_gap_and_the_stream_goes_on(instance: Instance) -> None:
    instance.refusals["/api/v1/timelines/public"] = 422
    source = mastodon(instance)
    async with reading(source) as items:
        await until(lambda: source.state.phase == "live")
        instance.write(made_up_status(1, instance.address))
        await until(lambda: items)
    assert source.state.gaps == [
        f"{instance.host} public: what is written during pauses will be missing: the timeline answers HTTP 422"
    ]


async def test_a_busy_timeline_is_waited_for(instance: Instance) -> None:
    instance.write(made_up_status(2, instance.address))
    instance.refusals["/api/v1/timelines/public"] = 429
    cursor = json.dumps({f"{instance.host} public": number_of(1)})
    source = mastodon(instance, cursor=cursor)
    async with reading(source) as items:
        await until(lambda: "HTTP 429" in source.state.detail)
        del instance.refusals["/api/v1/timelines/public"]
        await until(lambda: items)
    assert source.state.gaps == [] and source.cursor is not None and number_of(2) in source.cursor


async def test_a_position_of_last_week_starts_two_days_ago(instance: Instance) -> None:
    last_week = str(int((datetime.now(UTC) - timedelta(days=7)).timestamp() * 1000) << 16)
    source = mastodon(instance, cursor=json.dumps({f"{instance.host} public": last_week}))
    async with reading(source):
        await until(lambda: source.state.phase == "live")
    assert len(source.state.gaps) == 1 and source.state.gaps[0].endswith("two days old are left out")


async def test_a_position_that_cannot_be_read_is_said(instance: Instance) -> None:
    source = mastodon(instance, cursor="{oops")
    assert source.state.gaps == ["the position of the last run cannot be read: this run starts at now"]


async def test_a_server_that_is_down_does_not_stop_the_others(instance: Instance) -> None:
    async with Instance() as other:
        other.refusals["/api/v1/streaming/public"] = 502
        source = mastodon(instance, other)
        async with reading(source) as items:
            await until(lambda: instance.listeners() and "502" in source.state.detail)
            instance.write(made_up_status(1, instance.address))
            await until(lambda: items)
        assert source.state.detail.startswith(f"1 of 2 live; {other.host} public: HTTP 502 Bad Gateway, again in")


async def test_an_unreachable_server_ends_in_one_line() -> None:
    source = Mastodon(authors=AuthorHash(b"key"), servers=("http://127.0.0.1:9",), sleep=Waits())
    with pytest.raises(SourceUnreachable, match=r"tried 6 times without success \(127.0.0.1:9 public: no connection\)"):
        await take(source, 1)


async def test_a_page_in_place_of_a_stream_is_said(instance: Instance) -> None:
    instance.streaming = instance.address + "/api/v2/instance?"
    with pytest.raises(SourceUnreachable, match="no event stream"):
        await take(mastodon(instance), 1)


async def test_a_server_that_wants_a_token_says_how_to_get_one(instance: Instance) -> None:
    instance.refusals["/api/v1/streaming/public"] = 401
    with pytest.raises(BadCredentials, match=r"wants a token \(HTTP 401\): .* MOODSTREAM_MASTODON_TOKEN"):
        await take(mastodon(instance), 1)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_after_a_good_start_is_waited_out(instance: Instance, status: int) -> None:
    source = mastodon(instance)
    async with reading(source) as items:
        await until(lambda: source.state.phase == "live")
        instance.refusals["/api/v1/streaming/public"] = status
        instance.cut()
        await until(lambda: f"wants a token (HTTP {status})" in source.state.detail)
        assert "MOODSTREAM_MASTODON_TOKEN" in source.state.detail and "again in" in source.state.detail
        instance.write(made_up_status(1, instance.address))
        del instance.refusals["/api/v1/streaming/public"]
        await until(lambda: items and source.state.phase == "live")


async def test_a_token_goes_to_its_own_server_only(instance: Instance) -> None:
    async with Instance() as other:
        source = open_mastodon(
            SourceOptions(
                authors=AuthorHash(b"key"),
                hosts=(instance.address, other.address),
                environ={"MOODSTREAM_MASTODON_TOKEN": f"{instance.host}=made-up-1"},
            )
        )
        async with reading(source):
            await until(lambda: instance.listeners() and other.listeners())
    assert {request.headers.get("Authorization") for request in instance.requests} == {"Bearer made-up-1"}
    assert {request.headers.get("Authorization") for request in other.requests} == {None}


@pytest.mark.parametrize(
    ("value", "hosts", "tokens"),
    [
        ("abc", ["a.example"], {"a.example": "abc"}),
        ("a.example=abc", ["a.example"], {"a.example": "abc"}),
        ("a.example=abc, b.example=def", ["a.example", "b.example"], {"a.example": "abc", "b.example": "def"}),
        ("abc=", ["a.example"], {"a.example": "abc="}),
    ],
)
def test_tokens_are_told_apart(value: str, hosts: list[str], tokens: dict[str, str]) -> None:
    assert tokens_in({"MOODSTREAM_MASTODON_TOKEN": value}, hosts) == tokens


@pytest.mark.parametrize("value", ["abc", "a.example=abc,def", "c.example=abc", "a.example=a b", "a.example=a\nb"])
def test_tokens_of_nobody_are_refused_without_being_shown(value: str) -> None:
    with pytest.raises(BadCredentials) as refusal:
        tokens_in({"MOODSTREAM_MASTODON_TOKEN": value}, ["a.example", "b.example"])
    assert "abc" not in str(refusal.value)


@pytest.mark.parametrize("channel", ["home", "hashtag:", "hashtag:a b", "Public"])
def test_a_channel_that_is_none_is_refused(channel: str) -> None:
    with pytest.raises(BadSource, match="there are public, local and hashtag:NAME"):
        Mastodon(authors=AuthorHash(b"key"), channels=(channel,))


@pytest.mark.parametrize(
    "server", ["ftp://a.example", "https://a.example/path", "https://me:word@a.example", "https://"]
)
def test_a_server_that_is_none_is_refused(server: str) -> None:
    with pytest.raises(BadSource, match="is no Mastodon server") as refusal:
        Mastodon(authors=AuthorHash(b"key"), servers=(server,))
    assert "word" not in str(refusal.value)


def test_media_hosts_are_the_servers_own() -> None:
    source = Mastodon(authors=AuthorHash(b"key"), servers=("mastodon.example", "http://127.0.0.1:3000"))
    assert source.media_hosts == ("mastodon.example", "*.mastodon.example", "127.0.0.1:3000")
