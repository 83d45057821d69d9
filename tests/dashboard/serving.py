"""The dashboard as a process of its own, as `python -m dashboard` starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from deploy.servers import free_port
from tests.dashboard.seeding import wait_until

ROOT: Final = Path(__file__).parents[2]


class Dashboard:
    """A running dashboard."""

    def __init__(self, redis_url: str, log: Path, folder: Path, environment: Mapping[str, str], port: int) -> None:
        self.port, self.log = port, log
        environ = {**os.environ, "MOODSTREAM_REDIS": redis_url, "MOODSTREAM_REFRESH_S": "1"}
        environ.pop("MOODSTREAM_NAMESPACE", None)
        environ |= {"PYTHONPATH": str(ROOT), **environment}
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dashboard", "--port", str(self.port)],
                env=environ,
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def is_ready(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"the dashboard ended with {self.process.returncode}: {self.log.read_text()}")
        try:
            with urllib.request.urlopen(f"{self.url}_stcore/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=15)


@contextmanager
def serving(
    redis_url: str,
    log: Path,
    *,
    folder: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    port: int | None = None,
) -> Iterator[Dashboard]:
    """Started in `folder`, with these variables on top; on a free port unless one is named."""
    dashboard = Dashboard(redis_url, log, folder, environment or {}, port or free_port())
    try:
        wait_until(dashboard.is_ready, "the dashboard answers", timeout_s=25)
        yield dashboard
    finally:
        if dashboard.process.poll() is None:
            dashboard.process.kill()
            dashboard.process.wait()
