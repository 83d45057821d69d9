"""What every live source must stand: one suite, run for each upstream against a local server of its protocol."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import pytest

from ingest.contract import EDIT_STEP, Deletion, decode, encode
from ingest.errors import BadCredentials, IngestError, SourceUnreachable
from ingest.sources.items import Draft, Item, LiveSource, Skipped
from tests.ingest.live.upstream import (
    Create,
    Cut,
    Delete,
    Edit,
    Heartbeat,
    Malformed,
    Noise,
    Refuse,
    Script,
    Stall,
    Step,
    Upstream,
    deletions_of,
    drafts_of,
    ids_of,
    text_of,
    time_of,
)
from tests.ingest.live.upstreams import UPSTREAMS

PATIENCE_S: Final = 10.0
QUIET_S: Final = 0.1
"""How long nothing more must come before a script counts as read to its end."""
Done = Callable[[list[Item]], bool]


@pytest.fixture(params=UPSTREAMS, ids=lambda upstream: upstream.__name__)
async def upstream(request: pytest.FixtureRequest) -> AsyncIterator[Upstream]:
    async with request.param() as upstream:
        yield upstream


def only(able: Callable[[Any], object]) -> pytest.MarkDecorator:
    """Runs a test against those upstreams alone whose protocol can do what it is about."""
    chosen = [upstream for upstream in UPSTREAMS if able(upstream)]
    return pytest.mark.parametrize("upstream", chosen, indirect=True, ids=lambda upstream: upstream.__name__)


async def read(source: LiveSource, done: Done) -> list[Item]:
    """The source's items until `done`; fails if it takes too long."""
    items: list[Item] = []
    try:
        async with asyncio.timeout(PATIENCE_S), aclosing(aiter(source)) as stream:
            async for item in stream:
                items.append(item)
                if done(items):
                    return items
    except TimeoutError:
        pytest.fail(f"not done within {PATIENCE_S} s: {source.state}; got {len(items)} items: {ids_of(items)}")
    return items


def posts(*numbers: int) -> tuple[Create, ...]:
    return tuple(map(Create, numbers))


def have(upstream: Upstream, *numbers: int) -> Done:
    """Done when all these posts have come."""
    wanted = {upstream.post_id(number) for number in numbers}
    return lambda items: wanted <= set(ids_of(items))


async def play(upstream: Upstream, *steps: Step, until: tuple[int, ...], chunk_bytes: int | None = None) -> list[Item]:
    """Plays the steps to a new source and reads until the posts numbered `until` have come."""
    upstream.play(Script(steps, chunk_bytes))
    return await read(upstream.open(), have(upstream, *until))


def assert_once_in_order(upstream: Upstream, items: list[Item], *numbers: int) -> None:
    """Exactly these posts; an upstream that gives events again may repeat them, unchanged, after their first time."""
    assert ids_of(items) == [upstream.post_id(number) for number in numbers]
    revisions = {(draft.post.id, draft.post.revision, draft.post.text) for draft in drafts_of(items)}
    assert len(revisions) == len(numbers)
    if not upstream.resumes:
        assert len(drafts_of(items)) == len(numbers)


async def test_posts_come_once_in_order_and_whole(upstream: Upstream) -> None:
    items = await play(upstream, *posts(1, 2), Noise(), Create(3, pictures=1), until=(1, 2, 3))
    assert_once_in_order(upstream, items, 1, 2, 3)
    for draft, number in zip(drafts_of(items), (1, 2, 3), strict=True):
        post = draft.post
        assert decode(encode(post)) == post
        assert (post.text, post.created_at, post.revision) == (text_of(number), time_of(number), 0)
        assert post.author is not None and upstream.post_id(number).removeprefix(post.source) not in post.author
        assert post.url and post.url.startswith(("https://", "http://127.0.0.1"))
        assert len(draft.links) == (1 if number == 3 else 0)


async def test_it_says_it_is_live_and_counts(upstream: Upstream) -> None:
    upstream.play(Script.of(*posts(1, 2)))
    source = upstream.open()
    assert source.kind == "live" and source.state.phase == "connecting"
    await read(source, have(upstream, 1, 2))
    assert source.state.events >= 2 and source.state.reconnects == 0 and source.state.gaps == []
    assert source.state.lag_s is not None and source.state.detail


async def test_leaving_closes_the_connection_and_says_so(upstream: Upstream) -> None:
    upstream.play(Script.of(Create(1)))
    source = upstream.open()
    await read(source, have(upstream, 1))
    assert source.state.phase == "stopped"
    async with asyncio.timeout(PATIENCE_S):
        while upstream.stage.connected:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 7, 64])
