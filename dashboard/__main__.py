"""Start the dashboard: `python -m dashboard [--host HOST] [--port PORT]`; SIGTERM ends it with exit code 0."""

from __future__ import annotations

import argparse
import logging
import socket
from pathlib import Path

from ingest.telemetry.logs import configure

from .loopback import is_loopback
from .settings import Settings, check_login, secrets_files

HERE = Path(__file__).parent


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m dashboard", description="Watch the mood in a browser.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8501, help="port to listen on (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    try:
        settings = Settings.from_env()
        if settings.auth == "oidc":
            check_login(secrets_files())
    except ValueError as error:
        parser.exit(2, f"moodstream dashboard: {error}\n")
    configure(settings.log, plain="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger(__name__).info(
        "page at http://%s:%d, results from Redis at %s", chosen.host, chosen.port, settings.redis_address
    )
    if settings.auth == "off" and not is_loopback(chosen.host):
        logging.getLogger(__name__).warning(
            "%s is open to other machines and nobody logs in: the page is read-only (MOODSTREAM_AUTH=oidc lets people "
            "log in)",
            chosen.host,
        )
    serve(chosen.host, chosen.port)


def serve(host: str, port: int) -> None:
    """Run Streamlit in this process until it is told to stop."""
    from streamlit import config
    from streamlit.runtime.pages_manager import PagesManager
    from streamlit.web import bootstrap

    app = str(HERE / "app.py")
    options = {
        "server.address": host,
        "server.port": port,
        "server.headless": True,
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": False,
        "client.showErrorDetails": "none",
        "client.toolbarMode": "minimal",
        "logger.hideWelcomeMessage": True,
        # Messages above this many bytes travel once per viewer: pictures and quiet cards cost a refresh nothing.
        "global.minCachedMessageSize": 1000,
        # Specs of charts and HTML shrink to a sixth.
        "server.enableWebsocketCompression": True,
        # Not the folder of `app.py`: what is beside an installed package is nobody's secret.
        "secrets.files": [str(file) for file in secrets_files()],
        # A full collection after every refresh takes 70 ms with all threads stopped; Python's own pace is enough.
        "runner.postScriptGC": False,
        # Else a bare string of a page, such as a constant's docstring, is shown on it.
        "runner.magicEnabled": False,
        "theme.base": str(HERE / "theme.toml"),
    }
    # `app.py` says which pages there are; without this, a link to one that is opened first runs it without the frame.
    PagesManager.uses_pages_directory = False
    config._main_script_path = app
    send_at_once()
    bootstrap.load_config_options(options)
    bootstrap.run(app, False, [], options)


def send_at_once() -> None:
    """Let Streamlit's connections send small messages as they come.

    It binds a socket without naming TCP, which asyncio then does not recognise: the last small message of an answer
    waits for the browser's acknowledgement of the one before, 40 ms on Linux, at every part of every refresh.
    """
    from streamlit.web.server.starlette import starlette_server

    bind = starlette_server._bind_socket

    def bind_undelayed(address: str, port: int, backlog: int) -> socket.socket:
        listening = bind(address, port, backlog)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it
        return listening

    starlette_server._bind_socket = bind_undelayed


if __name__ == "__main__":
    main()
