"""Checks of Redis, each in its good and its bad case, on a real store."""

from __future__ import annotations

import asyncio
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from redis import Redis
from redis.exceptions import ResponseError

from deploy.checks import store
from deploy.checks.finding import CannotTell, Deployment, Finding
from deploy.servers import start_store
from inference_worker.contract import Meta, WorkerState, meta_key, worker_key, workers_key
from inference_worker.settings import Settings as WorkerSettings
from ingest.settings import Settings as IngestSettings

Look = Callable[[Deployment], Finding]


def deployment(url: str, clock_s: Callable[[], float] = time.time, **worker: object) -> Deployment:
    return Deployment(worker=WorkerSettings(redis=url, **worker), ingest=IngestSettings(), clock_s=clock_s)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the store keeps its files."""
    (tmp_path / "kept").mkdir()
    return tmp_path / "kept"


@pytest.fixture
def url(tmp_path: Path, folder: Path) -> Iterator[str]:
    with asyncio.Runner() as runner:
        child, url = runner.run(start_store(tmp_path / "store.log", folder))
        yield url
        runner.run(child.stop())


@pytest.fixture
def redis(url: str) -> Iterator[Redis]:
    with Redis.from_url(url) as client:
        yield client


def test_a_store_as_the_product_starts_it_has_nothing_amiss(url: str) -> None:
    levels = {check.name: check.look(deployment(url)).level for check in store.CHECKS}
    assert levels.pop("workers") == "warn"  # none has been started
    assert set(levels.values()) == {"ok"}, levels


def test_the_server_is_told_by_name_and_version(url: str, redis: Redis) -> None:
    found = store.server(deployment(url))
    assert found.found.startswith(f"Valkey {redis.info('server')['valkey_version']}, standalone, at redis://127.0.0.1:")


@pytest.mark.parametrize(
    ("info", "level"),
    [({"redis_version": "6.2.14"}, "fail"), ({"redis_version": "7.0.15"}, "ok"), ({"redis_version": "8.6.0"}, "ok")],
)
def test_an_old_redis_is_refused(info: dict[str, str], level: str) -> None:
    found = store.judged_server(info, "redis://store")
    assert (found.level, found.found) == (level, f"Redis {info['redis_version']}, standalone, at redis://store")


def test_an_evicting_redis_fails_with_the_command_that_mends_it(url: str, redis: Redis) -> None:
    redis.config_set("maxmemory-policy", "allkeys-lru")
    found = store.eviction(deployment(url))
    assert (found.level, found.found) == ("fail", "maxmemory-policy is allkeys-lru")
    assert found.remedy.startswith("CONFIG SET maxmemory-policy noeviction")
    redis.config_set("maxmemory-policy", "noeviction")
    assert store.eviction(deployment(url)).level == "ok"


@pytest.mark.parametrize(("share", "level"), [(2.0, "ok"), (1.15, "warn"), (1.01, "fail")])
def test_a_redis_that_fills_up_is_told_before_it_is_full(url: str, redis: Redis, share: float, level: str) -> None:
    redis.set("ballast", bytes(20 << 20))
    redis.config_set("maxmemory", int(redis.info("memory")["used_memory"] * share))
    found = store.memory(deployment(url))
    assert found.level == level, found
    assert "no maxmemory" not in found.found


def test_a_store_without_an_append_only_file_forgets(url: str, redis: Redis) -> None:
    redis.config_set("appendonly", "no")
    assert store.persistence(deployment(url)).level == "warn"


def test_a_snapshot_that_failed_may_stop_writes(url: str, redis: Redis, folder: Path) -> None:
    shutil.rmtree(folder)
    redis.bgsave()
    until(lambda: redis.info("persistence")["rdb_last_bgsave_status"] == "err")
    found = store.persistence(deployment(url))
    assert found.level == "fail" and "the last snapshot failed" in found.found


def test_an_append_only_file_that_cannot_be_written_fails(url: str, redis: Redis, folder: Path) -> None:
    shutil.rmtree(folder)
    with pytest.raises(ResponseError):
        redis.bgrewriteaof()
    assert redis.info("persistence")["aof_last_bgrewrite_status"] == "err"
    found = store.persistence(deployment(url))
    assert found.level == "fail" and "append-only file cannot be written" in found.found


def until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_number_of_shards_is_the_one_stored(url: str, redis: Redis) -> None:
    assert store.shards(deployment(url, shards=3)).found == "namespace live is new, and will have 3"
    redis.set(meta_key("live"), msgspec.msgpack.encode(Meta(shards=3)))
    assert store.shards(deployment(url, shards=3)) == ("ok", "namespace live has 3", "")
    found = store.shards(deployment(url, shards=8))
    assert found.level == "warn" and found.remedy.startswith("set it to 3")
    redis.set(meta_key("live"), msgspec.msgpack.encode(Meta(shards=3, schema=99)))
    assert store.shards(deployment(url, shards=3)).level == "fail"


def test_workers_are_told_and_that_they_should_be_alike(url: str, redis: Redis) -> None:
    def publish(name: str, model: str) -> None:
        now = datetime.now(UTC)
        state = WorkerState(name=name, model=model, engine="onnx", started_at=now, updated_at=now, posts_per_s=40)
        redis.sadd(workers_key("live"), name)
        redis.set(worker_key("live", name), msgspec.msgpack.encode(state), ex=15)

    publish("a", "mdse 1")
    publish("b", "mdse 1")
    assert store.workers(deployment(url)) == ("ok", "2 alive, 80 posts/s, mdse 1 on onnx", "")
    publish("c", "mdse 2")
    found = store.workers(deployment(url))
    assert found.level == "warn" and "of mdse 1 on onnx, mdse 2 on onnx" in found.found


def as_user(url: str, redis: Redis, *rules: str) -> str:
    redis.execute_command("ACL", "SETUSER", "worker", "on", ">hidden", "~*", "+@all", *rules)
    return url.replace("redis://", "redis://worker:hidden@")


def test_a_user_who_may_not_run_scripts_fails(url: str, redis: Redis) -> None:
    assert store.script(deployment(url)).level == "ok"
    found = store.script(deployment(as_user(url, redis, "-@scripting")))
    assert found.level == "fail" and "+@scripting" in found.remedy
    assert "hidden" not in found.found + found.remedy


def test_the_script_writes_nothing(url: str, redis: Redis) -> None:
    store.script(deployment(url))
    assert redis.dbsize() == 0


def test_what_a_user_may_not_ask_is_a_warning(url: str, redis: Redis) -> None:
    with pytest.raises(CannotTell) as told:
        store.eviction(deployment(as_user(url, redis, "-info")))
    assert told.value.finding.level == "warn" and "info" in told.value.finding.found


@pytest.mark.parametrize(
    ("ahead_s", "level", "said"),
    [(0.0, "ok", "Redis"), (5.0, "warn", "ahead of"), (-5.0, "warn", "behind"), (600.0, "fail", "ahead of")],
)
def test_clocks_that_differ_are_told(url: str, ahead_s: float, level: str, said: str) -> None:
    found = store.clock(deployment(url, lambda: time.time() + ahead_s))
    assert (found.level, said in found.found) == (level, True), found


@pytest.mark.parametrize("look", [check.look for check in store.CHECKS], ids=[check.name for check in store.CHECKS])
def test_a_dead_redis_is_told_once_and_pointed_at_by_the_rest(look: Look) -> None:
    dead = deployment("redis://:hidden@127.0.0.1:1/0")
    if look is store.server:
        found = look(dead)
        assert found.found.startswith("redis://***@127.0.0.1:1/0 does not answer (")
    else:
        with pytest.raises(CannotTell) as told:
            look(dead)
        found = told.value.finding
        assert found.remedy == "see the check `redis`"
    assert found.level == "fail"


def test_a_wrong_password_is_told_without_it(url: str, redis: Redis) -> None:
    as_user(url, redis)
    found = store.server(deployment(url.replace("redis://", "redis://worker:mistaken@")))
    assert found.level == "fail" and "the user or password is not known" in found.found
    assert "mistaken" not in found.found


def test_a_server_that_never_answers_takes_no_longer_than_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = store.server(deployment(f"redis://127.0.0.1:{silent.getsockname()[1]}/0"))
    assert found.level == "fail" and "Timeout" in found.found
