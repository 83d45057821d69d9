"""deploy/compose.yaml: by the schema of Compose itself, and what it promises of its containers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from compose_spec import PyCompose

ROOT: Final = Path(__file__).parent.parent.parent
COMPOSE: Final = ROOT / "deploy" / "compose.yaml"
OURS: Final = ("ingest", "worker", "worker-gpu", "dashboard", "alerts")


def compose(text: str | None = None) -> dict[str, Any]:
    """Merge keys resolved, extension fields left out."""
    found = yaml.safe_load(text or COMPOSE.read_text(encoding="utf-8"))
    return {name: value for name, value in found.items() if not name.startswith("x-")}


def validate(document: Mapping[str, Any]) -> None:
    """Raises ValueError."""
    parsed = PyCompose.from_json(json.dumps(document))
    parsed.validate()


def test_it_is_valid_by_the_compose_specification() -> None:
    validate(compose())


WRONG = {
    "a field nobody knows": ("restart: unless-stopped", "restat: unless-stopped"),
    "a value of another type": ("read_only: true", "read_only: perhaps"),
    "a network there is not": ("networks: [inside, outside]", "networks: [nowhere]"),
}


@pytest.mark.parametrize("case", WRONG)
def test_the_check_finds(case: str) -> None:
    old, new = WRONG[case]
    text = COMPOSE.read_text(encoding="utf-8")
    assert old in text
    with pytest.raises(ValueError, match=r"restat|boolean|nowhere"):
        validate(compose(text.replace(old, new)))


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_ours_has_no_rights_to_lose(name: str) -> None:
    service = compose()["services"][name]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "user" not in service  # the image's own, which is not root


def test_the_image_is_not_root_s_and_has_no_torch() -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^USER (\S+)", text, re.MULTILINE) == ["10001:10001"]
    assert "ARG EXTRAS=\n" in text
    assert "torch==" not in (ROOT / "requirements.txt").read_text(encoding="utf-8")


def test_only_pages_are_open_and_only_to_this_machine() -> None:
    ports = {name: service["ports"] for name, service in compose()["services"].items() if "ports" in service}
    assert ports == {"dashboard": ["127.0.0.1:8501:8501"], "grafana": ["127.0.0.1:3000:3000"]}


def test_what_a_service_waits_for_is_there_and_can_be_healthy() -> None:
    services = compose()["services"]
    awaited = {name for service in services.values() for name in service.get("depends_on", {})}
    assert awaited == {"kafka", "redis"} and all("healthcheck" in services[name] for name in awaited)


def test_every_variable_is_one_the_readme_knows() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = {name for name in OURS for name in compose()["services"][name]["environment"]}
    assert {name for name in named if name.startswith("MOODSTREAM_") and f"`{name}`" not in readme} == set()


def test_prometheus_asks_each_service_where_it_answers() -> None:
    services = compose()["services"]
    (config,) = [
        part for part in services["prometheus"]["command"] if part.startswith("--config.file=/etc/prometheus/")
    ]
    asked = yaml.safe_load((ROOT / "deploy" / "prometheus" / Path(config).name).read_text(encoding="utf-8"))
    ports = {
        name: one["port"] for job in asked["scrape_configs"] for one in job["dns_sd_configs"] for name in one["names"]
    }
    told = {"ingest": "INGEST", "worker": "WORKER", "worker-gpu": "WORKER", "alerts": "ALERTS"}
    answers = {name: services[name]["environment"][f"MOODSTREAM_{part}_HEALTH"] for name, part in told.items()}
    assert answers == {name: f"0.0.0.0:{ports[name]}" for name in told} and set(ports) == set(OURS)


def test_what_is_mounted_from_here_is_here() -> None:
    mounted = [
        volume for one in compose()["services"].values() for volume in one.get("volumes", ()) if volume[0] == "."
    ]
    assert len(mounted) >= 4
    assert [path for path in mounted if not (ROOT / "deploy" / path.partition(":")[0]).exists()] == []
