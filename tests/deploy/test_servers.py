"""Where servers of ours are started."""

import socket
from pathlib import Path

import pytest

from deploy import servers

EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


@pytest.mark.skipif(not EPHEMERAL.exists(), reason="not Linux: its range is told elsewhere")
def test_a_free_port_is_none_that_outgoing_connections_get() -> None:
    lowest = int(EPHEMERAL.read_text().split()[0])
    assert all(servers.free_port() < lowest for _ in range(50))


def test_a_free_port_is_held_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, free = servers.free_port(), servers.free_port()
    monkeypatch.setattr(servers, "LISTENING_PORTS", (taken, free))
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", taken))
        assert {servers.free_port() for _ in range(20)} == {free}
