"""Alerts under `moodstream up`: the sample feed's swing reaches a webhook, once, also when the service is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deploy.servers import free_port
from tests.deploy.test_up import ROOT, descendants, wait_until_gone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]


@contextmanager
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Its address, and what it was sent."""
    taken: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """The tests' output is for the tests."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/hook", taken
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def alert_service(up: subprocess.Popen[str]) -> int | None:
    return next((pid for pid, command in descendants(up.pid).items() if "dashboard.alerts" in command), None)


def wait_until(holds: Callable[[], bool], what: str, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"waited {timeout_s} s until {what}"
        time.sleep(0.2)


def test_the_sample_feeds_swing_is_delivered_once_though_the_service_is_killed(tmp_path: Path) -> None:
    port = free_port()
    log = tmp_path / "kept" / "logs" / "alerts.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MOODSTREAM_")}
    command = [sys.executable, "-m", "deploy", "up", "--source", "sample", "--headless", "--port", str(port)]
    with webhook() as (url, taken), (tmp_path / "errors.txt").open("w") as errors:
        up = subprocess.Popen(
            [*command, "--keep", str(tmp_path / "kept")],
            cwd=ROOT,
            env=environment | {"MOODSTREAM_WEBHOOK_URL": url},
            stdout=subprocess.DEVNULL,
            stderr=errors,
            text=True,
            # a shell that runs the tests in the background has them, and so this, ignore Ctrl-C
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            wait_until(lambda: bool(taken), "the webhook is told of the swing", 120)
            killed = alert_service(up)
            assert killed is not None
            os.kill(killed, signal.SIGKILL)
            # a lock that nobody released has to run out first
            wait_until(lambda: log.read_text().count("service: evaluating") == 2, "another one evaluates", 180)
            time.sleep(3)  # rounds of delivery enough for what must not come
            assert [(told["rule"], told["topic"], told["direction"]) for told in taken] == [
                ("Sudden mood swing", "Line 9 tram", "down")
            ]
            children = descendants(up.pid)
            up.send_signal(signal.SIGINT)
            assert up.wait(timeout=40) == 0
            wait_until_gone(children, 1)
        finally:
            up.kill()
            up.wait()
    assert "Traceback" not in log.read_text()
