from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme
from aiokafka.errors import SaslAuthenticationFailed, TopicAuthorizationFailedError

from ingest.errors import BadSettings
from ingest.kafka_access import KafkaAccess, why_refused
from ingest.settings import Settings
from ingest.tls import tls_refusal

SASL = {
    "MOODSTREAM_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "MOODSTREAM_KAFKA_USERNAME": "ann",
    "MOODSTREAM_KAFKA_PASSWORD": "hunter2",
}


def test_without_a_protocol_nothing_is_asked_of_the_client() -> None:
    assert KafkaAccess.from_env({}).options() == {}


def test_a_password_comes_from_its_file_and_is_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("hunter2\n")
    access = KafkaAccess.from_env(
        {**SASL, "MOODSTREAM_KAFKA_PASSWORD": "", "MOODSTREAM_KAFKA_PASSWORD_FILE": str(file)}
    )
    options = access.options()
    assert (options["sasl_plain_password"], options["sasl_mechanism"]) == ("hunter2", "SCRAM-SHA-512")
    assert options["ssl_context"].verify_mode is ssl.CERT_REQUIRED and options["ssl_context"].check_hostname
    assert "hunter2" not in repr(access) and "hunter2" not in repr(Settings(kafka_access=access))


WRONG = {
    "protocol": ({"MOODSTREAM_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"}, "use one of PLAINTEXT, SSL, SASL_SSL"),
    "mechanism": ({**SASL, "MOODSTREAM_KAFKA_SASL_MECHANISM": "MD5"}, "use one of SCRAM-SHA-512"),
    "no password": ({**SASL, "MOODSTREAM_KAFKA_PASSWORD": ""}, "needs a user and a password"),
    "two passwords": ({**SASL, "MOODSTREAM_KAFKA_PASSWORD_FILE": "/p"}, "both set: set one"),
    "no such file": (
        {**SASL, "MOODSTREAM_KAFKA_PASSWORD": "", "MOODSTREAM_KAFKA_PASSWORD_FILE": "/nowhere"},
        "MOODSTREAM_KAFKA_PASSWORD_FILE='/nowhere' cannot be read",
    ),
    "no such authority": ({**SASL, "MOODSTREAM_KAFKA_CA_FILE": "/nowhere"}, "CA_FILE='/nowhere' is no file"),
    "a key alone": ({**SASL, "MOODSTREAM_KAFKA_KEY_FILE": "/k"}, "is set without MOODSTREAM_KAFKA_CERT_FILE"),
    "no PEM": ({**SASL, "MOODSTREAM_KAFKA_CA_FILE": __file__}, "cannot be used"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_used_is_named_with_a_remedy(case: str) -> None:
    environ, told = WRONG[case]
    with pytest.raises(BadSettings, match=told) as caught:
        Settings.from_env(environ)
    assert "hunter2" not in str(caught.value)


def test_what_kafka_says_of_users_and_rights_has_a_remedy() -> None:
    access = KafkaAccess(username="ann")
    unknown, denied = (
        access.refusal(SaslAuthenticationFailed("no")),
        access.refusal(TopicAuthorizationFailedError("live.posts")),
    )
    assert unknown is not None and unknown.problem == "user 'ann' with this password is not known"
    assert denied is not None and denied.problem == "user 'ann' lacks a right: topic live.posts"
    assert denied.remedy == "grant it, as deploy/security/kafka-acls.sh does"


async def test_silence_is_no_refusal() -> None:
    assert access_refusal(OSError("refused")) is None
    assert await why_refused(TimeoutError(), "localhost:1", KafkaAccess()) is None


def access_refusal(error: Exception) -> object:
    return KafkaAccess().refusal(error)


HANDSHAKES = {
    "unknown authority": "its certificate is by an unknown authority",
    "another name": "its certificate is another's",
    "no TLS": "no TLS handshake",
}


@pytest.mark.parametrize("case", HANDSHAKES)
async def test_a_failed_handshake_says_what_is_wrong_with_the_certificate(tmp_path: Path, case: str) -> None:
    authority, shown = trustme.CA(), "elsewhere.example" if case == "another name" else "localhost"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(shown).configure_cert(context)
    (trustme.CA() if case == "unknown authority" else authority).cert_pem.write_to_path(tmp_path / "ca.pem")
    access = KafkaAccess.from_env({**SASL, "MOODSTREAM_KAFKA_CA_FILE": str(tmp_path / "ca.pem")})

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello, no TLS here")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=None if case == "no TLS" else context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(OSError) as caught:
            await asyncio.open_connection("localhost", port, ssl=access.files.context())
    refusal = tls_refusal(caught.value, "MOODSTREAM_KAFKA")
    assert refusal is not None and refusal.problem.startswith(HANDSHAKES[case])
