"""Where a replay's numbers come from: hashes of archive and model, versions, the machine."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from deploy.errors import Misuse

NULL: Final = "null"
"""Name of the engine that answers without a model, and of what it says."""
MATTERING: Final = ("moodstream", "onnxruntime", "tokenizers", "numpy", "pillow", "pyarrow", "faust-streaming", "redis")


def sha256_of(archive: Path) -> str:
    """Of a file's bytes; of a folder: of its files' names and hashes."""
    if not archive.is_dir():
        return _sha256(archive)
    listing = hashlib.sha256()
    for path in sorted(path for path in archive.rglob("*") if path.is_file()):
        listing.update(f"{_sha256(path)}  {path.relative_to(archive).as_posix()}\n".encode())
    return listing.hexdigest()


class Model(NamedTuple):
    """folder: of the artifact; sha256: of its manifest; title: what the worker calls it. Empty where unknown."""

    folder: str
    sha256: str
    title: str


class _Manifest(msgspec.Struct):
    name: str
    version: str


def model_of(variables: Mapping[str, str]) -> Model:
    """The one these variables name; nothing is known of one that cannot be read, which the worker will tell.

    Raises Misuse if a variable cannot be used.
    """
    from inference_worker.settings import Settings as WorkerSettings

    try:
        settings = WorkerSettings.from_env(variables)
    except ValueError as error:
        raise Misuse(str(error)) from error
    path = settings.model / "artifact.json"
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=_Manifest)
    except (OSError, msgspec.MsgspecError):
        return Model("", "", "")
    title = NULL if settings.engine == NULL else f"{manifest.name} {manifest.version}"
    return Model(settings.model.name, _sha256(path), title)


def versions() -> dict[str, str]:
    """Of Python and the packages that can change a number."""
    found = {"python": platform.python_version()}
    for name in MATTERING:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a checkout that is not installed
            continue
    return found


def processor() -> str:
    """The processor and how many of its cores may be used."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name or platform.processor() or platform.machine()}, {cores} cores"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
