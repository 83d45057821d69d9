"""How far a replay is: a bar with rate and time left on a terminal, a log line now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Final

LOG_EVERY_S: Final = 5.0

log = logging.getLogger(__name__)


class Progress:
    """Shows items accounted for, of `expected` in all if that is known; on stderr. Use as `with`."""

    def __init__(self, expected: int | None, *, on_terminal: bool | None = None) -> None:
        self._expected = expected
        self._on_terminal = sys.stderr.isatty() if on_terminal is None else on_terminal
        self._stack = ExitStack()
        self._first: tuple[float, int] | None = None
        self._logged_at_s = time.monotonic()

    def __enter__(self) -> Progress:
        if self._on_terminal:
            from tqdm import tqdm
            from tqdm.contrib.logging import logging_redirect_tqdm

            redirected: AbstractContextManager[None] = logging_redirect_tqdm()
            self._stack.enter_context(redirected)
            self._bar = self._stack.enter_context(
                tqdm(total=self._expected, unit=" posts", unit_scale=True, file=sys.stderr, smoothing=0.1)
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def show(self, found: int, *, read: int, is_paused: bool = False) -> None:
        """So many are accounted for now, scored or left out for a reason, of `read` items."""
        now = time.monotonic()
        if self._first is None or self._first[1] == 0:  # what was there before is no rate
            self._first = (now, found)
        if self._on_terminal:
            if self._bar.total is not None and max(read, found) > self._bar.total:
                self._bar.total = max(read, found)
            self._bar.set_description("paused" if is_paused else None)
            self._bar.update(found - self._bar.n)
        elif now - self._logged_at_s >= LOG_EVERY_S:
            self._logged_at_s = now
            log.info("%s", line_of(found, read, self._expected, self._rate(now, found), is_paused=is_paused))

    def _rate(self, now: float, found: int) -> float:
        assert self._first is not None
        began_s, before = self._first
        return (found - before) / max(now - began_s, 0.001)


def line_of(found: int, read: int, expected: int | None, rate: float, *, is_paused: bool) -> str:
    """One line of the log."""
    of_all = f" of about {expected}" if expected is not None else ""
    left = f", {(expected - found) / rate:.0f} s left" if expected is not None and expected > found and rate > 0 else ""
    paused = "paused: " if is_paused else ""
    return f"{paused}{found}{of_all} posts are accounted for, {read} read, {rate:.0f} posts/s{left}"
