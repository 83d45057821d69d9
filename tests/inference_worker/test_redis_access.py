from __future__ import annotations

from pathlib import Path

import pytest
import trustme
from redis.connection import parse_url
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from inference_worker.redis_access import (
    connect,
    connect_async,
    masked,
    node_urls,
    redis_refusal,
    redis_trouble,
    redis_url,
)
from inference_worker.settings import Settings


def test_user_password_and_certificates_go_into_the_url(tmp_path: Path) -> None:
    authority = tmp_path / "c a.pem"
    trustme.CA().cert_pem.write_to_path(authority)
    (tmp_path / "password").write_text("p@ss/w:rd?\n")
    told = {
        "MOODSTREAM_REDIS": "rediss://old:gone@r:6380/1",
        "MOODSTREAM_REDIS_USERNAME": "ann",
        "MOODSTREAM_REDIS_PASSWORD_FILE": str(tmp_path / "password"),
        "MOODSTREAM_REDIS_CA_FILE": str(authority),
    }
    found = parse_url(redis_url(told))
    assert (found["username"], found["password"], found["ssl_ca_certs"]) == ("ann", "p@ss/w:rd?", str(authority))
    assert (found["host"], found["port"], found["db"]) == ("r", 6380, 1)
    assert redis_url({**told, "MOODSTREAM_REDIS": redis_url(told)}) == redis_url(told)
    assert "p%40ss" not in repr(Settings.from_env(told)) and "rediss://***@r:6380/1" in repr(Settings.from_env(told))


def test_a_url_alone_stays_as_it_is() -> None:
    assert redis_url({}) == "redis://localhost:6379/0"
    assert redis_url({"MOODSTREAM_REDIS": "redis://u:p@h/3?timeout=2"}) == "redis://u:p@h/3?timeout=2"


def test_a_cluster_is_named_by_some_of_its_nodes(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(authority)
    told = {
        "MOODSTREAM_REDIS": "rediss-cluster://a:7000,[::1]:7001,c",
        "MOODSTREAM_REDIS_USERNAME": "ann",
        "MOODSTREAM_REDIS_PASSWORD": "p,@",
        "MOODSTREAM_REDIS_CA_FILE": str(authority),
    }
    nodes = [parse_url(node) for node in node_urls(redis_url(told))]
    assert [(node["host"], node.get("port")) for node in nodes] == [("a", 7000), ("::1", 7001), ("c", None)]
    assert {(node["username"], node["password"], node["ssl_ca_certs"]) for node in nodes} == {
        ("ann", "p,@", str(authority))
    }
    assert masked(redis_url(told)) == "rediss-cluster://***@a:7000,[::1]:7001,c"


def test_a_cluster_that_is_away_fails_as_one_server_does() -> None:
    client = connect("redis-cluster://127.0.0.1:1")
    with pytest.raises(RedisConnectionError):
        client.get("a")
    with pytest.raises(RedisConnectionError):
        client.pipeline(transaction=False)
    client.close()


async def test_so_it_does_in_an_event_loop() -> None:
    async with connect_async("redis-cluster://127.0.0.1:1", socket_connect_timeout=1) as client:
        with pytest.raises(RedisConnectionError):
            await client.get("a")
        pipeline = client.pipeline(transaction=False)
        pipeline.get("a")
        with pytest.raises(RedisConnectionError):
            await pipeline.execute()


@pytest.mark.parametrize("url", ["redis://u:se/cr?et@h:1/0", "rediss://:secret@h:1/0?ssl_ca_certs=/c"])
def test_what_is_shown_of_a_url_has_no_secret(url: str) -> None:
    assert masked(url).endswith("//***@h:1/0")


WRONG = {
    "scheme": ({"MOODSTREAM_REDIS": "localhost:6379"}, "use redis://, rediss:// "),
    "no password": ({"MOODSTREAM_REDIS_USERNAME": "ann"}, "without a password"),
    "no TLS": ({"MOODSTREAM_REDIS_CA_FILE": "{ca}"}, "begin it with rediss://"),
    "no TLS of a cluster": (
        {"MOODSTREAM_REDIS": "redis-cluster://a:1", "MOODSTREAM_REDIS_CA_FILE": "{ca}"},
        "begin it with rediss-cluster://",
    ),
    "a cluster's database": ({"MOODSTREAM_REDIS": "redis-cluster://a:1/2"}, "database '2': a cluster has 0 alone"),
    "a node's port": ({"MOODSTREAM_REDIS": "redis-cluster://a:1,b:x"}, "nodes 'a:1,b:x': use HOST:PORT"),
    "a node's host": ({"MOODSTREAM_REDIS": "redis-cluster://a:1,"}, "nodes 'a:1,': use HOST:PORT"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_used_is_named_with_a_remedy(tmp_path: Path, case: str) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    environ, told = WRONG[case]
    with pytest.raises(ValueError, match=told):
        redis_url({name: value.format(ca=tmp_path / "ca.pem") for name, value in environ.items()})


def test_refusals_are_told_from_silence() -> None:
    unknown = redis_refusal(AuthenticationError("invalid username-password pair or user is disabled."))
    assert unknown is not None and "MOODSTREAM_REDIS_PASSWORD_FILE" in unknown.remedy
    denied = redis_refusal(NoPermissionError("User ann has no permissions to run the 'set' command"))
    assert denied is not None and denied.problem.endswith("run the 'set' command")
    assert redis_refusal(RedisConnectionError("refused")) is None and redis_refusal(ResponseError("x")) is None
    assert redis_trouble(RedisConnectionError("refused"), "redis://u:p@h/0").startswith(
        "Redis at redis://***@h/0 does not answer (refused): start it"
    )