async def test_pieces_cut_anywhere_make_the_same_posts(upstream: Upstream, chunk_bytes: int) -> None:
    items = await play(upstream, *posts(1, 2, 3), until=(1, 2, 3), chunk_bytes=chunk_bytes)
    assert_once_in_order(upstream, items, 1, 2, 3)
    assert [draft.post.text for draft in drafts_of(items)] == [text_of(number) for number in (1, 2, 3)]


async def test_what_is_malformed_is_counted_and_passed_over(upstream: Upstream) -> None:
    steps: list[Step] = [Create(1)]
    for variant in range(upstream.malformed):
        steps += [Malformed(variant), Create(variant + 2)]
    upstream.play(Script(tuple(steps)))
    source = upstream.open()
    numbers = tuple(range(1, upstream.malformed + 2))
    items = await read(source, have(upstream, *numbers))
    assert_once_in_order(upstream, items, *numbers)
    reasons = Counter(item.reason for item in items if isinstance(item, Skipped)) + source.state.skipped
    assert reasons.total() >= upstream.malformed
    assert all(len(reason) < 80 for reason in reasons), "reasons are counted: no ids or bytes in them"


async def test_heartbeats_alone_keep_a_connection(upstream: Upstream) -> None:
    upstream.play(Script.of(Create(1), *[Heartbeat()] * 20))
    source = upstream.open()
    async with asyncio.timeout(PATIENCE_S), aclosing(aiter(source)) as stream:
        assert isinstance(await anext(stream), Draft)
        waiting = asyncio.ensure_future(anext(stream))
        done, _ = await asyncio.wait({waiting}, timeout=1.0)
        assert not done, f"{waiting.result()} came of heartbeats"
        waiting.cancel()
        await asyncio.wait({waiting})
    assert source.state.reconnects == 0


@pytest.mark.parametrize("cut_after", range(5))
async def test_a_cut_after_any_event_loses_nothing(upstream: Upstream, cut_after: int) -> None:
    script: list[Step] = [*posts(1, 2, 3, 4, 5)]
    script.insert(cut_after, Cut())
    items = await play(upstream, *script, until=(1, 2, 3, 4, 5))
    assert_once_in_order(upstream, items, 1, 2, 3, 4, 5)


@pytest.mark.parametrize("cut_after", range(4))
async def test_a_cut_inside_any_event_loses_nothing(upstream: Upstream, cut_after: int) -> None:
    script: list[Step] = [*posts(1, 2, 3, 4)]
    script.insert(cut_after, Cut(torn=script[cut_after]))
    items = await play(upstream, *script, until=(1, 2, 3, 4))
    assert_once_in_order(upstream, items, 1, 2, 3, 4)


async def test_fifty_cuts_lose_nothing(upstream: Upstream) -> None:
    steps = [step for number in range(1, 51) for step in (Create(number), Cut())]
    items = await play(upstream, *steps, Create(51), until=tuple(range(1, 52)))
    assert_once_in_order(upstream, items, *range(1, 52))


async def test_what_happens_while_away_comes_later_or_is_a_gap(upstream: Upstream) -> None:
    missed = posts(2, 3) if upstream.resumes else ()
    upstream.play(Script.of(Create(1), Cut(missed=missed), Create(4)))
    source = upstream.open()
    items = await read(source, have(upstream, 1, 4))
    assert upstream.polled or source.state.reconnects == 1
    if upstream.resumes:
        assert_once_in_order(upstream, items, 1, 2, 3, 4)
        assert source.state.gaps == []
    else:
        assert len(source.state.gaps) == 1, "what a stream without memory may have lost is said aloud"


@only(lambda upstream: upstream.resumes)
@pytest.mark.parametrize("stopped_after", range(1, 5))
async def test_a_new_run_goes_on_at_the_cursor(upstream: Upstream, stopped_after: int) -> None:
    upstream.play(Script.of(*posts(1, 2, 3, 4, 5)))
    first = upstream.open()
    before: list[Item] = []
    async with aclosing(aiter(first)) as stream:
        async for item in stream:
            before.append(item)
            cursor = first.cursor
            if len(before) == stopped_after:
                break
    assert cursor is not None
    after = await read(upstream.open(cursor=cursor), have(upstream, *range(stopped_after + 1, 6)))
    assert_once_in_order(upstream, before + after, 1, 2, 3, 4, 5)


