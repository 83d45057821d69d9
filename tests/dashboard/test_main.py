"""The service as a process: settings, one port, a clean end."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from streamlit.web.server.starlette import starlette_server

import dashboard.__main__
from dashboard.settings import Settings, check_login
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


def test_small_messages_do_not_wait_for_the_browsers_acknowledgement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starlette_server, "_bind_socket", starlette_server._bind_socket)
    dashboard.__main__.send_at_once()
    listening, address = starlette_server._bind_server_socket("127.0.0.1", "127.0.0.1", 0, 1)
    with listening, socket.create_connection((address, listening.getsockname()[1])):
        listening.setblocking(True)
        connection, _ = listening.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


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


@pytest.mark.parametrize(("host", "says"), [("0.0.0.0", True), ("127.0.0.1", False)])
def test_an_exposed_page_without_a_login_says_that_it_is_read_only(
    host: str, says: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("MOODSTREAM_AUTH", raising=False)
    monkeypatch.setattr(dashboard.__main__, "serve", lambda host, port: None)
    dashboard.__main__.main(["--host", host])
    assert ("the page is read-only" in caplog.text) == says


WHOLE = """[auth]
redirect_uri = "http://localhost:8501/oauth2callback"
cookie_secret = "0123456789abcdef0123456789abcdef"
client_id = "a"
client_secret = "b"
server_metadata_url = "https://login.example/.well-known/openid-configuration"
"""


def test_a_whole_login_is_taken(tmp_path: Path) -> None:
    (tmp_path / "secrets.toml").write_text(WHOLE)
    check_login([tmp_path / "missing.toml", tmp_path / "secrets.toml"])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "there is no .auth. in .*secrets.toml: write it"),
        ("[auth", "secrets.toml cannot be read"),
        (WHOLE.replace('client_id = "a"', ""), "lacks client_id: add it"),
        (WHOLE.replace("0123456789abcdef", "0"), "cookie_secret in secrets.toml is shorter than 32 characters"),
        (WHOLE.replace("oauth2callback", "back"), "redirect_uri in secrets.toml is .*: give the page's address"),
    ],
)
def test_a_login_that_is_not_whole_is_refused(content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "secrets.toml").write_text(content)
    with pytest.raises(ValueError, match=says):
        check_login([tmp_path / "secrets.toml"])


@pytest.mark.parametrize("command", [["dashboard"], ["deploy", "up", "--source", "sample", "--headless"]])
def test_a_login_without_secrets_is_one_line_and_exit_code_2(command: list[str], tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": root, "HOME": str(tmp_path), "MOODSTREAM_AUTH": "oidc"},
        capture_output=True,
        text=True,
        timeout=25,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "MOODSTREAM_AUTH is oidc, but there is no [auth] in" in done.stderr
