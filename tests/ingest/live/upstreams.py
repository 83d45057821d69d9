"""Every protocol the conformance suite runs: one adapter class each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.ingest.live.upstream import Upstream

UPSTREAMS: Final[tuple[Callable[[], Upstream], ...]] = ()
