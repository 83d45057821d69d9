"""Upstreams of the tests beside the conformance suite."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.ingest.live.x_server import XUpstream


@pytest.fixture
async def x() -> AsyncIterator[XUpstream]:
    async with XUpstream() as upstream:
        yield upstream
