"""A real Redis Cluster: three servers that share the slots and a replica of the first, behind TLS and ACL users.

Services come by TLS, each as its user with the rights deploy/ ships; the plain ports are the tests' own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from redis import Redis

from deploy.children import Child
from deploy.servers import free_port
from tests import apache
from tests.secured import Secured, write_certificates, write_rights

PRIMARIES: Final = 3
SLOTS: Final = 16384
OPTIONS: Final = (
    *("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--tls-cluster", "yes"),
    *("--repl-diskless-sync-delay", "0"),
)
"""A node is taken for dead after a second; its replica takes over within another."""


class RedisCluster:
    """Servers by their plain ports; the first three began with the slots. `opened` makes it."""

    def __init__(self, folder: Path, passwords: Mapping[str, str]) -> None:
        self._folder, self._passwords = folder, passwords
        self._children: dict[int, Child] = {}
        self._tls_ports: dict[int, int] = {}
        self._bus_ports: dict[int, int] = {}

    async def add(self, acl: Path) -> int:
        """Starts a server that knows no other; its plain port."""
        tls_port, bus_port, pem = free_port(), free_port(), self._folder / "server.pem"
        tls = ("--tls-port", str(tls_port), "--tls-cert-file", str(pem), "--tls-key-file", str(pem))
        more = (
            "--tls-ca-cert-file",
            str(self._folder / "ca.pem"),
            "--tls-auth-clients",
            "no",
            "--tls-replication",
            "yes",
        )
        bus = ("--cluster-port", str(bus_port))
        folder = self._folder / f"redis-{len(self._children)}"
        child, url = await apache.start_redis(folder, *OPTIONS, *bus, *tls, *more, "--aclfile", str(acl))
        port = urlsplit(url).port
        assert port is not None
        self._children[port], self._tls_ports[port], self._bus_ports[port] = child, tls_port, bus_port
        return port

    @property
    def children(self) -> list[Child]:
        return [*self._children.values()]

    @property
    def ports(self) -> list[int]:
        """Of the servers alive."""
        return [port for port, child in self._children.items() if child.exit_code() is None]

    def tls_port(self, port: int) -> int:
        return self._tls_ports[port]

    def url(self, user: str) -> str:
        """What MOODSTREAM_REDIS is for a user; two nodes that are alive are named, as one may go away."""
        places = ",".join(f"127.0.0.1:{self._tls_ports[port]}" for port in self.ports[:2])
        return f"rediss-cluster://{user}:{self._passwords[user]}@{places}?ssl_ca_certs={self._folder / 'ca.pem'}"

    def node(self, port: int) -> Any:
        """A client of one server that gives replies as they came. (redis-py types every reply as bytes or str.)"""
        node = Redis.from_url(f"redis://127.0.0.1:{port}", socket_timeout=5)
        node.response_callbacks.clear()
        return node

    def ask(self, port: int, *command: str | int) -> Any:
        with self.node(port) as node:
            return node.execute_command(*command)

    def id_of(self, port: int) -> str:
        return str(self.ask(port, "CLUSTER MYID").decode())

    def knows(self, port: int) -> int:
        """How many servers one knows, itself too."""
        return len(self.ask(port, "CLUSTER NODES").splitlines())

    def meet(self, port: int, other: int) -> None:
        self.ask(port, "CLUSTER MEET", "127.0.0.1", self._tls_ports[other], self._bus_ports[other])

    def is_ok(self, port: int) -> bool:
        return b"cluster_state:ok" in self.ask(port, "CLUSTER INFO")

    def followers(self, port: int) -> list[dict[str, Any]]:
        """The replicas of a server that are with it and have all it wrote."""
        told = self.replication(port)
        slaves = [value for name, value in told.items() if name.startswith("slave") and isinstance(value, dict)]
        return [one for one in slaves if one["state"] == "online" and one["offset"] == told["master_repl_offset"]]

    def replication(self, port: int) -> dict[str, Any]:
        with Redis.from_url(f"redis://127.0.0.1:{port}", socket_timeout=5) as node:
            told: Any = node.info("replication")
            return dict(told)

    def holder(self, slot: int) -> int:
        """The port of the server that has a slot."""
        for first, last, server, *_ in self.ask(self.ports[-1], "CLUSTER SLOTS"):
            if first <= slot <= last:
                return int(server[1])
        raise LookupError(f"nobody has slot {slot}")

    def kill(self, port: int) -> None:
        """SIGKILL, once its replica has all it wrote: what that lacks would be lost, as Redis replicates behind."""
        until(lambda: self.followers(port), "the replica has all")
        self._children[port].kill()

    def move(self, slot: int, to: int, during: Callable[[], object]) -> None:
        """Hands a slot on as `redis-cli --cluster reshard` does, some keys at a time; `during` is called half-way."""
        source = self.holder(slot)
        self.ask(to, "CLUSTER SETSLOT", slot, "IMPORTING", self.id_of(source))
        self.ask(source, "CLUSTER SETSLOT", slot, "MIGRATING", self.id_of(to))
        half = int(self.ask(source, "CLUSTER COUNTKEYSINSLOT", slot)) // 2
        moved = 0
        while keys := self.ask(source, "CLUSTER GETKEYSINSLOT", slot, 10):
            self.ask(source, "MIGRATE", "127.0.0.1", self._tls_ports[to], "", 0, 5000, "KEYS", *keys)
            moved += len(keys)
            if moved >= half >= 0:
                during()
                half = -1
        for port in (to, *self.ports):
            self.ask(port, "CLUSTER SETSLOT", slot, "NODE", self.id_of(to))


async def opened(folder: Path, namespace: str, stack: AsyncExitStack) -> RedisCluster:
    """Starts it; every user has its rights in `namespace`."""
    cluster = RedisCluster(folder, Secured(folder).passwords)
    write_certificates(folder)
    acl = write_rights(folder, namespace)
    for _ in range(PRIMARIES + 1):
        port = await cluster.add(acl)
        stack.push_async_callback(cluster.children[-1].stop)
    ports = cluster.ports
    for number, port in enumerate(ports[:PRIMARIES]):
        first, end = (SLOTS * part // PRIMARIES for part in (number, number + 1))
        cluster.ask(port, "CLUSTER ADDSLOTSRANGE", first, end - 1)
        cluster.ask(port, "CLUSTER SET-CONFIG-EPOCH", number + 1)
    for port in ports[1:]:
        cluster.meet(ports[0], port)
    until(lambda: all(cluster.knows(port) == len(ports) for port in ports), "all have met")
    cluster.ask(ports[-1], "CLUSTER REPLICATE", cluster.id_of(ports[0]))
    until(lambda: all(map(cluster.is_ok, ports)), "the cluster is ok")
    until(lambda: cluster.followers(ports[0]), "the replica follows")
    return cluster


def until(condition: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)
