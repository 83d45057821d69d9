from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from redis.asyncio import Redis

from deploy.errors import Misuse, StackFailed
from deploy.local import BACKOFF_S, SHORT_LIVES, WATCH_S, LocalStack, open_stack
from deploy.servers import kafka_answers, redis_answers
from deploy.settings import Settings


async def until(condition: object, timeout_s: float = 15.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def program(folder: Path, body: str) -> dict[str, str]:
    """A module `made_up` for a service to run: the environment in which it is found."""
    (folder / "made_up.py").write_text(f"import sys, time\nprint('started', flush=True)\n{body}\n")
    return {"PYTHONPATH": str(folder)}


async def test_broker_and_store_answer_and_end_with_the_stack() -> None:
    async with open_stack() as stack:
        assert await kafka_answers(stack.kafka)
        assert await redis_answers(stack.redis)
        assert stack.broker is not None and stack.store is not None
    assert stack.broker.exit_code() is not None
    assert stack.store.exit_code() is not None
    assert not stack.log_dir.exists()


async def test_broker_keeps_keys_headers_and_times_of_records() -> None:
    async with open_stack() as stack:
        async with AIOKafkaProducer(bootstrap_servers=stack.kafka) as producer:
            await producer.send_and_wait("t", b"v", key=b"k", headers=[("run", b"r")], timestamp_ms=1424000000123)
        async with AIOKafkaConsumer("t", bootstrap_servers=stack.kafka, auto_offset_reset="earliest") as consumer:
            record = await consumer.getone()
    assert (record.key, record.value, record.timestamp) == (b"k", b"v", 1424000000123)
    assert record.headers == (("run", b"r"),)


async def test_keep_brings_results_back(tmp_path: Path) -> None:
    for expected, value in ((None, "one"), (b"one", "two"), (b"two", "three")):
        async with open_stack(keep=tmp_path / "kept") as stack, Redis.from_url(stack.redis) as redis:
            assert await redis.get("mood") == expected
            await redis.set("mood", value)
    assert (tmp_path / "kept" / "logs" / "store.log").exists()


async def test_without_keep_a_stack_starts_empty() -> None:
    for _ in range(2):
        async with open_stack() as stack, Redis.from_url(stack.redis) as redis:
            assert await redis.dbsize() == 0
            await redis.set("mood", "one")


async def test_a_running_kafka_and_redis_are_used_instead() -> None:
    async with open_stack() as own, open_stack(Settings(kafka=own.kafka, redis=own.redis)) as stack:
        assert (stack.broker, stack.store) == (None, None)
        assert stack.environment() == {"MOODSTREAM_KAFKA": own.kafka, "MOODSTREAM_REDIS": own.redis}
        assert own.environment()["MOODSTREAM_KAFKA_IDEMPOTENCE"] == "0"


async def test_an_unreachable_redis_is_named_without_its_password() -> None:
    with pytest.raises(
        Misuse, match=r"MOODSTREAM_REDIS='redis://\*\*\*@127.0.0.1:1/0' does not answer: start it"
    ) as error:
        async with open_stack(Settings(redis="redis://me:secret@127.0.0.1:1/0")):
            pass
    assert "secret" not in str(error.value)


async def test_a_dead_broker_ends_the_stack_with_its_log() -> None:
    with pytest.raises(StackFailed, match="the broker died .killed by SIGKILL.: what it held is gone, .*broker.log"):
        async with open_stack() as stack, stack.watched():
            assert stack.broker is not None
            stack.broker.kill()
            await asyncio.sleep(10)


async def test_a_dead_store_is_told_with_the_remedy_of_whoever_opened_the_stack(tmp_path: Path) -> None:
    with pytest.raises(StackFailed, match="the store died .killed by SIGKILL.: go on with what is kept"):
        async with open_stack(keep=tmp_path, remedy="go on with what is kept") as stack, stack.watched():
            assert stack.store is not None
            stack.store.kill()
            await asyncio.sleep(10)


async def test_a_crashed_service_is_brought_back_and_counted(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path, kafka="k", redis="r")
    async with stack.watched():
        service = stack.run("sleeper", "made_up", environment=program(tmp_path, "time.sleep(60)"))
        first = service.child
        await until(lambda: "started" in first.log_tail())
        first.kill()
        await until(lambda: service.restarts == 1 and service.child.exit_code() is None)
        assert service.child.pid != first.pid
    await stack.stop()


async def test_a_paused_service_is_gone_until_the_pause_is_over(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path, kafka="k", redis="r")
    async with stack.watched():
        service = stack.run("sleeper", "made_up", environment=program(tmp_path, "time.sleep(60)"))
        await until(lambda: "started" in service.child.log_tail())
        async with stack.paused(service):
            await asyncio.sleep(3 * WATCH_S)
            assert service.child.exit_code() is not None and service.restarts == 0
        await until(lambda: service.restarts == 1 and service.child.exit_code() is None)
    await stack.stop()


async def test_a_service_paused_again_and_again_is_not_one_that_dies(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path, kafka="k", redis="r")
    async with stack.watched():
        service = stack.run("sleeper", "made_up", environment=program(tmp_path, "time.sleep(60)"))
        for pauses in range(1, SHORT_LIVES + 2):
            async with stack.paused(service):
                began = time.monotonic()
            await until(lambda: service.restarts == pauses and service.child.exit_code() is None)  # noqa: B023
            assert time.monotonic() - began < min(BACKOFF_S[1:])
        assert service.short_lives == 0
    await stack.stop()


async def test_a_service_that_cannot_start_ends_the_stack(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path, kafka="k", redis="r")
    with pytest.raises(StackFailed, match=f"died {SHORT_LIVES} times in a row .exit code 3"):
        async with stack.watched():
            stack.run("doomed", "made_up", environment=program(tmp_path, "sys.exit(3)"))
            await asyncio.sleep(20)


async def test_a_source_that_ended_stays_ended(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path, kafka="k", redis="r")
    async with stack.watched():
        service = stack.run("once", "made_up", environment=program(tmp_path, ""), keep_running=False)
        await until(lambda: service.child.exit_code() == 0)
        await asyncio.sleep(0.5)
    assert service.restarts == 0
