"""X's rules in step with the topics."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from ingest.errors import BadTopics
from ingest.sources.items import Item
from ingest.sources.x import XStream
from ingest.sources.x_rules import RuleChanges
from tests.ingest.live.upstream import Create, Cut, Script
from tests.ingest.live.x_play import play, read
from tests.ingest.live.x_server import QUERIES, XUpstream


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


@pytest.mark.parametrize(
    "answer",
    [
        {"errors": [{"value": "tea", "details": ["no good"], "type": "https://api.x.com/2/problems/invalid-rules"}]},
        {"title": "Invalid Request", "detail": "no good", "type": "https://api.x.com/2/problems/invalid-request"},
        {"errors": [{"message": "no good", "parameters": {}}], "title": "Invalid Request"},
    ],
)
async def test_a_bad_rule_may_come_as_a_bad_request(x: XUpstream, answer: dict[str, Any]) -> None:
    x.refusing_rules = answer
    with pytest.raises(BadTopics, match="X does not take this query: no good"):
        await play(x, Create(1), number=1, queries={"Tea": "tea"})
