"""The faust side: what it makes of a record, and that a worker that cannot work is gone rather than idle."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, RequestTimedOutError, TopicAuthorizationFailedError
from faust.types import TP, HeadersArg
from faust.types.tuples import ConsumerMessage

from inference_worker.agent import EXIT_FAILED, EXIT_STALLED, create_app, declare, submit
from inference_worker.consumer import Chunk, ChunkConsumer
from inference_worker.ledger import Partition
from inference_worker.pipeline import Delivered
from inference_worker.settings import Settings
from inference_worker.store import Position

ROOT = Path(__file__).parents[2]


def exit_code_of(program: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stderr


def test_a_pipeline_that_fails_ends_the_process_with_its_reason() -> None:
    code, logged = exit_code_of("""
        import asyncio, logging
        from inference_worker.agent import or_exit

        logging.basicConfig()

        async def work():
            raise RuntimeError("the script is broken")

        asyncio.run(or_exit(work()))
    """)
    assert code == EXIT_FAILED
    assert "the script is broken" in logged


@pytest.mark.parametrize(("lag", "retries", "expected"), [(5, "0", EXIT_STALLED), (0, "0", 0), (5, "next(ticks)", 0)])
def test_the_watchdog_ends_a_worker_that_gets_nothing_done(lag: int, retries: str, expected: int) -> None:
    """With nothing waiting, or while Redis is being retried, standing still is right."""
    code, _ = exit_code_of(f"""
        import asyncio, itertools
        from types import SimpleNamespace
        from inference_worker import agent

        agent.STATE_EVERY_S = 0.02
        ticks = itertools.count()

        class Store:
            @property
            def retries(self):
                return {retries}

        app = SimpleNamespace(
            lag=lambda: {lag},
            consumer=SimpleNamespace(assignment=lambda: []),
            pipeline=SimpleNamespace(ledger=SimpleNamespace(acknowledged=7)),
            store=Store(),
            settings=SimpleNamespace(watchdog_s=0.3),
        )

        async def main():
            try:
                await asyncio.wait_for(agent.report_forever(app), 1.5)
            except TimeoutError:
                pass

        asyncio.run(main())
    """)
    assert code == expected


class Taker:
    """A pipeline that takes so many records."""

    def __init__(self, room: int) -> None:
        self.room, self.taken = room, []

    async def submit(self, delivered: Delivered, partition: Partition, acknowledge: Callable[[], object]) -> bool:
        if len(self.taken) == self.room:
            return False
        self.taken.append((delivered, partition))
        acknowledge()
        return True


def app_of(pipeline: Taker, acknowledged: list[tuple[TP, int]]) -> Any:
    consumer = SimpleNamespace(acknowledge=lambda tp, offset: acknowledged.append((tp, offset)))
    return SimpleNamespace(pipeline=pipeline, consumer=consumer)


def message(offset: int, *, value: bytes | None = b"...", headers: HeadersArg = None, at_s: float | None = 1.5) -> Any:
    return ConsumerMessage("live.posts", 2, offset, at_s, 0, headers, b"x:1", value, None)


async def test_records_of_a_chunk_have_their_places_runs_and_acknowledgements() -> None:
    run, place = ("run", b"r1"), ("place", b"31:1772366400000")
    messages = [
        message(7, headers=[run]),
        message(8, value=None, at_s=None),
        message(9, headers=[run, place]),
    ]
    pipeline, acknowledged = Taker(3), []
    await submit(app_of(pipeline, acknowledged), Chunk(messages))
    assert pipeline.taken == [
        (Delivered(b"...", b"x:1", Position(2, 7, 1500), "r1", 7, sent_at_s=1.5), ("live.posts", 2)),
        (Delivered(b"", b"x:1", Position(2, 8, 0), "none", 8), ("live.posts", 2)),
        (
            Delivered(b"...", b"x:1", Position(2, 31, 1_772_366_400_000), "r1", 9, sent_at_s=1.5, is_placed=True),
            ("live.posts", 2),
        ),
    ]
    assert acknowledged == [(("live.posts", 2), offset) for offset in (7, 8, 9)]


async def test_after_a_record_that_is_not_taken_none_of_its_chunk_is() -> None:
    pipeline, acknowledged = Taker(1), []
    await submit(app_of(pipeline, acknowledged), Chunk([message(7), message(8), message(9)]))
    assert [delivered.offset for delivered, _ in pipeline.taken] == [7]
    assert acknowledged == [(("live.posts", 2), 7)]


class SlowBroker:
    """A topic whose broker fails with these, one after the other."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)

    async def declare(self) -> None:
        if self.failures:
            raise self.failures.pop(0)

    def get_topic_name(self) -> str:
        return "live.dead-letters"


