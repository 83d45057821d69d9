"""How much is measured, and in which order; each system sees the same posts at the same stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Plan:
    """rounds: of everything; saturation: posts sent as fast as can be; loads: shares of the better server's saturation,
    each offered for `load_s`; idle: posts sent to the worker one by one; feed: posts before it begins again.

    partitions, workers: what the worker's own scaling is measured at; null: texts through a worker without a model.
    """

    rounds: int
    warm: int = 64
    saturation: int
    loads: tuple[float, ...]
    load_s: float
    idle: int
    feed: int = 3000
    partitions: tuple[int, ...] = ()
    workers: tuple[int, ...] = ()
    null: int = 0


FULL: Final = Plan(
    rounds=3,
    saturation=1200,
    loads=(0.2, 0.5, 0.7, 0.95),
    load_s=5.0,
    idle=60,
    partitions=(1, 2, 4, 8, 16),
    workers=(1, 2),
    null=20_000,
)
QUICK: Final = Plan(rounds=1, warm=16, saturation=150, loads=(0.7,), load_s=3.0, idle=10, feed=600)
IDLE_RATE: Final = 5.0
"""Posts a second when nothing waits for anything: rarely is one under way while the next comes."""
AT_SHARE: Final = 0.7
"""The load at which latencies are compared."""
