"""A way to run the alert service's evaluation to the end of what a store holds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from redis import Redis

from dashboard.alerts.history import Alert, latest_alerts
from dashboard.alerts.rules import RulesFile
from dashboard.alerts.service import Watch
from dashboard.alerts.settings import AlertSettings
from tests.dashboard.seeding import Server

MakeWatch = Callable[..., Watch]


@pytest.fixture
def make_watch(redis: Redis, server: Server, tmp_path: Path) -> MakeWatch:
    """A Watch on a namespace; `toml` replaces the shipped rules."""

    def make(namespace: str = "run", toml: str | None = None, now: datetime | None = None) -> Watch:
        path = tmp_path / "alerts.toml"
        if toml is not None:
            path.write_text(toml, encoding="utf-8")
        settings = AlertSettings(redis_url=server.url, namespace=namespace, rules=path)
        return Watch(redis, settings, RulesFile(path), frozenset({"log"}), now=lambda: now or datetime.now(UTC))

    return make


def run_out(watch: Watch) -> list[Alert]:
    """Evaluates all that has closed; the alerts so far, oldest first."""
    while watch.step():
        pass
    return latest_alerts(watch.redis, watch.settings.namespace, 1000)[::-1]
