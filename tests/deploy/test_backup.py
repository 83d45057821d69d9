"""`moodstream backup`: a whole copy or none, of whatever Redis the settings name, which a server starts from."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from redis import Redis

from deploy.backup import _pieces, written
from deploy.cli import main
from deploy.errors import StackFailed
from deploy.servers import free_port, start_store
from tests import own_redis
from tests.own_redis import OwnRedis
from tests.redis_cluster import until
from tests.secured import Secured, start_redis, write_certificates

MANY = 20_000


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[OwnRedis]:
    with own_redis.started(tmp_path / "redis") as server:
        yield server


def fill(client: Redis) -> None:
    """More than one piece of a copy."""
    with client.pipeline(transaction=False) as pipeline:
        for number in range(MANY):
            pipeline.set(f"key:{number}", f"{number}" * 20)
        pipeline.execute()


def test_the_embedded_store_starts_from_its_copy(
    runner: asyncio.Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, anew, copy = tmp_path / "kept", tmp_path / "anew", tmp_path / "copy.rdb"
    kept.mkdir()
    anew.mkdir()
    store, url = runner.run(start_store(tmp_path / "store.log", kept))
    try:
        with Redis.from_url(url) as client:
            client.config_set("repl-diskless-sync-delay", 0)
            fill(client)
            monkeypatch.setenv("MOODSTREAM_REDIS", url)
            assert main(["backup", str(copy)]) == 0
            client.set("later", "1")
    finally:
        runner.run(store.stop())
    assert capsys.readouterr().out == f"{copy} holds all of {url}: {copy.stat().st_size:,} bytes\n"
    assert copy.stat().st_mode & 0o777 == 0o600
    copy.rename(anew / "appendonly.aof")
    store, url = runner.run(start_store(tmp_path / "store.log", anew))
    try:
        with Redis.from_url(url) as client:
            assert (client.dbsize(), client.get("later")) == (MANY, None)
    finally:
        runner.run(store.stop())


def test_its_user_takes_a_copy_over_tls_and_may_do_nothing_else(
    runner: asyncio.Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if (reason := own_redis.missing()) is not None:
        pytest.skip(reason)
    secured, copy = Secured(tmp_path), tmp_path / "copy.rdb"
    write_certificates(tmp_path)
    stack = AsyncExitStack()
    try:
        runner.run(start_redis(secured, "live", stack))
        with Redis.from_url(secured.admin_redis) as client:
            client.config_set("repl-diskless-sync-delay", 0)
        for user, code, said in (
            ("moodstream-operator", 1, "refuses: the user lacks a right: "),
            ("moodstream-backup", 0, f"{copy} holds all of rediss://"),
        ):
            for name, value in secured.redis_environment(user).items():
                monkeypatch.setenv(name, value)
            assert main(["backup", str(copy)]) == code
            told = capsys.readouterr()
            assert said in told.out + told.err
            assert copy.exists() is (code == 0)
        monkeypatch.setenv("MOODSTREAM_NAMESPACE", "live")
        assert main(["dead-letters", "list"]) == 1
        assert "refuses: the user lacks a right: " in capsys.readouterr().err
    finally:
        runner.run(stack.aclose())
    assert subprocess.run(["redis-check-rdb", copy], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("diskless", ["yes", "no"])
def test_a_copy_is_whole_however_redis_sends_it(
    redis: OwnRedis, diskless: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy.rdb"
    copy.write_text("an older one")
    fill(redis.client)
    redis.client.config_set("repl-diskless-sync", diskless)
    monkeypatch.setenv("MOODSTREAM_REDIS", redis.url)
    assert main(["backup", str(copy), "--json"]) == 0
    assert subprocess.run(["redis-check-rdb", copy], capture_output=True, check=False).returncode == 0
    assert redis.client.info("replication")["connected_slaves"] == 0


def test_a_node_of_a_cluster_starts_from_its_own_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port, copy = str(free_port()), tmp_path / "copy.rdb"
    with own_redis.started(tmp_path / "node", "--cluster-enabled", "yes", "--cluster-port", port) as node:

        def is_whole() -> bool:
            return bool(node.client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")

        node.client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        until(is_whole, "the cluster is whole")
        fill(node.client)
        monkeypatch.setenv("MOODSTREAM_REDIS", node.url)
        assert main(["backup", str(copy)]) == 0
        node.kill()
        shutil.rmtree(node.folder / "appendonlydir")
        shutil.copy(copy, node.folder / "appendonly.aof")
        node.start()
        until(is_whole, "the cluster is whole again")
        assert (node.client.dbsize(), node.client.get("key:7")) == (MANY, b"7" * 20)


@pytest.mark.parametrize(
    "sent",
    [b"", b"\n\n", b"$10\r\nREDIS", b"$EOF:" + b"m" * 40 + b"\r\nREDIS0010 and the end is lacking" + b"m" * 39],
    ids=["nothing", "patience alone", "less than told", "no mark"],
)
def test_a_copy_that_breaks_off_is_not_kept(sent: bytes, tmp_path: Path) -> None:
    (tmp_path / "sent").write_bytes(sent)
    (tmp_path / "copies").mkdir()
    copy = tmp_path / "copies" / "copy.rdb"
    copy.write_text("an older one")
    with (tmp_path / "sent").open("rb") as stream, pytest.raises(StackFailed, match=r"broke off|gives no copy"):
        written(_pieces(stream), copy)
    assert [(file.name, file.read_text()) for file in copy.parent.iterdir()] == [("copy.rdb", "an older one")]


def test_what_stands_in_the_way_is_told_in_a_line(
    redis: OwnRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for address, file, code, said in (
        ("redis-cluster://127.0.0.1:1", "copy.rdb", 2, "is a cluster: take one copy of each primary, with redis://"),
        ("redis://127.0.0.1:1/0", "copy.rdb", 1, "does not answer"),
        ("http://127.0.0.1", "copy.rdb", 2, "MOODSTREAM_REDIS is no address of a Redis"),
        (redis.url, "missing/copy.rdb", 1, "missing/copy.rdb cannot be written: No such file or directory"),
    ):
        monkeypatch.setenv("MOODSTREAM_REDIS", address)
        assert main(["backup", str(tmp_path / file)]) == code
        assert said in capsys.readouterr().err
    monkeypatch.setenv("MOODSTREAM_REDIS", redis.url)
    redis.client.execute_command("REPLICAOF", "127.0.0.1", 1)
    assert main(["backup", str(tmp_path / "copy.rdb")]) == 1
    assert "Redis gives no copy of itself (NOMASTERLINK" in capsys.readouterr().err
