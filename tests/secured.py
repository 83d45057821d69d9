"""Apache Kafka behind TLS, SASL and ACLs, and redis-server behind TLS and ACL users, with the rights deploy/ ships.

The certificates are made here. Each server has a second address whose certificate has expired.
"""

from __future__ import annotations

import argparse
import itertools
import os
import secrets
import subprocess
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import trustme
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest
from cryptography.hazmat.primitives import serialization

from deploy.servers import free_port
from tests import apache

RIGHTS: Final = Path(__file__).parent.parent / "deploy" / "security"
TOPIC, GROUP, LITERAL, ALLOW = 2, 3, 3, 3
OPERATIONS: Final = {"Read": 3, "Write": 4, "Create": 5, "Delete": 6, "Describe": 8, "DescribeConfigs": 10}
"""Kafka's numbers for them."""
KAFKA_USERS: Final = ("moodstream-ingest", "moodstream-worker", "moodstream-operator", "stranger")
REDIS_USERS: Final = (
    "moodstream-worker",
    "moodstream-dashboard",
    "moodstream-editor",
    "moodstream-alerts",
    "moodstream-operator",
    "moodstream-backup",
)
PROPERTIES: Final = """\
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller},\
SECURED://127.0.0.1:%(secured)d,EXPIRED://127.0.0.1:%(expired)d
advertised.listeners=PLAINTEXT://127.0.0.1:{broker},SECURED://localhost:%(secured)d,EXPIRED://localhost:%(expired)d
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURED:SASL_SSL,EXPIRED:SASL_SSL
sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN
listener.name.secured.scram-sha-512.sasl.jaas.config=%(scram)s required;
listener.name.secured.plain.sasl.jaas.config=%(plain)s required user_moodstream-ingest="%(password)s";
listener.name.expired.scram-sha-512.sasl.jaas.config=%(scram)s required;
listener.name.expired.plain.sasl.jaas.config=%(plain)s required;
ssl.keystore.type=PEM
listener.name.secured.ssl.keystore.location={folder}/../server.pem
listener.name.expired.ssl.keystore.location={folder}/../expired.pem
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""
"""ANONYMOUS is who comes by the plain listeners, on which only this machine's tests grant rights."""


class Secured:
    """Both servers, with what a client of each user needs to know. `opened` makes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.passwords = {user: secrets.token_urlsafe(16) for user in {*KAFKA_USERS, *REDIS_USERS}}
        self.kafka = self.expired_kafka = self.plain_kafka = ""
        self.redis = self.expired_redis = self.admin_redis = ""
        for user, password in self.passwords.items():
            (folder / "passwords").mkdir(exist_ok=True)
            (folder / "passwords" / user).write_text(f"{password}\n")

    def kafka_environment(self, user: str, **changed: str) -> dict[str, str]:
        """What a service is told, its password in a file; `changed` by the variables' ends."""
        told = {
            "": self.kafka,
            "SECURITY_PROTOCOL": "SASL_SSL",
            "USERNAME": user,
            "PASSWORD_FILE": str(self.folder / "passwords" / user),
            "CA_FILE": str(self.folder / "ca.pem"),
        }
        return {f"MOODSTREAM_KAFKA_{name}".rstrip("_"): value for name, value in {**told, **changed}.items()}

    def redis_environment(self, user: str, **changed: str) -> dict[str, str]:
        """The same of Redis."""
        told = {
            "": self.redis,
            "USERNAME": user,
            "PASSWORD_FILE": str(self.folder / "passwords" / user),
            "CA_FILE": str(self.folder / "ca.pem"),
        }
        return {f"MOODSTREAM_REDIS_{name}".rstrip("_"): value for name, value in {**told, **changed}.items()}

    def rights(self, namespace: str) -> list[list[str]]:
        """What the script that ships asks Kafka's tool to grant; the tool itself would take a JVM for each."""
        tool, asked = self.folder / "kafka-acls", self.folder / "asked"
        tool.write_text(f'#!/bin/sh\nprintf "%s\\t" "$@" >>{asked}\necho >>{asked}\n')
        tool.chmod(0o755)
        subprocess.run(
            [RIGHTS / "kafka-acls.sh", self.plain_kafka, namespace],
            env={**os.environ, "KAFKA_ACLS": str(tool)},
            check=True,
        )
        return [line.split("\t")[:-1] for line in asked.read_text().splitlines()]


