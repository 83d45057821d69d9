"""Settings of the dashboard: defaults, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboard.settings import SHIPPED_MODEL, Settings


def test_defaults_are_those_of_one_machine() -> None:
    settings = Settings.from_env({})
    assert (settings.namespace, settings.refresh_s, settings.ingest_health) == ("live", 2.0, ())
    assert settings.model == SHIPPED_MODEL
    assert (settings.model / "artifact.json").exists()


def test_addresses_and_model_are_read() -> None:
    environ = {"MOODSTREAM_INGEST_HEALTH": "127.0.0.1:8081, [::1]:8082", "MOODSTREAM_MODEL": "/models/mine"}
    settings = Settings.from_env(environ)
    assert settings.ingest_health == ("127.0.0.1:8081", "[::1]:8082")
    assert settings.model == Path("/models/mine")


@pytest.mark.parametrize(
    "value", ["8081", "localhost", "localhost:99999", "http://localhost:80", "me@host:80", "a:1/b"]
)
def test_what_is_no_address_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="MOODSTREAM_INGEST_HEALTH is .*: give host:port, several with commas"):
        Settings.from_env({"MOODSTREAM_INGEST_HEALTH": value})
