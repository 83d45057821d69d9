"""One child process: started so that it cannot outlive its parent, logged to a file, stopped with a deadline.

Linux has the kernel do it (PR_SET_PDEATHSIG); elsewhere a small shell waits on a pipe that only the parent
holds open. The kernel's signal fires when the *thread* that forked ends, so children start from the main thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

Guard = Literal["kernel", "pipe"]

_PR_SET_PDEATHSIG: Final = 1
_POLL_S: Final = 0.02
_WATCHER: Final = 'cat >/dev/null; kill -s KILL "$0" 2>/dev/null'
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class Child:
    """A running process; `log_path` holds its stdout and stderr."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log_path: Path,
        environment: Mapping[str, str] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        stop_timeout_s: float = 10.0,
        guard: Guard = "kernel" if _libc is not None else "pipe",
    ) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                f"{name} must be started from the main thread: it lives as long as the thread it came from"
            )
        self.name, self.log_path = name, log_path
        self.stop_signal, self.stop_timeout_s = stop_signal, stop_timeout_s
        self.started_at_s = time.monotonic()
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,  # Ctrl-C reaches the parent alone, which stops its children in order
                preexec_fn=_die_with_parent(os.getpid()) if guard == "kernel" else None,
            )
        self._watcher = _watch(self._process.pid) if guard == "pipe" else None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.started_at_s

    def exit_code(self) -> int | None:
        """None while it runs; negative after a signal."""
        return self._process.poll()

    def kill(self) -> None:
        """As a crash would: no chance to clean up."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()

    async def stop(self) -> int:
        """Asks the process to end, and kills it after `stop_timeout_s`; returns its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(self.stop_signal)
        deadline = time.monotonic() + self.stop_timeout_s
        while (code := self._process.poll()) is None and time.monotonic() < deadline:  # noqa: ASYNC110  # no event exists
            await asyncio.sleep(_POLL_S)
        if code is None:
            self.kill()
        self.release()
        return self._process.wait()

    def release(self) -> None:
        """Nothing guards the process any more; to be called once it is gone, as its number may be given out again."""
        if self._watcher is not None:
            self._watcher.kill()
            self._watcher.communicate()
            self._watcher = None

    def log_tail(self, lines: int = 15) -> str:
        """The end of the log, for an error message."""
        with self.log_path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 16_384))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])


def _die_with_parent(parent: int) -> Callable[[], None]:
    """Runs in the child between fork and exec."""
    assert _libc is not None

    def ask_kernel() -> None:
        failed = _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0
        if failed or os.getppid() != parent:  # the parent may have died before the request was made
            os._exit(1)

    return ask_kernel


def _watch(pid: int) -> subprocess.Popen[bytes]:
    """Kills `pid` when this process is gone: the watcher then reads the end of its pipe."""
    return subprocess.Popen(["/bin/sh", "-c", _WATCHER, str(pid)], stdin=subprocess.PIPE, start_new_session=True)
