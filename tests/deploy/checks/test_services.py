"""Checks of the model, the sources' keys and the dashboard's openness."""

from __future__ import annotations

import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.checks import services
from deploy.checks.finding import Deployment
from inference_worker.settings import DEFAULT_MODEL
from inference_worker.settings import Settings as WorkerSettings
from ingest.settings import Settings as IngestSettings


def deployment(environ: dict[str, str] | None = None, port: int = 8501, **worker: object) -> Deployment:
    return Deployment(
        worker=WorkerSettings(**worker), ingest=IngestSettings.from_env(environ or {}), dashboard_port=port
    )


@pytest.mark.timeout(120)
def test_the_shipped_model_proves_itself() -> None:
    found = services.model(deployment())
    assert found.level == "ok" and "reproduces its golden rows on engine onnx" in found.found


def test_a_damaged_copy_of_it_does_not(tmp_path: Path) -> None:
    copied = tmp_path / "model"
    shutil.copytree(DEFAULT_MODEL, copied)
    with (copied / "fusion.onnx").open("r+b") as file:
        file.seek(100)
        file.write(b"\x00\xff")
    found = services.model(deployment(model=copied))
    assert found.level == "fail" and "fusion.onnx has sha256" in found.found
    (copied / "fusion.onnx").unlink()
    assert "is missing" in services.model(deployment(model=copied)).found
    assert "no artifact.json" in services.model(deployment(model=tmp_path)).found


def test_an_engine_without_a_model_is_told() -> None:
    assert services.model(deployment(engine="null")).level == "warn"


def test_keys_are_named_and_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("hidden-too\n")
    environ = {"MOODSTREAM_X_TOKEN": "hidden", "MOODSTREAM_MASTODON_TOKEN_FILE": str(file)}
    found = services.keys(deployment(environ, source="x"))
    assert found == ("ok", "set: MOODSTREAM_X_TOKEN, MOODSTREAM_MASTODON_TOKEN_FILE", "")


@pytest.mark.parametrize(
    ("source", "environ", "level", "said"),
    [
        ("bluesky", {}, "ok", "none set"),
        ("mastodon", {}, "ok", "none set"),
        ("x", {}, "fail", "source x needs MOODSTREAM_X_TOKEN"),
        ("x", {"MOODSTREAM_X_TOKEN": ""}, "fail", "source x needs"),
        ("reddit", {"MOODSTREAM_REDDIT_CLIENT_ID": "id"}, "fail", "needs MOODSTREAM_REDDIT_CLIENT_SECRET"),
        ("", {"MOODSTREAM_X_TOKEN_FILE": "/nowhere/token"}, "fail", "MOODSTREAM_X_TOKEN_FILE: the file cannot be read"),
        ("", {"MOODSTREAM_X_TOKEN_FILE": "/dev/null"}, "fail", "MOODSTREAM_X_TOKEN_FILE: the file cannot be read"),
    ],
)
def test_a_source_without_its_keys_fails(source: str, environ: dict[str, str], level: str, said: str) -> None:
    found = services.keys(deployment(environ, source=source))
    assert (found.level, said in found.found) == (level, True), found


class _Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/_stcore/health" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def page() -> Iterator[int]:
    """Port of what answers as the dashboard does."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Healthy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture(autouse=True)
def without_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOODSTREAM_AUTH", raising=False)


def test_a_dashboard_others_reach_without_a_login_is_told(page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "own_address", lambda: "127.0.0.1")
    found = services.dashboard(deployment(port=page))
    assert found.level == "warn" and f"127.0.0.1:{page}" in found.found
    assert "MOODSTREAM_AUTH=oidc" in found.remedy
    assert services.dashboard(deployment(port=1)).level == "ok"


def test_one_on_loopback_alone_is_no_ones_else(page: int) -> None:
    """Asked at this machine's own address, if it has another."""
    assert services.own_address() != "127.0.0.1"
    assert services.dashboard(deployment(port=page)).level == "ok"


def test_a_login_that_cannot_work_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MOODSTREAM_AUTH", "oidc")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    found = services.dashboard(deployment())
    assert found.level == "fail" and "there is no [auth]" in found.found
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "secrets.toml").write_text(
        "[auth]\nredirect_uri = 'https://mood.example/oauth2callback'\n"
        f"cookie_secret = '{'hidden' * 8}'\nclient_id = 'a'\nclient_secret = 'hidden'\n"
        "server_metadata_url = 'https://id.example/.well-known/openid-configuration'\n"
    )
    assert services.dashboard(deployment()) == ("ok", "people log in (MOODSTREAM_AUTH=oidc)", "")
