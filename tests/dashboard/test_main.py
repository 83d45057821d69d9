"""The service as a process: settings, one port, a clean end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dashboard.settings import Settings
from tests.dashboard.seeding import Server
from tests.dashboard.serving import serving


def test_settings_have_defaults() -> None:
    settings = Settings.from_env({})
    assert settings == Settings(redis_url="redis://localhost:6379/0", namespace="live", refresh_s=2.0)


def test_settings_come_from_the_environment() -> None:
    environ = {"MOODSTREAM_REDIS": "redis://:pw@db:1/2", "MOODSTREAM_NAMESPACE": "n", "MOODSTREAM_REFRESH_S": "5"}
    settings = Settings.from_env(environ)
    assert (settings.namespace, settings.refresh_s, settings.redis_address) == ("n", 5.0, "db:1/2")
    assert "pw" not in repr(settings)


@pytest.mark.parametrize("value", ["often", "0", "-1", "nan", "1e9"])
def test_impossible_pace_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="MOODSTREAM_REFRESH_S is .*: give seconds from 0.5 to 3600"):
        Settings.from_env({"MOODSTREAM_REFRESH_S": value})


def test_sigterm_ends_it_with_exit_code_0(server: Server, tmp_path: Path) -> None:
    with serving(server.url, tmp_path / "log") as dashboard:
        assert dashboard.stop() == 0
    log = (tmp_path / "log").read_text()
    assert f"page at http://127.0.0.1:{dashboard.port}" in log
    assert "Traceback" not in log


def test_misuse_is_exit_code_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dashboard", "--port", "many"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=25,
    )
    assert done.returncode == 2
    assert "invalid int value: 'many'" in done.stderr
