"""This machine: Python, packages, processor, disk, file handles."""

from __future__ import annotations

import platform
import resource
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

from deploy.checks.finding import Check, Deployment, Finding, fail, of_bytes, ok, warn
from deploy.settings import Settings

OLDEST_PYTHON: Final = (3, 11)
DISTRIBUTION: Final = "moodstream"
INSTALL: Final = "run `make install`, or pip install -r requirements.txt"
DISK_LEAST: Final = 256 << 20
DISK_ENOUGH: Final = 2 << 30
HANDLES_LEAST: Final = 256
HANDLES_ENOUGH: Final = 1024
"""A worker holds about 100: connections to each broker, to Redis, the model's files."""
NEED_GPU: Final = ("torch", "torch-float32")
CPU_INFO: Final = Path("/proc/cpuinfo")


def python(_: Deployment) -> Finding:
    found = f"{platform.python_implementation()} {platform.python_version()} in {sys.prefix}"
    if sys.version_info < OLDEST_PYTHON:
        return fail(found, f"use Python {'.'.join(map(str, OLDEST_PYTHON))} or newer")
    return ok(found)


def libraries(_: Deployment) -> Finding:
    """Against the ranges of pyproject.toml, as the installed distribution carries them."""
    try:
        return compared([Requirement(line) for line in requires(DISTRIBUTION) or ()])
    except PackageNotFoundError:
        return warn(f"{DISTRIBUTION} itself is not installed: nothing to compare versions with", INSTALL)


def compared(needed: list[Requirement]) -> Finding:
    """Those without a marker must be there; those of an extra must fit if they are."""
    amiss, fitting = [], 0
    for requirement in needed:
        is_extra = requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            if not is_extra:
                amiss.append(f"{requirement.name} is not installed")
            continue
        if requirement.specifier.contains(installed, prereleases=True):
            fitting += 1
        else:
            amiss.append(f"{requirement.name} is {installed}, needed is {requirement.specifier}")
    return fail("; ".join(amiss), INSTALL) if amiss else ok(f"{fitting} packages within their ranges")


def processor(deployment: Deployment) -> Finding:
    """Whether bytes are multiplied exactly, and which accelerators there are; the engine asked for must be possible."""
    from inference_worker.engines import whole_numbers  # loads ONNX Runtime

    is_exact = whole_numbers.are_exact()
    vnni = "VNNI" if is_exact else "no VNNI"
    if CPU_INFO.exists() and is_exact and "vnni" not in CPU_INFO.read_text(encoding="utf-8", errors="replace"):
        vnni = "no VNNI, yet exact"
    gpus = accelerators()
    engine = deployment.worker.engine
    found = f"{platform.machine()}, {vnni}, {', '.join(gpus) or 'no GPU'}; engine {engine}"
    if engine == "onnx":
        found += f" is {'onnx-int8' if is_exact else 'onnx-float32'} here"
    if engine == "onnx-int8" and not is_exact:
        return fail(found, "products of bytes saturate here: MOODSTREAM_ENGINE=onnx or onnx-float32")
    if engine in NEED_GPU and not gpus:
        return fail(found, "install NVIDIA's driver, or let the container have the GPU; or MOODSTREAM_ENGINE=onnx")
    return ok(found)


def accelerators() -> list[str]:
    """Names of NVIDIA GPUs, as their driver tells."""
    if (program := shutil.which("nvidia-smi")) is None:
        return []
    asked = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []


def disk(deployment: Deployment) -> Finding:
    """Of the folders written to."""
    state = deployment.ingest.state_dir
    return room_in({Settings.from_env().runs, Path(tempfile.gettempdir()), *([state] if state is not None else [])})


def room_in(folders: set[Path]) -> Finding:
    free = {folder: shutil.disk_usage(_existing(folder)).free for folder in folders}
    tightest = min(sorted(free), key=free.__getitem__)
    found = f"{of_bytes(free[tightest])} free for {tightest}"
    remedy = f"make room there, {of_bytes(DISK_ENOUGH)} or more"
    if free[tightest] < DISK_LEAST:
        return fail(found, remedy)
    return warn(found, remedy) if free[tightest] < DISK_ENOUGH else ok(found)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there already."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def file_handles(_: Deployment) -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= HANDLES_ENOUGH:
        return ok(f"{'any number' if soft == resource.RLIM_INFINITY else soft} may be open")
    most = "no end" if hard == resource.RLIM_INFINITY else str(hard)
    remedy = f"ulimit -n {HANDLES_ENOUGH} (up to {most} without asking), or LimitNOFILE= of the service"
    found = f"{soft} may be open"
    return fail(found, remedy) if soft < HANDLES_LEAST else warn(found, remedy)


CHECKS: Final = (
    Check("python", python),
    Check("libraries", libraries),
    Check("processor", processor, 60.0),
    Check("disk", disk),
    Check("file-handles", file_handles),
)
