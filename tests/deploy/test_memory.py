from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import pytest

from deploy.children import Child
from deploy.memory import resident_mb, telling_memory

HOLDING = "import time; held = b'x' * (200 << 20); print(len(held), flush=True); time.sleep(60)"


async def test_growth_is_told_once_until_it_doubles(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.memory.LOOK_EVERY_S", 0.05)
    monkeypatch.setattr("deploy.memory.FIRST_TOLD_MB", 150)
    child = Child("holder", [sys.executable, "-c", HOLDING], log_path=tmp_path / "log")
    try:
        with caplog.at_level(logging.WARNING):
            async with telling_memory(child):
                while not caplog.records:
                    await asyncio.sleep(0.05)
                await asyncio.sleep(0.3)
        assert resident_mb(child.pid) >= 200
    finally:
        await child.stop()
    [record] = caplog.records
    assert "keeps all posts in memory" in record.getMessage()
    assert resident_mb(child.pid) == 0


async def test_a_broker_of_the_users_own_is_left_alone() -> None:
    async with telling_memory(None):
        pass
