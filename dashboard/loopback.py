"""Which addresses only this machine reaches."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

LOCALHOST: Final = "localhost"


def is_loopback(host: str) -> bool:
    if host == LOCALHOST:
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
