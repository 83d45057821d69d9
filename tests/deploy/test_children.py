from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from deploy.children import Child, Guard

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); time.sleep(600)",
]
GUARDS = [
    pytest.param("kernel", marks=pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")),
    "pipe",
]


async def test_stop_ends_the_process_with_its_signal(tmp_path: Path) -> None:
    child = Child("sleeper", SLEEPER, log_path=tmp_path / "log")
    assert child.exit_code() is None
    assert await child.stop() == -signal.SIGTERM
    assert child.exit_code() == -signal.SIGTERM


async def test_stop_kills_what_does_not_listen(tmp_path: Path) -> None:
    child = Child("deaf", DEAF, log_path=tmp_path / "log", environment={"PYTHONUNBUFFERED": "1"}, stop_timeout_s=0.3)
    await until(lambda: "up" in child.log_tail())
    assert await child.stop() == -signal.SIGKILL


async def test_stop_of_a_dead_child_tells_its_code(tmp_path: Path) -> None:
    child = Child("brief", [sys.executable, "-c", "raise SystemExit(7)"], log_path=tmp_path / "log")
    await until(lambda: child.exit_code() is not None)
    assert await child.stop() == 7


async def test_log_tail_shows_the_last_lines(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "for i in range(5000): print('line', i)"]
    child = Child("talker", command, log_path=tmp_path / "log")
    await until(lambda: child.exit_code() is not None)
    assert child.log_tail(2) == "line 4998\nline 4999"


def test_a_child_is_refused_outside_the_main_thread(tmp_path: Path) -> None:
    async def start() -> None:
        await asyncio.to_thread(Child, "stray", SLEEPER, log_path=tmp_path / "log")

    with pytest.raises(RuntimeError, match="main thread"):
        asyncio.run(start())


@pytest.mark.parametrize("guard", GUARDS)
def test_a_child_does_not_outlive_its_killed_parent(tmp_path: Path, guard: Guard) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, guard, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert is_running(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while is_running(child):
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.02)


PARENT = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from deploy.children import Child
    child = Child("sleeper", ["sleep", "600"], log_path=Path(sys.argv[2]), guard=sys.argv[1])
    print(child.pid, flush=True)
    time.sleep(600)
    """
)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    except ProcessLookupError:
        return False
    return state.stdout.strip()[:1] not in ("", "Z")  # a zombie waits only for whoever adopted it


async def until(condition: object, timeout_s: float = 10.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
