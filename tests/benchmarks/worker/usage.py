"""What processes cost: processor seconds and resident memory of a process and all below it, from /proc."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

SAMPLE_EVERY_S: Final = 0.5
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> Iterator[int]:
    """A process and all it started that are still there."""
    yield pid
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from tree(int(child))
    except OSError:
        return


def cpu_seconds(pids: Iterable[int]) -> float:
    """Of all of these and those below them, those that ended and were waited for included."""
    return sum(_ticks(one) for pid in pids for one in tree(pid)) / TICKS_PER_S


def resident_mb(pids: Iterable[int]) -> float:
    """Shared pages count for each that has them."""
    pages = sum(_resident_pages(one) for pid in pids for one in tree(pid))
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:15]))  # user and system, own and of children


def _resident_pages(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0


class Usage:
    """Watches named groups of processes while a measurement runs: `async with`, then `cpu_s` and `peak_mb` by name."""

    def __init__(self, groups: Mapping[str, list[int]]) -> None:
        self._groups = groups
        self.cpu_s: dict[str, float] = {}
        self.peak_mb: dict[str, float] = dict.fromkeys(groups, 0.0)

    async def __aenter__(self) -> Usage:
        self.cpu_s = {name: -cpu_seconds(pids) for name, pids in self._groups.items()}
        self._sampling = asyncio.create_task(self._sample())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._sampling.cancel()
        for name, pids in self._groups.items():
            self.cpu_s[name] += cpu_seconds(pids)

    async def _sample(self) -> None:
        while True:
            for name, pids in self._groups.items():
                self.peak_mb[name] = max(self.peak_mb[name], resident_mb(pids))
            await asyncio.sleep(SAMPLE_EVERY_S)