async def _grant(kafka: str, rights: list[list[str]]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap-server")
    parser.add_argument("--add", action="store_true", required=True)
    parser.add_argument("--allow-principal", required=True)
    for name in ("--operation", "--topic", "--group"):
        parser.add_argument(name, action="append", default=[])
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        for asked in map(parser.parse_args, rights):
            for (kind, name), operation in itertools.product(
                [*((TOPIC, name) for name in asked.topic), *((GROUP, name) for name in asked.group)], asked.operation
            ):
                request = CreateAclsRequest(
                    kind, name, LITERAL, asked.allow_principal, "*", OPERATIONS[operation], ALLOW
                )
                answer = await admin._send_request(request)
                assert answer.creation_responses[0][0] == 0, f"{operation} of {name}: {answer.creation_responses}"
    finally:
        await admin.close()


async def opened(folder: Path, namespace: str, stack: AsyncExitStack) -> Secured:
    """Starts both, and grants every user its rights in `namespace`."""
    secured = Secured(folder)
    write_certificates(folder)
    await start_redis(secured, namespace, stack)
    await _start_kafka(secured, stack)
    await _grant(secured.plain_kafka, secured.rights(namespace))
    return secured


def write_certificates(folder: Path) -> None:
    authority, now = trustme.CA(), datetime.now(UTC)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / "other-ca.pem")
    for name, ends_at in (("server", now + timedelta(days=1)), ("expired", now - timedelta(days=1))):
        made = authority.issue_cert("localhost", "127.0.0.1", not_before=now - timedelta(days=2), not_after=ends_at)
        key = serialization.load_pem_private_key(made.private_key_pem.bytes(), None).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / f"{name}.pem").write_bytes(key + b"".join(blob.bytes() for blob in made.cert_chain_pems))


async def _start_kafka(secured: Secured, stack: AsyncExitStack) -> None:
    module = "org.apache.kafka.common.security"
    ports = {"secured": free_port(), "expired": free_port()}
    more = PROPERTIES % {
        **ports,
        "scram": f"{module}.scram.ScramLoginModule",
        "plain": f"{module}.plain.PlainLoginModule",
        "password": secured.passwords["moodstream-ingest"],
    }
    known = {user: secured.passwords[user] for user in KAFKA_USERS}
    child, secured.plain_kafka = await apache.start_kafka(secured.folder / "kafka", more, known)
    stack.push_async_callback(child.stop)
    secured.kafka, secured.expired_kafka = (f"localhost:{port}" for port in ports.values())


def write_rights(folder: Path, namespace: str) -> Path:
    """The ACL file for Redis of the users whose passwords lie in the folder."""
    rights = subprocess.run(
        [RIGHTS / "redis-acl.sh", folder / "passwords", namespace], check=True, capture_output=True, text=True
    )
    acl = folder / "users.acl"
    # The plain port is this test's own: it starts open, for the check that the server answers, and looks at ACL LOG.
    acl.write_text(rights.stdout.replace("user default off", "user default on nopass ~* &* +@all"))
    return acl


async def start_redis(secured: Secured, namespace: str, stack: AsyncExitStack) -> None:
    acl = write_rights(secured.folder, namespace)
    for name in ("server", "expired"):
        pem, port = secured.folder / f"{name}.pem", free_port()
        tls = ("--tls-port", str(port), "--tls-cert-file", str(pem), "--tls-key-file", str(pem))
        more = ("--tls-ca-cert-file", str(secured.folder / "ca.pem"), "--tls-auth-clients", "no")
        child, plain = await apache.start_redis(secured.folder / f"redis-{name}", *tls, *more, "--aclfile", str(acl))
        stack.push_async_callback(child.stop)
        address = f"rediss://localhost:{port}/0"
        if name == "server":
            secured.redis, secured.admin_redis = address, plain
        else:
            secured.expired_redis = address
