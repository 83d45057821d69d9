"""Every service of ours in deploy/compose.yaml, as a plain process with the very same command and variables."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from redis import Redis

from deploy.local import LocalStack
from deploy.servers import free_port
from inference_worker.contract import Results, UnknownNamespace
from inference_worker.settings import Settings
from tests.pipeline.conftest import on_apache

ROOT: Final = Path(__file__).parent.parent.parent
SERVICES: Final[dict[str, dict[str, Any]]] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
STARTED: Final = ("ingest", "worker", "dashboard", "alerts")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Here:
    """Compose's names and ports, as this machine has them."""

    def __init__(self, stack: LocalStack) -> None:
        self._ports: dict[str, int] = {}
        self._places = {"kafka:9092": stack.kafka, "redis://redis:6379/0": stack.redis}

    def port(self, inside: str) -> int:
        return self._ports.setdefault(inside, free_port())

    def mapped(self, value: str) -> str:
        value = re.sub(r"\$\{MOODSTREAM_INGEST_SOURCE:-\w+\}", "sample", value)
        if value in self._places:
            return self._places[value]
        if (address := re.fullmatch(r"(?:0\.0\.0\.0|ingest):(\d+)", value)) is not None:
            return f"127.0.0.1:{self.port(address[1])}"
        return {"0.0.0.0": "127.0.0.1", "8501": str(self.port("8501"))}.get(value, value)

    def start(self, name: str, folder: Path) -> subprocess.Popen[bytes]:
        """As the image does: `moodstream`, then the service's command."""
        service = SERVICES[name]
        command = [sys.executable, "-P", "-m", "deploy", *map(self.mapped, service["command"])]
        told = {name: self.mapped(value) for name, value in service["environment"].items()}
        state = folder / name
        state.mkdir()
        kept = {"MOODSTREAM_STATE": str(state), "MOODSTREAM_RUNS": str(state / "runs"), "HOME": str(state)}
        with (folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(command, cwd=state, env={**_plain(), **kept, **told}, stdout=log, stderr=log)


def _plain() -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("MOODSTREAM_")}
    return {**own, "PYTHONPATH": str(ROOT)}


@on_apache
def test_a_post_is_scored_by_services_told_what_compose_tells_them(stack: LocalStack, tmp_path: Path) -> None:
    here = Here(stack)
    running = {name: here.start(name, tmp_path) for name in STARTED}

    def told() -> Mapping[str, str]:
        return {name: (tmp_path / f"{name}.log").read_text()[-1500:] for name in STARTED}

    def until(condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 200
        while not condition():
            gone = {name: process.poll() for name, process in running.items() if process.poll() is not None}
            assert not gone and time.monotonic() < deadline, f"{what}: {gone} ended; {told()}"
            time.sleep(0.2)

    def answers(path: str, inside: str) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{here.port(inside)}{path}", timeout=5) as got:
            return bool(got.status == 200)
        return False

    with Redis.from_url(stack.redis) as redis:

        def scored() -> int:
            with suppress(UnknownNamespace):
                return Results(redis, "live").counters().get("scored", 0)
            return 0

        try:
            until(lambda: scored() >= 1, "a post is scored")
            until(lambda: redis.exists("{live}:alerts:state") == 1, "the alerts have evaluated")
            until(lambda: answers("/_stcore/health", "8501"), "the dashboard answers")
            until(lambda: answers("/healthz", "8081"), "ingest tells how it is")
        finally:
            for process in running.values():
                process.terminate()
            codes = {name: process.wait(60) for name, process in running.items()}
    assert codes == dict.fromkeys(STARTED, 0), told()


def test_the_worker_on_a_gpu_is_told_what_it_takes() -> None:
    here = Here(LocalStack(Path(), kafka="k:1", redis="redis://r:1/0"))
    environment = SERVICES["worker-gpu"]["environment"]
    settings = Settings.from_env({name: here.mapped(value) for name, value in environment.items()})
    assert (settings.engine, settings.batch_items, settings.kind) == ("torch", 128, "live")
