"""What a check of `moodstream doctor` is given, and what it answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from inference_worker.settings import Settings as WorkerSettings
from ingest.settings import Settings as IngestSettings

Level = Literal["ok", "warn", "fail"]


class Finding(NamedTuple):
    """found: what is, with its figures; remedy: how to mend it, empty where nothing is amiss."""

    level: Level
    found: str
    remedy: str = ""


class CannotTell(Exception):
    """A check came to an end before it could look: its finding says why."""

    def __init__(self, finding: Finding) -> None:
        self.finding = finding
        super().__init__(finding.found)


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What is checked. dashboard_port: where it listens, on whatever address; clock_s: this machine's calendar time."""

    worker: WorkerSettings
    ingest: IngestSettings
    dashboard_port: int = 8501
    clock_s: Callable[[], float] = time.time


@dataclass(frozen=True)
class Check:
    """look: returns its finding or raises whatever it runs into; after timeout_s it is given up."""

    name: str
    look: Callable[[Deployment], Finding]
    timeout_s: float = 20.0


def ok(found: str) -> Finding:
    return Finding("ok", found)


def warn(found: str, remedy: str) -> Finding:
    return Finding("warn", found, remedy)


def fail(found: str, remedy: str) -> Finding:
    return Finding("fail", found, remedy)


def of_bytes(size: float) -> str:
    """A size for people."""
    for unit in ("B", "KB", "MB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GB"
