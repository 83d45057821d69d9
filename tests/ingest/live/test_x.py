"""What X's source does in its own way; what it shares with all others is in test_conformance.py."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingest.authors import AuthorHash
from ingest.errors import BadCredentials, BadSettings, BadSource, BadTopics, SourceUnreachable
from ingest.sources.detect import SourceOptions
from ingest.sources.items import Draft, Item, LiveSource, Skipped
from ingest.sources.live import SourceState
from ingest.sources.x import XStream, open_x
from ingest.sources.x_api import WAITS, Retries, TryAgain
from ingest.sources.x_batch import PostLog
from ingest.sources.x_budget import UsageCounter, open_counter
from ingest.sources.x_compliance import SeenPosts
from ingest.sources.x_posts import FIELDS, draft_of, read_message, rendition
from ingest.sources.x_rules import RuleChanges
from tests.ingest.live.upstream import (
    Create,
    Cut,
    Edit,
    Heartbeat,
    Raw,
    Refuse,
    Script,
    Step,
    deletions_of,
    drafts_of,
    time_of,
)
from tests.ingest.live.x_payloads import AUTHOR, id_of, post_of, snowflake
from tests.ingest.live.x_server import QUERIES, TOKEN, XUpstream, reset_in

AUTHORS = AuthorHash(b"key")
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
async def x() -> AsyncIterator[XUpstream]:
    async with XUpstream() as upstream:
        yield upstream


async def read(source: LiveSource, number: int) -> list[Item]:
    """So many items."""
    items: list[Item] = []
    async with asyncio.timeout(10), aclosing(aiter(source)) as stream:
        async for item in stream:
            items.append(item)
            if len(items) == number:
                break
    return items


async def play(x: XUpstream, *steps: Step, number: int, **options: Any) -> list[Item]:
    x.play(Script(steps))
    return await read(x.open(**options), number)


def draft(message: Mapping[str, Any], at: datetime | None = None) -> Draft:
    read = read_message(json.dumps(message))
    found = draft_of(read.posts[0], read.includes, authors=AUTHORS, at=at or datetime.now(UTC))
    assert isinstance(found, Draft)
    return found


# --- posts


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


# --- connecting


async def test_all_fields_are_asked_for_and_we_say_who_we_are(x: XUpstream) -> None:
    await play(x, Create(1), number=1)
    assert x.queries_seen == [FIELDS]
    assert {"note_tweet", "edit_history_tweet_ids", "lang", "withheld"} <= set(FIELDS["tweet.fields"].split(","))


@pytest.mark.parametrize("chunk_bytes", [None, 1, 7])
async def test_a_compressed_stream_is_read_as_it_comes(x: XUpstream, chunk_bytes: int | None) -> None:
    x.headers = {"Content-Encoding": "gzip"}
    x.play(Script.of(Create(1), Heartbeat(), Create(2), chunk_bytes=chunk_bytes))
    assert len(await read(x.open(), 2)) == 2 and x.stage.attempts == 1


async def waits_for(*failures: TryAgain) -> list[float]:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    retries = Retries("api.x.com", SourceState(), sleep)
    retries.succeeded()
    for failure in failures:
        await retries.after(failure)
    return waited


async def test_waits_are_those_x_documents() -> None:
    assert (await waits_for(*[TryAgain("broken", "network")] * 70))[:3] == [0.25, 0.5, 0.75]
    assert max(await waits_for(*[TryAgain("broken", "network")] * 70)) == 16
    assert await waits_for(*[TryAgain("busy", "http")] * 8) == [5, 10, 20, 40, 80, 160, 320, 320]
    assert await waits_for(*[TryAgain("slow down", "rate limit")] * 5) == [60, 120, 240, 480, 900]


async def test_a_rate_limit_is_waited_out_until_its_reset(x: XUpstream) -> None:
    await play(x, Refuse(429, reset_in(500)), Refuse(429, reset_in(20)), Create(1), number=1)
    assert [round(wait, -1) for wait in x.waits.seconds] == [500, 120]


async def test_a_used_up_window_is_not_tried(x: XUpstream) -> None:
    x.headers = reset_in(300)
    await play(x, Create(1), Cut(), Create(2), number=2)
    assert [round(wait, -1) for wait in x.waits.seconds] == [300]
    assert x.stage.attempts == 2


async def test_the_ceiling_is_said_aloud(x: XUpstream, caplog: pytest.LogCaptureFixture) -> None:
    await play(x, *[Refuse(503)] * 7, Create(1), number=1)
    assert "attempt 7 in a row has failed" in caplog.text and len(caplog.records) == 1
    assert WAITS["http"].ceiling == 320


async def test_after_a_success_waits_begin_anew(x: XUpstream) -> None:
    await play(x, Refuse(503), Refuse(503), Create(1), Cut(), Refuse(503), Create(2), number=2)
    assert x.waits.seconds == [5, 10, 5]


async def test_a_server_that_only_takes_and_drops_is_not_stormed(x: XUpstream) -> None:
    await play(x, *[Cut()] * 6, Create(1), number=1)
    assert x.waits.seconds == [0.25, 0.5, 0.75, 1.0, 1.25]


DISCONNECT = {
    "errors": [
        {
            "title": "operational-disconnect",
            "disconnect_type": "UpstreamOperationalDisconnect",
            "detail": "This stream has been disconnected upstream for operational reasons.",
            "type": "https://api.x.com/2/problems/operational-disconnect",
        }
    ]
}
TOO_MANY = {
    "title": "ConnectionException",
    "detail": "This stream is currently at the maximum allowed connection limit.",
    "connection_issue": "TooManyConnections",
    "type": "https://api.x.com/2/problems/streaming-connection",
}
CAPPED = {"title": "UsageCapExceeded", "detail": "Monthly cap", "type": "https://api.x.com/2/problems/usage-capped"}


def raw(message: Any) -> Raw:
    return Raw(json.dumps(message).encode())


@pytest.mark.parametrize(("message", "waits"), [(DISCONNECT, []), (TOO_MANY, [5])])
async def test_a_disconnect_told_in_the_stream_is_followed(
    x: XUpstream, message: dict[str, Any], waits: list[float]
) -> None:
    items = await play(x, Create(1), raw(message), Cut(), Create(2), number=2)
    assert [item.post.id for item in drafts_of(items)] == [f"x:{id_of(number)}" for number in (1, 2)]
    assert x.waits.seconds == waits


async def test_a_post_that_speaks_of_disconnects_is_a_post(x: XUpstream) -> None:
    text = 'they said {"disconnect_type": "https://api.x.com/2/problems/operational-disconnect"}'
    items = await play(x, raw(post_of(1, text=text)), number=1)
    assert drafts_of(items)[0].post.text == text and x.stage.attempts == 1


async def test_partial_errors_beside_a_post_do_no_harm(x: XUpstream) -> None:
    lost = {"title": "Not Found Error", "type": "https://api.x.com/2/problems/resource-not-found", "resource_id": "1"}
    assert len(await play(x, raw(post_of(1) | {"errors": [lost]}), number=1)) == 1


async def test_the_cap_told_in_the_stream_ends_it(x: XUpstream) -> None:
    with pytest.raises(SourceUnreachable, match="credits or cap"):
        await play(x, Create(1), raw({"errors": [CAPPED]}), number=2)


async def test_a_gap_is_told_with_its_times(x: XUpstream) -> None:
    x.play(Script.of(Create(1), Cut(), Refuse(503), Create(2)))
    source = x.open()
    await read(source, 2)
    assert len(source.state.gaps) == 1
    assert source.state.gaps[0].startswith(f"/2/tweets/search/stream from {datetime.now(UTC):%Y-%m-%d %H}:")


async def test_backfill_fills_what_a_cut_and_a_restart_left_out(x: XUpstream) -> None:
    x.play(Script.of(Create(1), Cut(), Create(2)))
    first = x.open(backfill_minutes=5)
    await read(first, 2)
    assert first.cursor is not None and first.state.gaps == []
    earlier = datetime.fromisoformat(first.cursor) - timedelta(minutes=7)
    x.play(Script.of(Create(3)))
    second = x.open(backfill_minutes=5, cursor=earlier.isoformat())
    await read(second, 1)
    assert [query.get("backfill_minutes") for query in x.queries_seen] == [None, "1", "5"]
    assert len(second.state.gaps) == 1, "backfill reaches back 5 of 7 minutes"


async def test_an_unreadable_cursor_is_a_gap(x: XUpstream) -> None:
    x.play(Script.of(Create(1)))
    source = x.open(backfill_minutes=5, cursor="yesterday")
    await read(source, 1)
    assert source.state.gaps == ["where the last run stopped cannot be read: this one starts now"]


async def test_a_stream_has_no_cursor_without_backfill(x: XUpstream) -> None:
    x.play(Script.of(Create(1)))
    source = x.open()
    await read(source, 1)
    assert source.cursor is None


# --- refusals


async def test_a_wrong_token_is_told_in_one_line(x: XUpstream) -> None:
    with pytest.raises(BadCredentials, match="MOODSTREAM_X_TOKEN.*HTTP 401: Unauthorized.*console.x.com"):
        await play(x, Create(1), number=1, token="wrongwrong")


async def test_an_unreachable_host_is_given_up() -> None:
    async with XUpstream() as gone:
        source = gone.open(base_url="http://127.0.0.1:9")
        with pytest.raises(SourceUnreachable, match=r"127\.0\.0\.1 cannot be reached"):
            await read(source, 1)
        assert gone.waits.seconds == [0.25, 0.5, 0.75] and source.state.phase == "stopped"


async def test_a_server_of_another_kind_is_told(x: XUpstream) -> None:
    with pytest.raises(BadSource, match="is this X's API v2"):
        await play(x, Create(1), number=1, base_url=f"{x.url}/elsewhere")


def opened(tmp_path: Path, **changes: Any) -> XStream:
    environ = {"MOODSTREAM_X_TOKEN": TOKEN, "MOODSTREAM_STATE": str(tmp_path)} | changes.pop("environ", {})
    given: dict[str, Any] = {"authors": AUTHORS, "queries": QUERIES, "environ": environ}
    return open_x(SourceOptions(**(given | changes)))


def test_it_opens_with_a_token_alone_and_keeps_it_to_itself(tmp_path: Path) -> None:
    source = opened(tmp_path, channels=("compliance", "backfill:3"), cursor=NOON.isoformat())
    assert source.cursor is not None and opened(tmp_path, cursor="x").cursor is None
    assert TOKEN not in f"{source!r} {source.state!r}"


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"environ": {"MOODSTREAM_X_TOKEN": ""}}, BadCredentials, "MOODSTREAM_X_TOKEN is not set"),
        ({"environ": {"MOODSTREAM_X_TOKEN": "two\nlines"}}, BadCredentials, "no token has"),
        ({"environ": {"MOODSTREAM_X_BUDGET_POSTS": "lots"}}, BadSettings, "MOODSTREAM_X_BUDGET_POSTS is 'lots'"),
        ({"queries": {}}, BadSource, "add one to topics.toml"),
        ({"channels": ("backfill:9",)}, BadSource, "--channel backfill:9"),
        ({"hosts": ("http://api.x.com",)}, BadSource, "does not go in the clear"),
        ({"hosts": ("https://a.example", "https://b.example")}, BadSource, "use one URL"),
        ({"hosts": ("api.x.com",)}, BadSource, "use one URL, with https"),
    ],
)
def test_what_is_missing_or_wrong_is_named(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as refusal:
        opened(tmp_path, **changes)
    assert "\n" not in str(refusal.value) and "lines" not in str(refusal.value)


# --- rules


def values(x: XUpstream) -> set[str]:
    return {rule["value"] for rule in x.rules.values()}


async def test_rules_follow_the_topics_and_others_stay(x: XUpstream) -> None:
    others = [{"id": str(number), "value": f"cat {number}", "tag": "cats"} for number in range(4)]
    stale = {"id": "9", "value": "old news", "tag": "moodstream:News"}
    kept = {"id": "10", "value": QUERIES["Line 9"], "tag": "moodstream:renamed since"}
    x.rules = {rule["id"]: rule for rule in [*others, stale, kept]}
    await play(x, Create(1), number=1)
    assert values(x) == {f"cat {number}" for number in range(4)} | set(QUERIES.values())
    assert x.rules["10"] == kept and [rule["tag"] for rule in x.rules.values()].count("moodstream:Coffee") == 1
    assert [dry_run for dry_run, body in x.asked if "add" in body] == [True, False]


async def test_topics_in_step_change_nothing(x: XUpstream) -> None:
    await play(x, Create(1), number=1)
    x.asked.clear()
    await play(x, Create(1), number=1)
    assert x.asked == []


async def test_a_query_x_does_not_take_is_told_and_the_others_are_followed(
    x: XUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    queries = QUERIES | {"Mood": "mood:happy tram", "Long": "tram " * 300}
    x.play(Script.of(Create(1)))
    source = x.open(queries=queries)
    await read(source, 1)
    assert values(x) == set(QUERIES.values())
    assert "topic 'Mood': Reference to invalid operator 'mood:'" in caplog.text
    assert "topic 'Long': longer than 1024 characters" in caplog.text
    assert source.state.detail.endswith("not followed: Mood, Long")


async def test_only_bad_queries_end_it(x: XUpstream) -> None:
    with pytest.raises(BadTopics, match="topic 'Mood'.*invalid operator") as refusal:
        await play(x, Create(1), number=1, queries={"Mood": "mood:happy"})
    assert refusal.value.query == "mood:happy"


async def test_a_query_somebody_else_asks_for_needs_no_rule(x: XUpstream) -> None:
    x.rules = {"1": {"id": "1", "value": QUERIES["Line 9"], "tag": "theirs"}}
    await play(x, Create(1), number=1)
    assert values(x) == set(QUERIES.values()) and x.rules["1"]["tag"] == "theirs"


async def test_rules_somebody_deleted_are_set_again(x: XUpstream) -> None:
    x.play(Script.of(Create(1), Cut(), Create(2)))
    items: list[Item] = []
    async with asyncio.timeout(10), aclosing(aiter(x.open())) as stream:
        async for item in stream:
            items.append(item)
            x.rules.clear()
            if len(items) == 2:
                break
    assert x.waits.seconds == [5] and [dry_run for dry_run, _ in x.asked] == [True, False] * 2


async def test_topics_may_change_while_it_reads(x: XUpstream) -> None:
    x.play(Script.of(Create(1), Create(2)))
    source = x.open()
    assert isinstance(source, XStream) and await source.follow(QUERIES) == RuleChanges()
    async with aclosing(aiter(source)) as stream:
        await anext(stream)
        changes = await source.follow({"Coffee": QUERIES["Coffee"], "Tea": "tea", "Mood": "mood:"})
        await anext(stream)
    assert changes.added == ("Tea",) and changes.deleted == 1 and list(changes.refused) == ["Mood"]
    assert values(x) == {QUERIES["Coffee"], "tea"} and x.stage.attempts == 1


async def test_a_full_house_makes_room_first(x: XUpstream, caplog: pytest.LogCaptureFixture) -> None:
    x.rules = {str(n): {"id": str(n), "value": f"old {n}", "tag": "moodstream:old"} for n in range(999)}
    x.rules["x"] = {"id": "x", "value": "theirs", "tag": "theirs"}
    await play(x, Create(1), number=1, queries={f"topic {n}": f"new {n}" for n in range(1005)})
    assert len(x.rules) == 1000 and "x" in x.rules and values(x) >= {f"new {n}" for n in range(999)}
    assert caplog.text.count("X takes 1000 rules at most") == 6
    assert all(len(body.get("add", ())) <= 100 for _, body in x.asked)


async def test_rules_are_tried_again_when_x_is_busy(x: XUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    x.rules = {"1": {"id": "1", "value": "theirs", "tag": "theirs"}}
    x.busy = 2
    await play(x, Create(1), number=1)
    assert x.waits.seconds == [60, 120] and len(x.rules) == 3


# --- budget


class Clock:
    def __init__(self, at: datetime) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at


def test_usage_counts_each_post_once_a_utc_day(tmp_path: Path) -> None:
    clock = Clock(NOON)
    counter = UsageCounter(budget=1000, file=tmp_path / "usage.json", now=clock)
    for post_id in ("1", "2", "1"):
        counter.count(post_id)
    clock.at += timedelta(days=1)
    counter.count("1")
    assert counter.used == 3 and str(counter) == "3 of 1,000 posts of November 2026 used"
    clock.at = datetime(2026, 12, 1, tzinfo=UTC)
    counter.count("1")
    assert str(counter) == "1 of 1,000 posts of December 2026 used"


def test_usage_is_kept_and_a_kill_counts_too_many_rather_than_too_few(tmp_path: Path) -> None:
    file = tmp_path / "state" / "usage.json"
    killed = UsageCounter(budget=10_000, file=file)
    for number in range(150):
        killed.count(str(number))
    assert 150 <= UsageCounter(budget=10_000, file=file).used < 250
    killed.close()
    assert UsageCounter(budget=10_000, file=file).used == 150
    later = UsageCounter(budget=10_000, file=file, now=Clock(datetime.now(UTC) + timedelta(days=32)))
    assert later.used == 0


async def test_the_budget_stops_the_stream_before_it_is_overdrawn(x: XUpstream) -> None:
    x.play(Script(tuple(Create(number) for number in range(1, 50))))
    source = x.open(budget=3)
    items: list[Item] = []
    with pytest.raises(SourceUnreachable, match="3 of 3 posts of .* raise MOODSTREAM_X_BUDGET_POSTS"):
        async with aclosing(aiter(source)) as stream:
            async for item in stream:
                items.append(item)
    assert len(items) == 3
    with pytest.raises(SourceUnreachable):
        await read(x.open(budget=3), 1)
    assert x.stage.attempts == 1, "it does not even connect again"


async def test_a_larger_budget_leaves_room_for_posts_under_way(tmp_path: Path) -> None:
    counter = UsageCounter(budget=1000, file=tmp_path / "usage.json")
    for number in range(990):
        counter.check()
        counter.count(str(number))
    with pytest.raises(SourceUnreachable):
        counter.check()


async def test_the_state_shows_what_is_used(x: XUpstream) -> None:
    x.play(Script.of(Create(1), Create(1), Edit(1, 1)))
    source = x.open(budget=1234)
    await read(source, 3)
    assert "connected, 2 of 1,234 posts of" in source.state.detail


def test_an_unreadable_count_is_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "x-usage.json").write_text("{")
    with pytest.raises(BadSource, match=r"x-usage\.json should hold the count"):
        open_counter({}, tmp_path)


# --- compliance


def event(kind: str, **fields: Any) -> bytes:
    return json.dumps({"data": {kind: {"event_at": "2026-11-20T18:40:40.000Z", **fields}}}).encode()


def tweet(number: int, edit: int = 0) -> dict[str, dict[str, str]]:
    return {"tweet": {"id": id_of(number, edit), "author_id": AUTHOR}}


Deleted = Callable[[], set[str | None]]


async def test_compliance_events_become_deletions(x: XUpstream) -> None:
    posts, users = "/2/tweets/compliance/stream", "/2/users/compliance/stream"
    old = {"tweet": {"id": snowflake(datetime(2025, 1, 1, tzinfo=UTC)), "author_id": "5"}}
    x.extra = {
        (posts, "1"): [event("delete", **old), event("undrop", **old), b"nonsense"],
        (posts, "3"): [event("withheld", withheld_in_countries=["DE"], **tweet(7))],
        (posts, "4"): [event("drop", **tweet(8))],
        (users, "2"): [event("user_suspend", user={"id": AUTHOR}), event("user_unsuspend", user={"id": AUTHOR})],
        (users, "4"): [event("user_profile_modification", user={"id": "5"}, new_value="x")],
    }
    x.play(Script.of(Create(1)))
    source = x.open(with_compliance=True)
    items = await read(source, 5)
    assert {deletion.post_id for deletion in deletions_of(items)} == {
        f"x:{old['tweet']['id']}",
        f"x:{id_of(7)}",
        f"x:{id_of(8)}",
        None,
    }
    assert {deletion.author for deletion in deletions_of(items)} == {None, AUTHORS("x", AUTHOR)}
    assert {deletion.deleted_at for deletion in deletions_of(items)} == {datetime(2026, 11, 20, 18, 40, 40, tzinfo=UTC)}
    assert len(drafts_of(items)) == 1 and source.state.reconnects == 0


def test_a_deletion_of_any_version_finds_the_post() -> None:
    seen = SeenPosts(now=Clock(NOON))
    seen.add(["10", "11", "12"])
    assert [seen.first_of(version) for version in ("10", "11", "12", "13")] == ["10", "10", "10", "13"]


def test_deletions_of_posts_that_never_came_are_left_out() -> None:
    clock = Clock(NOON)
    seen = SeenPosts(now=clock, size=2)
    before, during = snowflake(NOON - timedelta(minutes=1)), snowflake(NOON + timedelta(minutes=1))
    clock.at = NOON + timedelta(hours=1)
    assert seen.first_of(before) == before, "an earlier run may have passed it on"
    assert seen.first_of(during) is None
    young = snowflake(clock.at - timedelta(minutes=2))
    assert seen.first_of(young) == young, "the post may still come"
    for minute in (2, 3, 4):
        seen.add([snowflake(NOON + timedelta(minutes=minute))])
    assert seen.first_of(during) == during, "it may be among those forgotten"


async def test_compliance_streams_that_are_down_are_told(x: XUpstream) -> None:
    x.extra = {("/2/tweets/compliance/stream", "1"): [event("delete", **tweet(1))]}
    x.broken_partition = "3"
    x.play(Script(tuple(Create(number) for number in range(1, 3000))))
    source = x.open(with_compliance=True)
    async with asyncio.timeout(10), aclosing(aiter(source)) as stream:
        async for _ in stream:
            if "2 of 8 compliance streams down" in source.state.detail:
                break


async def test_compliance_without_access_is_told(x: XUpstream) -> None:
    x.play(Script.of(Create(1)))
    with pytest.raises(BadCredentials, match="or leave out --channel compliance"):
        await read(x.open(with_compliance=True), 2)


# --- batch compliance


def test_ids_are_kept_by_day_and_not_for_ever(tmp_path: Path) -> None:
    clock = Clock(NOON)
    log = PostLog(tmp_path / "x-posts", now=clock)
    log.add("10", "10")
    log.add("11", "10")
    clock.at += timedelta(days=1)
    file = tmp_path / "x-posts" / "2026-11-23.txt"
    file.write_text("\n3")  # the disk was full
    log.add("20", "20")
    assert log.read() == {"10": "10", "11": "10", "20": "20"}
    clock.at = NOON + timedelta(days=31)
    assert log.read() == {"20": "20"} and len(list((tmp_path / "x-posts").iterdir())) == 1
    assert PostLog(tmp_path / "nowhere").read() == {}


async def test_posts_x_reports_gone_become_deletions_once(x: XUpstream) -> None:
    log = PostLog(x.state_dir / "x-posts")
    for version, first in ((id_of(1), id_of(1)), (id_of(1, 1), id_of(1)), (id_of(2), id_of(2)), (id_of(3), id_of(3))):
        log.add(version, first)
    x.gone = {
        id_of(1): "deleted",
        id_of(1, 1): "deleted",
        id_of(2): "suspended",
        id_of(3): "scrub_geo",
        "77": "deleted",
    }
    x.play(Script.of(Create(4)))
    items = await read(x.open(post_log=log), 3)
    assert [deletion.post_id for deletion in deletions_of(items)] == [f"x:{id_of(1)}", f"x:{id_of(2)}"]
    assert deletions_of(items)[0].deleted_at == datetime(2026, 11, 21, 8, 30, tzinfo=UTC)
    assert set(x.uploads[0].decode().split()) >= {id_of(1), id_of(1, 1), id_of(2), id_of(3)}
    assert id_of(4) in log.read(), "what is passed on now is asked for the next time"
    assert x.token_at_storage is False


async def test_a_failed_job_is_made_again(x: XUpstream) -> None:
    log = PostLog(x.state_dir / "x-posts")
    log.add(id_of(1), id_of(1))
    x.gone, x.failing_jobs = {id_of(1): "deleted"}, 1
    assert len(deletions_of(await read(x.open(post_log=log, queries=QUERIES), 1))) == 1
    assert 5 in x.waits.seconds and len(x.uploads) == 2


async def test_batch_compliance_without_access_is_told(x: XUpstream) -> None:
    log = PostLog(x.state_dir / "x-posts")
    log.add("1", "1")
    with pytest.raises(BadCredentials, match="or leave out --channel batch-compliance"):
        await read(x.open(post_log=log), 1)
