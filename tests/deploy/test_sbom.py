"""`make sbom`: valid by CycloneDX's own schema, and everything the runtime has is in it, the model too."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.sbom import main
from inference_worker.settings import DEFAULT_MODEL

ROOT = Path(__file__).parent.parent.parent
UNLICENSED = {"protobuf", "pydeck"}
"""Their own metadata name no licence."""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_it_lists_what_the_runtime_has_and_the_model() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    made = subprocess.run(["make", "sbom"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    bom = json.loads((ROOT / made.stdout.splitlines()[-1]).read_text())
    for one in bom["components"]:
        one.pop("externalReferences", None)  # the packages' own links: 12 s of grammar, of which nothing is ours
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bom)) is None
    packages = {canonicalize_name(one["name"]): one for one in bom["components"] if one["type"] == "library"}
    assert {name: one["version"] for name, one in packages.items()} == pinned()
    assert {name for name, one in packages.items() if not one.get("licenses")} <= UNLICENSED
    assert all(one["purl"].startswith("pkg:pypi/") for one in packages.values())
    assert bom["metadata"]["component"]["name"] == "moodstream"
    assert bom["metadata"]["component"]["licenses"][0]["license"]["id"] == "Apache-2.0"
    (model,) = [one for one in bom["components"] if one["type"] == "machine-learning-model"]
    (root,) = [one for one in bom["dependencies"] if one["ref"] == bom["metadata"]["component"]["bom-ref"]]
    assert model["bom-ref"] in root["dependsOn"]
    assert model["licenses"][0]["license"]["id"] == "Apache-2.0"
    assert hashes_of(model) == {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in DEFAULT_MODEL.iterdir()
        if file.name != "artifact.json"
    }
    assert [one["name"] for one in model["pedigree"]["ancestors"]] == ["EfficientNet-Lite0", "all-MiniLM-L6-v2"]


def pinned() -> dict[str, str]:
    """By the runtime's lock file, on this machine."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines]
    return {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
        for pin in pins
        if pin.marker is None or pin.marker.evaluate()
    }


def hashes_of(model: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["hashes"][0]["content"] for one in model["components"]}


@pytest.mark.parametrize(
    ("listed", "artifact"),
    [
        (None, None),
        ("no JSON", None),
        ('{"components": []}', None),
        ('{"components": [], "metadata": {"component": {"bom-ref": "x"}}, "dependencies": []}', "nowhere"),
    ],
)
def test_what_cannot_be_listed_is_told_in_a_line(
    listed: str | None, artifact: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bom.json"
    if listed is not None:
        file.write_text(listed)
    assert main([str(file), *([str(tmp_path / artifact)] if artifact else [])]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"sbom: no model is added to {file} (") and told.count("\n") == 1
    assert not file.exists() or file.read_text() == listed
