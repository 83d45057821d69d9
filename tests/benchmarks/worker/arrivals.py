"""When posts are sent, and what became of them: shared by the generators of load."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


def poisson(rate: float, count: int, *, seed: int) -> list[float]:
    """Seconds from the start at which posts are due, as independent senders would send them."""
    chance = random.Random(seed)
    due, now_s = [], 0.0
    for _ in range(count):
        now_s += chance.expovariate(rate)
        due.append(now_s)
    return due


@dataclass(frozen=True)
class Outcomes:
    """Of each post by one clock in seconds: when it was due, when its answer was there."""

    due_s: Sequence[float]
    done_s: Sequence[float]
    late_s: float = 0.0
    """How far the sender itself fell behind at worst; it is in the latencies."""
    failed: int = 0

    @property
    def throughput(self) -> float:
        """Posts a second from the first one due to the last answer.

        Not between two answers: those of a batch come together, so that a few large ones would look too fast.
        """
        return len(self.done_s) / (max(self.done_s) - min(self.due_s))

    def summary(self) -> dict[str, Any]:
        latencies_ms = 1000 * (np.asarray(self.done_s) - np.asarray(self.due_s))
        return {
            "posts": len(self.done_s),
            "failed": self.failed,
            "throughput_posts_per_s": self.throughput,
            "latencies_ms": [round(latency, 2) for latency in latencies_ms.tolist()],
            "sender_late_ms": round(1000 * self.late_s, 1),
        }
