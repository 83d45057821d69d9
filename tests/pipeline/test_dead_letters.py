"""`moodstream dead-letters` on what real workers set aside: whatever is done to a letter, it is counted once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from inference_worker.dead_letters import retry
from ingest.contract import Deletion, Post, dead_letters_topic, posts_topic
from tests.pipeline.conftest import Pipeline, on_apache

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SENT = 9


def post(name: str, text: str, author: str | None = None) -> Post:
    return Post(id=f"test:{name}", source="test", created_at=NOW, ingested_at=NOW, text=text, author=author)


FEED = [
    *(post(f"good-{number}", "what a lovely day") for number in range(4)),
    post("poison-1", "poison, so they say"),
    post("poison-2", "more poison \x1b[2J\x9b2J"),
    post("poison-3", "poison of somebody who will leave", "ann"),
    post("poison-4", "poison that will be deleted"),
    b"garbage",
]


def letters(pipeline: Pipeline, *options: str) -> dict[str, dict[str, Any]]:
    """Those listed, by post."""
    return {letter["id"]: letter for letter in pipeline.ask("dead-letters", "list", *options)["letters"]}


def fail(pipeline: Pipeline) -> None:
    """FEED through a worker whose model throws at poison, and which is then stopped."""
    worker = pipeline.start_worker("tests.pipeline.failing_worker")
    pipeline.wait_for_worker()
    pipeline.send(FEED, run="r")
    counts = pipeline.wait_until_settled("r", SENT, 60)
    assert (counts["scored"], counts["dead_letters"]) == (4, 5)
    assert pipeline.stop_worker(worker) == 0


def test_a_letter_is_listed_shown_sent_again_and_dropped(pipeline: Pipeline) -> None:
    fail(pipeline)
    listed = letters(pipeline)
    assert set(listed) == {"garbage", *(f"test:poison-{number}" for number in range(1, 5))}
    poison, garbage = listed["test:poison-2"], listed["garbage"]
    assert (poison["reason"], poison["run"]) == ("RuntimeError: the model threw", "r")
    assert poison["engine"].startswith("onnx") and poison["worker"] and poison["retried_at"] is None
    assert set(letters(pipeline, "--reason", "MODEL THREW")) == set(listed) - {"garbage"}
    assert set(letters(pipeline, "--id", "test:poison-1")) == {"test:poison-1"}
    shown = pipeline.ask("dead-letters", "show", poison["place"])
    assert shown["record"]["post"]["text"] == "more poison \x1b[2J\x9b2J"
    assert shown["record"]["headers"]["error"] == "RuntimeError: the model threw"
    assert pipeline.ask("dead-letters", "show", garbage["place"])["record"]["hex"] == b"garbage".hex()
    told = pipeline.tried("dead-letters", "show", poison["place"]).stdout
    assert "more poison" in told and "\x1b" not in told and "\x9b" not in told

    pipeline.start_worker()
    pipeline.send([Deletion(source="test", deleted_at=NOW, ingested_at=NOW, post_id="test:poison-4")], run="d")
    pipeline.send([Deletion(source="test", deleted_at=NOW, ingested_at=NOW, author="ann")], run="d")
    pipeline.wait_until_settled("d", 2)
    gone = pipeline.tried("dead-letters", "retry", listed["test:poison-3"]["place"])
    assert (gone.returncode, gone.stderr.count("\n")) == (2, 1)
    assert "there is no dead letter" in gone.stderr

    places = {listed["test:poison-1"]["place"], poison["place"]}
    assert set(pipeline.ask("dead-letters", "retry", "--reason", "threw")["retried"]) == places
    pipeline.until(lambda: pipeline.results.counters("r")["scored"] == 6, "both are scored", 60)
    assert set(letters(pipeline)) == {"garbage"}
    assert pipeline.results.counters("r") == {"scored": 6, "dead_letters": 3, "retried": 2}
    assert pipeline.results.total().posts == 6

    pipeline.ask("dead-letters", "retry", "--all")
    pipeline.until(lambda: pipeline.results.counters("r").get("redelivered") == 1, "garbage failed anew", 60)
    (again,) = letters(pipeline).values()
    assert (again["place"], again["retried_at"]) == (garbage["place"], None)
    assert again["failed_at"] > garbage["failed_at"]
    assert pipeline.settled("r") == SENT

    asked = pipeline.tried("dead-letters", "drop", "--all")
    assert (asked.returncode, asked.stdout) == (2, "")
    assert "cannot be undone: say --yes" in asked.stderr
    assert pipeline.ask("dead-letters", "drop", garbage["place"], "--yes")["dropped"] == [garbage["place"]]
    assert letters(pipeline) == {}
    assert pipeline.tried("dead-letters", "list").stdout == f"no dead letters in {pipeline.namespace}\n"
    assert pipeline.results.counters("r") == {
        "scored": 6, "dead_letters": 3, "retried": 3, "redelivered": 1, "dropped": 1
    }  # fmt: skip


def test_a_letter_sent_again_twice_is_scored_once_and_not_after_its_author_left(pipeline: Pipeline) -> None:
    """Also when the deletion is on its way while the letter is sent again, after it."""
    fail(pipeline)
    before = pipeline.results.dead_letters_by_place()
    asked = {place: letter for place, letter in before.items() if letter.key != "garbage"}
    pipeline.send([Deletion(source="test", deleted_at=NOW, ingested_at=NOW, author="ann")], run="d")
    pipeline.send([Deletion(source="test", deleted_at=NOW, ingested_at=NOW, post_id="test:poison-4")], run="d")
    for _ in range(2):
        done = asyncio.run(
            retry(pipeline.results, pipeline.stack.kafka, asked, post_retention_s=0, rollup_retention_s=0)
        )
        assert (set(done.sent), done.refused) == (set(asked), {})
    pipeline.send([post("last", "the end")], run="last")
    pipeline.start_worker()
    pipeline.wait_until_settled("last", 1)
    counts = pipeline.results.counters("r")
    assert pipeline.settled("r") == SENT
    assert counts["scored"] == 6
    assert pipeline.results.total().posts == 7
    assert pipeline.results.predictions(["test:poison-3", "test:poison-4"]) == []
    assert {letter.key for letter in pipeline.results.dead_letters()} == {"garbage"}


def test_what_an_old_worker_could_not_read_is_taken_up_by_a_new_one(pipeline: Pipeline) -> None:
    """A post, the deletion of one's author, which has no key, and the post of one who left before it is sent again."""
    old = pipeline.start_worker("tests.pipeline.failing_worker")
    pipeline.wait_for_worker()
    newer = {"source": "newer", "ingested_at": NOW}
    feed = [
        post("of-bob", "what a lovely day", "bob"),
        Post(id="newer:1", created_at=NOW, text="lovely", **newer),
        Post(id="newer:2", created_at=NOW, text="by ann", author="ann", **newer),
        Deletion(author="bob", deleted_at=NOW, **newer),
        Deletion(source="test", author="ann", deleted_at=NOW, ingested_at=NOW),
    ]
    pipeline.send(feed, run="r")
    assert pipeline.wait_until_settled("r", 5, 60) == {"scored": 1, "dead_letters": 3, "deletions": 1}
    assert pipeline.stop_worker(old) == 0
    assert len(pipeline.ask("dead-letters", "retry", "--reason", "upgrade")["retried"]) == 3
    pipeline.start_worker()
    pipeline.until(lambda: not pipeline.results.dead_letters(), "all letters are settled", 60)
    pipeline.until(lambda: pipeline.settled("r") == 5, "and counted", 60)
    counts = {name: count for name, count in pipeline.results.counters("r").items() if count}
    assert counts == {"scored": 2, "stale": 1, "deletions": 2, "forgotten": 1, "retried": 3}
    assert [one.id for one in pipeline.results.tail()] == ["newer:1"]
    assert pipeline.results.total().posts == 1