async def test_a_topic_is_made_once_its_broker_is_up_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference_worker.agent.DEAD_LETTER_RETRY_S", 0.0)
    topic: Any = SlowBroker(RequestTimedOutError(), KafkaConnectionError())
    await declare(topic)
    assert topic.failures == []


async def test_a_right_that_lacks_is_not_waited_for() -> None:
    topic: Any = SlowBroker(TopicAuthorizationFailedError())
    with pytest.raises(TopicAuthorizationFailedError):
        await declare(topic)


def test_the_application_is_set_up_as_the_guarantees_need() -> None:
    app = create_app(Settings(namespace="t", kafka="a:1,b:2"), SimpleNamespace(name="m 1"))  # type: ignore[arg-type]
    assert app.conf.id == "t.inference-worker"
    assert [str(url) for url in app.conf.broker] == ["kafka://a:1", "kafka://b:2"]
    assert app.conf.stream_wait_empty is False
    assert app.conf.consumer_auto_offset_reset == "earliest"
    assert app.conf.web_enabled is False
    assert app.conf.producer_acks == -1
    (agent,) = app.agents.values()
    assert agent.concurrency == 1
    assert isinstance(app.consumer, ChunkConsumer)


def test_a_shadow_begins_with_what_comes_now() -> None:
    """In a group of its own, on the topic of the namespace it shadows."""
    settings = Settings(namespace="t-new", shadowed="t")
    app = create_app(settings, SimpleNamespace(name="m 1"))  # type: ignore[arg-type]
    assert (app.conf.id, app.conf.consumer_auto_offset_reset) == ("t-new.inference-worker", "latest")
    (agent,) = app.agents.values()
    assert agent.channel.topics == ("t.posts",)
    assert app.dead_letters.topics == ("t-new.dead-letters",)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("NAMESPACE", "Live!", "namespace 'Live!': use 1 to 63 lower-case letters"),
        ("KIND", "dead", "MOODSTREAM_KIND='dead': use one of live, sample, replay"),
        ("PARTITIONS", "0", "MOODSTREAM_PARTITIONS='0': use a whole number, at least 1"),
        ("WORKER_HEALTH", "9102", "MOODSTREAM_WORKER_HEALTH is '9102': use host:port, for example 127.0.0.1:9102"),
        ("TRACES", "4318", "MOODSTREAM_TRACES is '4318': use a URL, for example http://127.0.0.1:4318/v1/traces"),
        ("LOG", "xml", "MOODSTREAM_LOG is 'xml': use plain or json"),
        ("SESSION_TIMEOUT_S", "soon", "MOODSTREAM_SESSION_TIMEOUT_S='soon': use seconds, more than 0"),
    ],
)
def test_a_bad_setting_is_named_with_its_value_and_the_remedy(variable: str, value: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings.from_env({f"MOODSTREAM_{variable}": value})


def test_replays_keep_everything_and_secrets_stay_out_of_repr() -> None:
    settings = Settings.from_env({"MOODSTREAM_KIND": "replay", "MOODSTREAM_REDIS": "redis://me:secret@host:1/0"})
    assert (settings.rollup_retention_s, settings.post_retention_s, settings.results_kept) == (0, 0, 0)
    assert "secret" not in repr(settings)
    assert "host:1" in repr(settings)
