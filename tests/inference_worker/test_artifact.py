"""The shipped artifact loads and reproduces itself; a damaged one refuses to start and says why."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inference_worker.artifact import load, read_manifest
from inference_worker.contract import LABELS
from inference_worker.engines import whole_numbers
from inference_worker.errors import ArtifactError
from inference_worker.settings import DEFAULT_MODEL


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEFAULT_MODEL, tmp_path / "model"))


def edit(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_the_shipped_artifact_loads_and_is_small() -> None:
    predictor = load(DEFAULT_MODEL)
    assert predictor.name.startswith("mdse-small ")
    assert sum(file.stat().st_size for file in DEFAULT_MODEL.iterdir()) <= 60e6
    assert sorted(read_manifest(DEFAULT_MODEL).labels) == sorted(LABELS)


@pytest.mark.parametrize(
    ("is_exact", "name"), [pytest.param(True, "onnx-int8", marks=pytest.mark.vnni), (False, "onnx")]
)
def test_whole_numbers_are_multiplied_where_the_processor_does_it_exactly(
    monkeypatch: pytest.MonkeyPatch, is_exact: bool, name: str
) -> None:
    if is_exact and not whole_numbers.are_exact():
        pytest.skip("this processor saturates products of bytes")
    monkeypatch.setattr(whole_numbers, "are_exact", lambda: is_exact)
    assert load(DEFAULT_MODEL).engine.name == name
    assert load(DEFAULT_MODEL, engine="onnx-float32").engine.name == "onnx"


def test_whole_numbers_are_refused_where_they_would_be_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_numbers, "are_exact", lambda: False)
    with pytest.raises(ArtifactError, match="engine onnx-int8: .* use onnx or onnx-float32"):
        load(DEFAULT_MODEL, engine="onnx-int8")


def test_without_torch_its_engine_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "inference_worker.engines.torch", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ArtifactError, match=r"engine torch: torch is not installed: pip install 'moodstream\[gpu\]'"):
        load(DEFAULT_MODEL, engine="torch")


def test_every_file_of_the_artifact_is_covered_by_a_checksum() -> None:
    files = {file.name for file in DEFAULT_MODEL.iterdir()}
    assert set(read_manifest(DEFAULT_MODEL).sha256) == files - {"artifact.json"}


def test_a_missing_directory_says_where_to_point(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no artifact.json in .*MOODSTREAM_MODEL"):
        load(tmp_path)


def test_a_missing_file_is_named(copy: Path) -> None:
    (copy / "fusion.onnx").unlink()
    with pytest.raises(ArtifactError, match=r"fusion\.onnx is missing"):
        load(copy)


def test_a_changed_file_is_named(copy: Path) -> None:
    weights = bytearray((copy / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "weights.safetensors").write_bytes(weights)
    with pytest.raises(ArtifactError, match=r"weights\.safetensors has sha256 .* it was changed"):
        load(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: manifest.update(schema=3), "schema 3.*upgrade"),
        (lambda manifest: manifest.update(schema=1), "schema 1.*export the model again"),
        (lambda manifest: manifest.update(labels=["happy", "sad", "meh"]), "labels .*happy"),
        (lambda manifest: manifest["calibration"].pop("both"), "lacks the calibration of both"),
        (lambda manifest: manifest["image"].update(crop="random"), "crop='random'"),
        (lambda manifest: manifest.pop("text"), "not an artifact manifest.*text"),
    ],
)
def test_a_manifest_this_worker_cannot_serve_is_refused(
    copy: Path, change: Callable[[Any], None], message: str
) -> None:
    edit(copy / "artifact.json", change)
    with pytest.raises(ArtifactError, match=message):
        load(copy)


def test_a_model_that_does_not_reproduce_its_golden_rows_refuses_to_start(copy: Path) -> None:
    def shift(golden: Any) -> None:
        golden["rows"][0]["expected"]["fused"] = [0.0, 0.0, 1.0]

    edit(copy / "golden.json", shift)
    edit(copy / "artifact.json", lambda manifest: manifest["sha256"].pop("golden.json"))
    with pytest.raises(ArtifactError, match="golden row .* does not reproduce the model"):
        load(copy)


def test_an_artifact_that_never_measured_its_activations_still_loads(copy: Path) -> None:
    (copy / "activations.safetensors").unlink()
    edit(copy / "artifact.json", lambda manifest: manifest["sha256"].pop("activations.safetensors"))
    assert load(copy).name.startswith("mdse-small ")


def test_golden_rows_of_none_prove_nothing(copy: Path) -> None:
    edit(copy / "golden.json", lambda golden: golden.update(rows=[]))
    edit(copy / "artifact.json", lambda manifest: manifest["sha256"].pop("golden.json"))
    with pytest.raises(ArtifactError, match="holds no rows"):
        load(copy)