def refusal(pipeline: Pipeline, place: str, *, post_retention_s: int = 0) -> str:
    letter = next(iter(pipeline.results.dead_letters_by_place().values()))
    done = asyncio.run(
        retry(
            pipeline.results,
            pipeline.stack.kafka,
            {place: letter},
            post_retention_s=post_retention_s,
            rollup_retention_s=0,
        )
    )
    assert done.sent == ()
    return done.refused[place]


def test_what_kafka_no_longer_has_is_refused(pipeline: Pipeline) -> None:
    fail(pipeline)
    place = next(iter(pipeline.results.dead_letters_by_place()))
    assert refusal(pipeline, "0:77:1") == f"its record is no longer in {pipeline.namespace}.dead-letters"
    assert refusal(pipeline, "0:77:1", post_retention_s=3600) == "its post is past the retention of 3600 s"
    asyncio.run(drop_topic(pipeline.stack.kafka, posts_topic(pipeline.namespace)))
    if pipeline.stack.broker is None:  # the embedded one takes records for topics that are gone
        assert refusal(pipeline, place) == f"{pipeline.namespace}.posts has no partition 0 any more"
    asyncio.run(drop_topic(pipeline.stack.kafka, dead_letters_topic(pipeline.namespace)))
    assert refusal(pipeline, place) == f"its record is no longer in {pipeline.namespace}.dead-letters"


async def drop_topic(kafka: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    try:
        await admin.start()
        await admin.delete_topics([topic])
    finally:
        await admin.close()


def test_a_record_as_large_as_kafka_takes_can_be_set_aside_and_sent_again(pipeline: Pipeline) -> None:
    huge = bytes(1_048_400)  # of the 1,048,588 a topic takes by default, framing included
    pipeline.start_worker()
    pipeline.wait_for_worker()
    pipeline.send([huge, post("good", "what a lovely day")], run="r")
    pipeline.wait_until_settled("r", 2, 30)
    (place,) = pipeline.results.dead_letters_by_place()
    assert pipeline.ask("dead-letters", "show", place)["record"]["hex"] == huge.hex()
    assert pipeline.ask("dead-letters", "retry", place)["retried"] == [place]
    pipeline.until(lambda: pipeline.results.counters("r").get("redelivered") == 1, "it failed anew", 30)


@on_apache
def test_a_letter_too_large_for_its_topic_goes_without_its_bytes(pipeline: Pipeline) -> None:
    """Somebody made the topic before the worker did."""
    asyncio.run(make_small_topic(pipeline.stack.kafka, dead_letters_topic(pipeline.namespace)))
    pipeline.start_worker()
    pipeline.wait_for_worker()
    pipeline.send([bytes(5000), post("good", "what a lovely day")], run="r")
    pipeline.wait_until_settled("r", 2, 30)
    (place,) = pipeline.results.dead_letters_by_place()
    record = pipeline.ask("dead-letters", "show", place)["record"]
    assert (record["hex"], record["headers"]["cut"]) == ("", "5000")
    refused = pipeline.tried("dead-letters", "retry", place)
    assert refused.returncode == 1
    assert "its record was too large for the dead-letters topic" in refused.stdout


async def make_small_topic(kafka: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    try:
        await admin.start()
        await admin.create_topics([NewTopic(topic, 1, 1, topic_configs={"max.message.bytes": "1000"})])
    finally:
        await admin.close()
