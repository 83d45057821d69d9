"""How one reaches a Kafka that asks who is there: TLS and SASL, from variables and files alone.

Every client of ours takes `KafkaAccess.options()`. As aiokafka says of a refusal only that it could not connect, why is
found by connecting once more (`why_refused`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from ingest.errors import BrokerRefuses, BrokerUnreachable
from ingest.tls import Refusal, TlsFiles, causes, secret, tls_refusal

PREFIX: Final = "MOODSTREAM_KAFKA"
PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_SSL")
"""Kafka's SASL_PLAINTEXT is left out: it shows records, and with PLAIN the password, to whoever listens."""
MECHANISMS: Final = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")
VARIABLES: Final = (
    "MOODSTREAM_KAFKA_SECURITY_PROTOCOL",
    "MOODSTREAM_KAFKA_SASL_MECHANISM",
    "MOODSTREAM_KAFKA_USERNAME",
    "MOODSTREAM_KAFKA_PASSWORD",
    "MOODSTREAM_KAFKA_PASSWORD_FILE",
    "MOODSTREAM_KAFKA_CA_FILE",
    "MOODSTREAM_KAFKA_CERT_FILE",
    "MOODSTREAM_KAFKA_KEY_FILE",
)
GRANT: Final = "grant it, as deploy/security/kafka-acls.sh does"
CONNECT_TIMEOUT_MS: Final = 5_000
RETRY_S: Final = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class KafkaAccess:
    """protocol, mechanism: in Kafka's words; files: see TlsFiles."""

    protocol: str = "PLAINTEXT"
    mechanism: str = MECHANISMS[0]
    username: str = ""
    password: str = field(default="", repr=False)
    files: TlsFiles = TlsFiles()

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> KafkaAccess:
        """Raises ValueError naming the variable, its value unless it is secret, and what would do."""
        protocol = _one_of(environ, "SECURITY_PROTOCOL", PROTOCOLS)
        if protocol == "PLAINTEXT":
            return cls()
        files = TlsFiles.from_env(PREFIX, environ)
        if protocol == "SSL":
            return cls(protocol=protocol, files=files)
        username, password = environ.get(f"{PREFIX}_USERNAME", ""), secret(f"{PREFIX}_PASSWORD", environ)
        if not username or not password:
            wanted = f"set {PREFIX}_USERNAME, and {PREFIX}_PASSWORD or {PREFIX}_PASSWORD_FILE"
            raise ValueError(f"{PREFIX}_SECURITY_PROTOCOL=SASL_SSL needs a user and a password: {wanted}")
        mechanism = _one_of(environ, "SASL_MECHANISM", MECHANISMS)
        return cls(protocol=protocol, mechanism=mechanism, username=username, password=password, files=files)

    @property
    def is_sasl(self) -> bool:
        return self.protocol == "SASL_SSL"

    def options(self) -> dict[str, Any]:
        """For any client of aiokafka's."""
        if self.protocol == "PLAINTEXT":
            return {}
        options: dict[str, Any] = {"security_protocol": self.protocol, "ssl_context": self.files.context()}
        if self.is_sasl:
            options |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return options

    def refusal(self, error: BaseException) -> Refusal | None:
        """What Kafka refused, of an error that says so; None for one that says only that nothing was heard."""
        from aiokafka import errors  # 0.2 s of imports, which reading settings need not pay

        if (of_tls := tls_refusal(error, PREFIX)) is not None:
            return of_tls
        for cause in causes(error):
            if isinstance(cause, errors.SaslAuthenticationFailed | errors.AuthenticationFailedError):
                remedy = f"set {PREFIX}_USERNAME and {PREFIX}_PASSWORD_FILE to a user and password the brokers know"
                return Refusal(f"user {self.username!r} with this password is not known", remedy)
            if isinstance(cause, errors.UnsupportedSaslMechanismError):
                remedy = f"set {PREFIX}_SASL_MECHANISM to one the brokers offer"
                return Refusal(f"the mechanism {self.mechanism} is not offered", remedy)
            if isinstance(cause, _denials()):
                return Refusal(f"user {self.username or 'ANONYMOUS'!r} lacks a right: {_said(cause)}", GRANT)
        return None


PLAINTEXT: Final = KafkaAccess()


async def why_refused(error: BaseException, servers: str, access: KafkaAccess) -> Refusal | None:
    """As `refusal`, connecting once more to each server until one says why; None if none is heard of."""
    from aiokafka.conn import collect_hosts, create_conn
    from aiokafka.errors import KafkaConnectionError, KafkaError

    if (known := access.refusal(error)) is not None or not isinstance(error, KafkaConnectionError):
        return known
    for host, port, _ in collect_hosts(servers):
        try:
            connection = await create_conn(host, port, request_timeout_ms=CONNECT_TIMEOUT_MS, **access.options())
            connection.close()
        except (KafkaError, OSError) as told:
            if (found := access.refusal(told)) is not None:
                return found
    return None


def refused_by(servers: str, refusal: Refusal) -> BrokerRefuses:
    return BrokerRefuses(servers, refusal.problem, refusal.remedy)


async def broker_error(error: Exception, servers: str, access: KafkaAccess) -> BrokerUnreachable:
    """What to raise when Kafka gave `error`: a refusal with its remedy where it is one."""
    if (refused := await why_refused(error, servers, access)) is not None:
        return refused_by(servers, refused)
    return BrokerUnreachable(servers, str(error) or type(error).__name__)


def may_pass(trouble: Exception) -> bool:
    """Waiting may mend it: nobody refused us."""
    return not isinstance(trouble, BrokerRefuses)


async def awaited(
    ask: Callable[[], Awaitable[Exception | None]],
    may_pass: Callable[[Exception], bool] = may_pass,
    *,
    within_s: float,
    stop: asyncio.Event,
) -> Exception | None:
    """Asks a server again each second while its trouble may pass, which is told once; what is left of it in the end."""
    loop = asyncio.get_running_loop()
    deadline_s, is_told = loop.time() + within_s, False
    while (trouble := await ask()) is not None and may_pass(trouble):
        if stop.is_set() or loop.time() >= deadline_s:
            break
        if not is_told:
            log.warning("%s; trying for %.0f s", trouble, within_s)
            is_told = True
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), RETRY_S)
    return trouble


def _denials() -> tuple[type[Exception], ...]:
    from aiokafka import errors

    return (
        errors.TopicAuthorizationFailedError,
        errors.GroupAuthorizationFailedError,
        errors.ClusterAuthorizationFailedError,
    )


def _said(error: BaseException) -> str:
    """Which right, of which topic or group; aiokafka gives some errors the bare name, or a set of them."""
    kind = type(error).__name__.removesuffix("AuthorizationFailedError").lower()
    given = error.args[0] if error.args else ""
    named = ", ".join(sorted(map(str, given))) if isinstance(given, set | frozenset | list | tuple) else str(given)
    return f"{kind} {named}".rstrip()


def _one_of(environ: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    value = environ.get(f"{PREFIX}_{name}") or choices[0]
    if value not in choices:
        raise ValueError(f"{PREFIX}_{name}={value!r}: use one of {', '.join(choices)}")
    return value