@pytest.mark.parametrize("torn", [None, Create(2)], ids=["silent", "slow-loris"])
async def test_a_silent_connection_is_given_up(upstream: Upstream, torn: Create | None) -> None:
    upstream.play(Script.of(Create(1), Stall(torn=torn), *posts(2, 3)))
    source = upstream.open()
    items = await read(source, have(upstream, 1, 2, 3))
    assert_once_in_order(upstream, items, 1, 2, 3)
    assert upstream.polled or source.state.reconnects >= 1


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_busy_upstream_is_tried_again_after_a_wait(upstream: Upstream, status: int) -> None:
    items = await play(upstream, Refuse(status), Refuse(status), *posts(1, 2), until=(1, 2))
    assert_once_in_order(upstream, items, 1, 2)
    assert len([wait for wait in upstream.waits.seconds if wait > 0]) >= 2


async def test_waits_grow_while_it_stays_busy(upstream: Upstream) -> None:
    await play(upstream, *[Refuse(503)] * 4, Create(1), until=(1,))
    waits = upstream.waits.seconds
    assert max(waits) > min(wait for wait in waits if wait > 0)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_for_good_ends_in_one_line(upstream: Upstream, status: int) -> None:
    upstream.play(Script.of(*[Refuse(status)] * 50))
    expected = BadCredentials if upstream.credentials else SourceUnreachable
    with pytest.raises(expected) as refusal:
        await read(upstream.open(), lambda items: False)
    assert "\n" not in str(refusal.value)
    assert not any(secret in str(refusal.value) for secret in upstream.credentials)


async def test_a_redirect_loop_ends(upstream: Upstream) -> None:
    """The source may give up or wait and try again; it must not run in circles."""
    upstream.play(Script.of(*[Refuse(302)] * 40, Create(1)))
    try:
        await read(upstream.open(), have(upstream, 1))
    except SourceUnreachable:
        return
    assert any(wait > 0 for wait in upstream.waits.seconds)


async def test_repeats_and_disorder_lose_nothing(upstream: Upstream) -> None:
    items = await play(upstream, *posts(5, 1, 1, 3, 5, 2), until=(1, 2, 3, 5))
    assert sorted(ids_of(items)) == sorted(upstream.post_id(number) for number in (1, 2, 3, 5))


@only(lambda upstream: upstream.edits)
async def test_an_edit_is_a_higher_revision_of_the_same_post(upstream: Upstream) -> None:
    items = await play(upstream, Create(1), Edit(1, 1), Create(2), Edit(1, 2), Create(3), until=(1, 2, 3))
    versions = [draft.post for draft in drafts_of(items) if draft.post.id == upstream.post_id(1)]
    assert [post.text for post in versions] == [text_of(1, edit) for edit in (0, 1, 2)]
    revisions = [post.revision for post in versions]
    assert revisions == sorted(set(revisions)) and all(revision % EDIT_STEP == 0 for revision in revisions)
    assert all(post.created_at == time_of(1) for post in versions), "an edit does not move a post in time"


@only(lambda upstream: upstream.deletes)
async def test_a_deletion_follows_its_post(upstream: Upstream) -> None:
    items = await play(upstream, *posts(1, 2), Delete(1), Create(3), until=(1, 2, 3))
    deletions: list[Deletion] = deletions_of(items)
    assert {deletion.post_id for deletion in deletions} == {upstream.post_id(1)}
    assert items.index(deletions[0]) > items.index(drafts_of(items)[0])


async def test_secrets_stay_out_of_logs_and_repr(upstream: Upstream, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    steps = (Refuse(503), Create(1), *map(Malformed, range(upstream.malformed)), Cut(), Create(2), Refuse(401))
    upstream.play(Script(steps))
    source = upstream.open()
    said = ""
    try:
        await read(source, have(upstream, 1, 2))
        await read(source, lambda items: False)
    except IngestError as error:
        said = f"{error!r} {error} {error.__cause__!r}"
    for secret in upstream.credentials:
        assert secret not in f"{caplog.text} {said} {source!r} {source.state!r}"


@pytest.mark.data
@only(lambda upstream: upstream.payload)
async def test_the_payload_file_parses_completely(upstream: Upstream) -> None:
    assert upstream.payload is not None
    data = Path(os.environ.get("MOODSTREAM_DATA", Path(__file__).parents[4] / "shared" / "data"))
    file = data.parent / "payloads" / upstream.payload
    if not file.exists():
        pytest.skip(f"{file} is missing; set MOODSTREAM_DATA")
    items = await play(upstream, *upstream.payload_events(file.read_bytes()), Create(1), until=(1,))
    upstream.check_payload([item for item in items if ids_of([item]) != [upstream.post_id(1)]])
