"""Checks of this machine, each in its good and its bad case."""

from __future__ import annotations

import os
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from deploy.checks import machine
from deploy.checks.finding import Deployment, of_bytes
from inference_worker.engines import whole_numbers
from inference_worker.settings import Settings as WorkerSettings
from ingest.settings import Settings as IngestSettings
from tests.deploy.test_cli import moodstream


def deployment(**worker: object) -> Deployment:
    return Deployment(worker=WorkerSettings(**worker), ingest=IngestSettings())


def compared(*lines: str) -> tuple[str, str]:
    found = machine.compared([Requirement(line) for line in lines])
    return found.level, found.found


def test_python_is_the_one_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    found = machine.python(deployment())
    assert found.level == "ok" and sys.prefix in found.found
    monkeypatch.setattr(machine, "OLDEST_PYTHON", (9, 1))
    assert machine.python(deployment())._replace(found="") == ("fail", "", "use Python 9.1 or newer")


def test_the_installed_libraries_are_within_the_ranges_of_pyproject() -> None:
    found = machine.libraries(deployment())
    assert found.level == "ok", found
    assert int(found.found.split()[0]) >= 20


@pytest.mark.parametrize(
    ("lines", "level", "said"),
    [
        (["click<8.4", "msgspec"], "ok", "2 packages within their ranges"),
        (["msgspec>=99", "click"], "fail", f"msgspec is {version('msgspec')}, needed is >=99"),
        (["no-such-package-here"], "fail", "no-such-package-here is not installed"),
        (['no-such-package-here; extra == "gpu"', "click"], "ok", "1 packages"),
        (['click>=99; extra == "gpu"'], "fail", "needed is >=99"),
        (['no-such-package-here; python_version < "3"', "click"], "ok", "1 packages"),
    ],
)
def test_a_library_out_of_its_range_is_told_by_name(lines: list[str], level: str, said: str) -> None:
    found = compared(*lines)
    assert (found[0], said in found[1]) == (level, True), found


def test_without_the_distribution_there_is_nothing_to_compare_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "DISTRIBUTION", "no-such-package-here")
    with pytest.raises(PackageNotFoundError):
        version(machine.DISTRIBUTION)
    assert machine.libraries(deployment()).level == "warn"


def test_the_engine_asked_for_must_be_possible_on_this_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.processor(deployment()).level == "ok"
    monkeypatch.setattr(whole_numbers, "are_exact", lambda: False)  # what another processor would say
    assert "no VNNI" in machine.processor(deployment()).found
    assert "engine onnx is onnx-float32 here" in machine.processor(deployment()).found
    insisting = machine.processor(deployment(engine="onnx-int8"))
    assert insisting.level == "fail" and "MOODSTREAM_ENGINE=onnx" in insisting.remedy


@pytest.mark.parametrize(("engine", "level"), [("torch", "fail"), ("torch-float32", "fail"), ("torch-cpu", "ok")])
def test_an_engine_that_needs_a_gpu_must_have_one(
    engine: str, level: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = machine.processor(deployment(engine=engine))
    assert (found.level, "no GPU" in found.found) == (level, True), found


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("echo 'NVIDIA H200, 143771 MiB'", ["NVIDIA H200, 143771 MiB"]),
        ("echo 'couldn't communicate with the driver'; exit 9", []),
    ],
)
def test_gpus_are_those_the_driver_tells(
    script: str, found: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert machine.accelerators() == found


def test_without_a_driver_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.accelerators() == []


def test_room_is_looked_for_where_it_is_tightest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = {tmp_path / "not" / "there" / "yet"}
    assert machine.disk(deployment()).found.endswith((".moodstream/runs", tempfile.gettempdir()))
    monkeypatch.setattr(machine, "DISK_ENOUGH", 0)
    monkeypatch.setattr(machine, "DISK_LEAST", 0)
    assert machine.room_in(folders).level == "ok"
    monkeypatch.setattr(machine, "DISK_ENOUGH", 1 << 60)
    assert machine.room_in(folders).level == "warn"
    monkeypatch.setattr(machine, "DISK_LEAST", 1 << 60)
    found = machine.room_in(folders)
    assert found.level == "fail" and f"free for {tmp_path / 'not' / 'there' / 'yet'}" in found.found


@pytest.mark.parametrize(("limit", "line", "code"), [(2048, "ok", 0), (512, "warn", 0), (128, "fail", 1)])
def test_too_few_file_handles_are_told_with_the_command(limit: int, line: str, code: int, tmp_path: Path) -> None:
    script = tmp_path / "limited"
    script.write_text(f"#!/bin/sh\nulimit -Sn {limit}\nexec '{sys.executable}' \"$@\"\n")
    script.chmod(0o755)
    done = moodstream("doctor", "--only", "file-handles", python=str(script))
    assert done.returncode == code, done.stderr
    assert done.stdout.startswith(f"{line:4}  file-handles      {limit} may be open")
    assert ("  -> ulimit -n 1024" in done.stdout) == (line != "ok")


@pytest.mark.parametrize(
    ("size", "said"), [(12, "12 B"), (20_000, "20 KB"), (5 << 20, "5 MB"), (1.5 * (1 << 30), "1.5 GB")]
)
def test_sizes_are_for_people(size: float, said: str) -> None:
    assert of_bytes(size) == said
