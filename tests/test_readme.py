"""What the README says is so: its commands run, its settings are the code's, its tree is the tree."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SERVICES = ("ingest", "inference_worker", "dashboard", "deploy")
COMMANDS = [
    line.split("#")[0].removesuffix("&\n").rstrip(" &\n").removeprefix(".venv/bin/")
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines(keepends=True)
    if re.match(r"(\.venv/bin/)?moodstream ", line)
]


def moodstream(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("moodstream classify")])
def test_the_commands_that_classify_do(command: str, tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), "orange").save(tmp_path / "meme.png")
    (tmp_path / "posts.jsonl").write_text('{"id": "a", "text": "so good"}\n{"id": "b", "image": "meme.png"}\n')
    done = moodstream(*shlex.split(command)[1:], folder=tmp_path)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == (2 if "--jsonl" in command else 1)
    for answer in answers:
        assert answer["label"] in ("positive", "neutral", "negative")
        assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_flag_named_exists(command: str) -> None:
    _, name, *rest = shlex.split(command)
    flags = [word for word in rest if word.startswith("--")]
    action = [word for word in rest[:1] if not word.startswith("-")]  # or a file, which says no less
    done = moodstream(name, *action, "--help", folder=ROOT)
    assert done.returncode == 0, done.stderr
    assert [flag for flag in flags if flag not in done.stdout] == []


def test_the_settings_table_is_the_codes() -> None:
    documented = set(re.findall(r"^\| `(MOODSTREAM_[A-Z_]+)`", README, re.MULTILINE))
    read = set()
    for service in SERVICES:
        for path in (ROOT / service).rglob("*.py"):
            source = path.read_text()
            read |= set(re.findall(r"MOODSTREAM_[A-Z_]+[A-Z]", source))
            read |= {f"MOODSTREAM_{name}" for name in re.findall(r'env\.\w+\("([A-Z_]+)"', source)}
    assert documented == read


def test_nothing_but_settings_reads_the_environment() -> None:
    readers = {
        str(path.relative_to(ROOT))
        for service in SERVICES
        for path in (ROOT / service).rglob("*.py")
        if "os.environ" in path.read_text() or "getenv" in path.read_text()
    }
    # children.py hands the environment on as a whole
    settings = {f"{service}/settings.py" for service in (*SERVICES, "dashboard/alerts")}
    assert readers - {"deploy/children.py"} <= settings


def test_the_tree_names_every_module() -> None:
    tree = README.split("## Where things are")[1]
    modules = {
        path.relative_to(ROOT).as_posix()
        for package in (*SERVICES, "training")
        for path in (ROOT / package).rglob("*.py")
        if path.stem not in ("__init__", "__main__")
    }
    missing = {module for module in modules if Path(module).name not in tree}
    assert missing == set()
