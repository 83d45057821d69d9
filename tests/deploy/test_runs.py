"""`moodstream runs` without servers: what there is, what it came to, and what is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from dashboard.runs import Run, locked, write_run
from deploy.cli import main

BEGAN = datetime(2026, 5, 4, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOODSTREAM_RUNS", str(tmp_path))
    for name in ("MOODSTREAM_REDIS", "MOODSTREAM_KAFKA"):
        monkeypatch.delenv(name, raising=False)
    for namespace, status in (("done", "done"), ("killed", "running")):
        (tmp_path / namespace).mkdir()
        run = Run(run="1", namespace=namespace, archive="a.csv", status="running", started_at=BEGAN, settled=7)
        write_run(tmp_path / namespace, msgspec.structs.replace(run, status=status))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    (tmp_path / "done" / "result.json").write_text('{"accuracy": 0.5, "confusion": [[1]]}')
    return tmp_path


def test_all_are_listed_as_they_are_now(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["runs"]
    assert {run["namespace"]: run["status"] for run in found} == {"done": "done", "killed": "interrupted"}
    assert main(["runs", "list"]) == 0
    said = capsys.readouterr().out
    assert "7 posts" in said and "passed over, as run.json cannot be read: 1 in" in said


def test_a_run_is_listed_where_it_lies_however_its_folder_is_called(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / "done").rename(runs / "renamed")
    assert main(["runs", "list", "--json"]) == 0
    found = {run["name"]: run for run in json.loads(capsys.readouterr().out)["runs"]}
    assert found["renamed"]["folder"] == str(runs / "renamed")
    assert (found["renamed"]["namespace"], found["renamed"]["status"]) == ("done", "done")
    assert main(["runs", "show", "renamed"]) == 0


def test_an_empty_folder_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MOODSTREAM_RUNS", str(tmp_path / "none"))
    assert main(["runs", "list"]) == 0
    assert "no replays in" in capsys.readouterr().out


def test_one_is_shown_with_its_result(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "show", "done", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["result"]["accuracy"] == 0.5
    assert found["run"]["archive"] == "a.csv"
    assert main(["runs", "show", "done"]) == 0
    assert "accuracy                0.5" in capsys.readouterr().out


def test_pausing_and_going_on_is_a_file_in_its_folder(runs: Path) -> None:
    assert main(["runs", "pause", "killed"]) == 2
    with locked(runs / "killed"):
        assert main(["runs", "pause", "killed"]) == 0
        assert (runs / "killed" / "pause").exists()
        assert main(["runs", "resume", "killed"]) == 0
    assert not (runs / "killed" / "pause").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["show", "nowhere"], "no replay in 'nowhere'"),
        (["delete", "nowhere", "--yes"], "there is no replay 'nowhere'"),
        (["delete", "No Name", "--yes"], "namespace 'No Name'"),
        (["delete", "done"], "cannot be undone: say --yes"),
        (["pause", "done"], "there is nothing to pause"),
        (["resume", "done"], "is not paused"),
        (["show", "broken"], "is no record of a replay"),
        (["delete", "broken", "--yes"], "if nothing in that folder is worth keeping, delete it"),
    ],
)
def test_misuse_is_one_line(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", *arguments]) == 2
    errors = capsys.readouterr().err
    assert expected in errors and errors.count("\n") == 1


def test_one_in_use_is_not_deleted(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with locked(runs / "killed"):
        assert main(["runs", "delete", "killed", "--yes"]) == 2
    assert "is in use" in capsys.readouterr().err
    assert main(["runs", "delete", "killed", "--yes"]) == 0
    assert not (runs / "killed").exists() and (runs / "done").exists()


def test_a_redis_that_does_not_answer_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MOODSTREAM_REDIS", "redis://:secret@127.0.0.1:1/0")
    assert main(["runs", "list"]) == 1
    errors = capsys.readouterr().err
    assert "does not answer" in errors and "secret" not in errors
