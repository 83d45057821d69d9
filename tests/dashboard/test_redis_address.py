"""The store's address, without what is secret of it."""

from __future__ import annotations

import pytest

from dashboard.redis_address import redis_address


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://user:secret@db:1/2", "db:1/2"),
        ("redis://", "localhost:6379"),
        ("unix:///run/redis.sock?db=1", "/run/redis.sock"),
    ],
)
def test_address_is_told_without_credentials(url: str, address: str) -> None:
    assert redis_address(url) == address
