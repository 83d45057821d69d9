from __future__ import annotations

from pathlib import Path

import pytest
import trustme
from redis.connection import parse_url
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from inference_worker.redis_access import masked, redis_refusal, redis_trouble, redis_url
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


@pytest.mark.parametrize("url", ["redis://u:se/cr?et@h:1/0", "rediss://:secret@h:1/0?ssl_ca_certs=/c"])
def test_what_is_shown_of_a_url_has_no_secret(url: str) -> None:
    assert masked(url).endswith("//***@h:1/0")


WRONG = {
    "scheme": ({"MOODSTREAM_REDIS": "localhost:6379"}, "use redis://, rediss:// "),
    "no password": ({"MOODSTREAM_REDIS_USERNAME": "ann"}, "without a password"),
    "no TLS": ({"MOODSTREAM_REDIS_CA_FILE": "{ca}"}, "begin it with rediss://"),
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
