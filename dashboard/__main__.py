"""Start the dashboard: `python -m dashboard [--host HOST] [--port PORT]`; SIGTERM ends it with exit code 0."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from .settings import Settings

HERE = Path(__file__).parent


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m dashboard", description="Watch the mood in a browser.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8501, help="port to listen on (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    try:
        settings = Settings.from_env()
    except ValueError as error:
        parser.error(str(error))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger(__name__).info(
        "page at http://%s:%d, results from Redis at %s", chosen.host, chosen.port, settings.redis_address
    )
    serve(chosen.host, chosen.port)


def serve(host: str, port: int) -> None:
    """Run Streamlit in this process until it is told to stop."""
    from streamlit import config
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
        "theme.base": str(HERE / "theme.toml"),
    }
    config._main_script_path = app
    bootstrap.load_config_options(options)
    bootstrap.run(app, False, [], options)


if __name__ == "__main__":
    main()
