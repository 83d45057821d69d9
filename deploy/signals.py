"""asyncio.run for commands that own child processes: every ordinary way of ending them runs their `finally` blocks."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Final

ENDING = (signal.SIGTERM, signal.SIGHUP)
INTERRUPTED: Final = 130
"""Exit code of what was ended before it was through."""


def run_until_signalled(main: Coroutine[None, None, int], *, when_ended: int) -> int:
    """The coroutine's exit code; `when_ended` after SIGTERM, SIGHUP or Ctrl-C, which cancel it so that it cleans up."""

    async def guarded() -> int:
        task = asyncio.current_task()
        assert task is not None
        for number in ENDING:
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        try:
            return await main
        except asyncio.CancelledError:
            return when_ended

    try:
        return asyncio.run(guarded())
    except KeyboardInterrupt:
        return when_ended
