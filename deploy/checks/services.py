"""What the services need beside Kafka and Redis: the model, the sources' keys, a dashboard that is nobody else's."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path
from typing import Final

from dashboard.settings import Settings as DashboardSettings
from dashboard.settings import check_login, secrets_files
from deploy.checks.finding import Check, Deployment, Finding, fail, ok, warn

KEYS: Final = {
    "x": ("MOODSTREAM_X_TOKEN",),
    "mastodon": ("MOODSTREAM_MASTODON_TOKEN",),
    "reddit": ("MOODSTREAM_REDDIT_CLIENT_ID", "MOODSTREAM_REDDIT_CLIENT_SECRET"),
}
"""Of the sources that need some; Mastodon's public streams on most servers do not."""
SELDOM_NEEDED: Final = ("mastodon",)
ANSWER_TIMEOUT_S: Final = 3.0
ELSEWHERE: Final = ("192.0.2.1", 9)
"""An address of nobody (RFC 5737): asking for the way there sends nothing, and tells the address of this machine."""


def model(deployment: Deployment) -> Finding:
    """As a worker does it on start: files by their sha256, golden rows by their probabilities."""
    from inference_worker.artifact import load  # loads ONNX Runtime and the weights
    from inference_worker.errors import ArtifactError

    settings = deployment.worker
    try:
        predictor = load(settings.model, engine=settings.engine, threads=settings.engine_threads)
    except ArtifactError as error:
        return fail(str(error), "copy the artifact again, export it anew, or let MOODSTREAM_MODEL name another")
    if settings.engine == "null":
        return warn("engine null: no model answers", "unset MOODSTREAM_ENGINE, unless you measure everything but it")
    return ok(f"{predictor.name} reproduces its golden rows on engine {predictor.engine.name}")


def keys(deployment: Deployment) -> Finding:
    """By name only; a key may stand in a file that its variable with _FILE names."""
    environ, source = deployment.ingest.environ, deployment.worker.source
    known: list[str] = []
    unreadable: list[str] = []
    for name in [name for names in KEYS.values() for name in names]:
        file = environ.get(f"{name}_FILE")
        if environ.get(name):
            known.append(name)
        elif file:
            (known if _is_readable(Path(file)) else unreadable).append(f"{name}_FILE")
    if unreadable:
        return fail(f"{', '.join(unreadable)}: the file cannot be read", "let it name a file this user may read")
    missing = [name for name in KEYS.get(source, ()) if name not in known and f"{name}_FILE" not in known]
    if missing and source not in SELDOM_NEEDED:
        return fail(f"source {source} needs {', '.join(missing)}", "set it, or name a file that holds it by …_FILE")
    return ok(f"set: {', '.join(known)}" if known else "none set: bluesky and rss need none")


def _is_readable(file: Path) -> bool:
    try:
        with file.open(encoding="utf-8") as opened:
            return bool(opened.read().strip())
    except (OSError, UnicodeDecodeError):
        return False


def dashboard(deployment: Deployment) -> Finding:
    """Whether other machines reach it, if it runs here, and whether they would have to log in."""
    try:
        settings = DashboardSettings.from_env()
        if settings.auth == "oidc":
            check_login(secrets_files())
    except ValueError as error:
        return fail(str(error), "mend the variable or the file, else the dashboard does not start")
    if settings.auth == "oidc":
        return ok("people log in (MOODSTREAM_AUTH=oidc)")
    address, port = own_address(), deployment.dashboard_port
    if address is None or not is_dashboard(address, port):
        return ok(f"no login, and not open to other machines on port {port}")
    return warn(
        f"whoever reaches {address}:{port} may read everything, and nobody logs in",
        "MOODSTREAM_AUTH=oidc, or `moodstream dashboard --host 127.0.0.1` behind a proxy that asks",
    )


def own_address() -> str | None:
    """Where other machines would reach this one; None without a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(ELSEWHERE)
        except OSError:
            return None
        return str(probe.getsockname()[0])


def is_dashboard(address: str, port: int) -> bool:
    """Streamlit's health check answers there."""
    connection = http.client.HTTPConnection(address, port, timeout=ANSWER_TIMEOUT_S)
    try:
        connection.request("GET", "/_stcore/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


CHECKS: Final = (
    Check("model", model, 300.0),
    Check("keys", keys),
    Check("dashboard", dashboard),
)
