"""X's stream taken up again, and refusals told; what it shares with other sources is in test_conformance.py."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingest.errors import BadCredentials, BadSettings, BadSource, SourceUnreachable
from ingest.sources.detect import SourceOptions
from ingest.sources.live import SourceState
from ingest.sources.x import XStream, open_x
from ingest.sources.x_api import WAITS, Retries, TryAgain
from ingest.sources.x_posts import FIELDS
from tests.ingest.live.upstream import Create, Cut, Heartbeat, Refuse, Script, drafts_of
from tests.ingest.live.x_payloads import id_of, post_of
from tests.ingest.live.x_play import AUTHORS, NOON, play, raw, read
from tests.ingest.live.x_server import QUERIES, TOKEN, XUpstream, reset_in


async def test_all_fields_are_asked_for_and_we_say_who_we_are(x: XUpstream) -> None:
    await play(x, Create(1), number=1)
    assert x.queries_seen == [FIELDS] and x.user_agents[0].startswith("moodstream")
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
