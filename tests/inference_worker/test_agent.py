"""The faust side: what it makes of a record, and that a worker that cannot work is gone rather than idle."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inference_worker.agent import EXIT_FAILED, EXIT_STALLED, create_app, submit
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


async def test_an_event_becomes_a_record_with_its_place_run_and_acknowledgement() -> None:
    submitted: list[Any] = []

    async def take(*arguments: Any) -> None:
        submitted.append(arguments)

    app = SimpleNamespace(pipeline=SimpleNamespace(submit=take))
    message = SimpleNamespace(
        topic="live.posts", partition=2, offset=7, timestamp=1.5, key=b"x:1", value=b"...", headers=[("run", b"r1")]
    )
    event = SimpleNamespace(message=message, ack=lambda: None)
    await submit(app, event)  # type: ignore[arg-type]
    message.headers, message.value, message.timestamp = None, None, None
    await submit(app, event)  # type: ignore[arg-type]
    assert submitted == [
        (Delivered(b"...", b"x:1", Position(2, 7, 1500), "r1"), ("live.posts", 2), event.ack),
        (Delivered(b"", b"x:1", Position(2, 7, 0), "none"), ("live.posts", 2), event.ack),
    ]


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


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("NAMESPACE", "Live!", "namespace 'Live!': use 1 to 63 lower-case letters"),
        ("KIND", "dead", "MOODSTREAM_KIND='dead': use one of live, sample, replay"),
        ("PARTITIONS", "0", "MOODSTREAM_PARTITIONS='0': use a whole number, at least 1"),
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
