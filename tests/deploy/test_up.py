"""`moodstream up` as a user starts it, and what is left of it when it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.servers import free_port

ROOT = Path(__file__).parent.parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`moodstream up --headless` whose dashboard answers; its stderr lines are in `errors.txt`."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "deploy",
        "up",
        "--source",
        "sample",
        "--headless",
        "--port",
        str(port),
        "--keep",
        str(tmp_path / "kept"),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MOODSTREAM_")}
    with (tmp_path / "errors.txt").open("w") as errors:
        up = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            # a shell that runs the tests in the background has them, and so this, ignore Ctrl-C
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    assert up.stdout is not None
    first = up.stdout.readline()
    assert f"http://localhost:{port}" in first, (tmp_path / "errors.txt").read_text()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as page:
        assert page.status == 200
    yield up
    up.kill()
    up.stdout.close()
    up.wait()


def descendants(pid: int) -> dict[int, str]:
    """Process id → command of everything below `pid`."""
    shown = subprocess.run(
        ["ps", "-ww", "-e", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [(int(line.split()[0]), int(line.split()[1]), line.split(None, 2)[2]) for line in shown.splitlines()]
    found: dict[int, str] = {}
    for _ in rows:
        found |= {child: command for child, parent, command in rows if parent == pid or parent in found}
    return found


def still_running(processes: dict[int, str]) -> dict[int, str]:
    """Those of the processes that run on, zombies aside."""
    shown = subprocess.run(["ps", "-e", "-o", "pid=,stat="], capture_output=True, text=True, check=True).stdout
    alive = {int(pid) for pid, state in (line.split() for line in shown.splitlines()) if not state.startswith("Z")}
    return {pid: command for pid, command in processes.items() if pid in alive}


def wait_until_gone(processes: dict[int, str], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while left := still_running(processes):
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.05)


def test_up_leaves_no_orphan_when_killed(running: subprocess.Popen[str]) -> None:
    children = descendants(running.pid)
    for part in ("tansu", "valkey-server", "inference_worker", "dashboard", "ingest"):
        assert any(part in command for command in children.values()), f"no {part} among {children}"
    running.kill()
    running.wait()
    wait_until_gone(children, 5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_stops_everything_when_asked(running: subprocess.Popen[str], number: signal.Signals) -> None:
    children = descendants(running.pid)
    running.send_signal(number)
    assert running.wait(timeout=40) == 0
    wait_until_gone(children, 1)


def test_up_shows_numbers_that_move(running: subprocess.Popen[str], tmp_path: Path) -> None:
    errors = tmp_path / "errors.txt"
    deadline = time.monotonic() + 60
    while "the first posts are scored" not in errors.read_text():
        assert time.monotonic() < deadline, errors.read_text()
        time.sleep(0.2)
