"""Folders of replays, written and found again."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from dashboard.runs import (
    PAUSE_FILE,
    RUN_FILE,
    Run,
    RunInUse,
    UnknownRun,
    is_in_use,
    listing,
    locked,
    read_run,
    run_folder,
    write_run,
)

BEGAN = datetime(2026, 5, 4, 12, tzinfo=UTC)


def run(namespace: str = "airline", **changes: object) -> Run:
    made = Run(run="1", namespace=namespace, archive="a.csv", status="running", started_at=BEGAN)
    return msgspec.structs.replace(made, **changes)


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = run(options={"split": "test", "label_delay_s": 3600}, versions={"moodstream": "1"}, resumed_at=(BEGAN,))
    write_run(tmp_path, written)
    assert read_run(tmp_path) == written
    assert [path.name for path in tmp_path.iterdir()] == [RUN_FILE]


def test_runs_are_listed_newest_first_and_others_passed_over(tmp_path: Path) -> None:
    for number, name in enumerate(("old", "new")):
        folder = run_folder(tmp_path, name)
        folder.mkdir()
        write_run(folder, run(name, started_at=BEGAN + timedelta(days=number)))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / RUN_FILE).write_text("{")
    (tmp_path / "note.txt").write_text("not a run")
    found = listing(tmp_path)
    assert ([entry.name for entry in found.entries], found.broken) == (["new", "old"], 1)
    assert [entry.name for entry in listing(tmp_path, limit=1).entries] == ["new"]
    assert found.find("old") == found.entries[1] and found.find("gone") is None
    assert listing(tmp_path / "nowhere").entries == ()


def test_a_listing_tells_how_a_run_is_now_and_where(tmp_path: Path) -> None:
    folder = tmp_path / "renamed since"
    folder.mkdir()
    write_run(folder, run("airline"))

    def now() -> str:
        (entry,) = listing(tmp_path).entries
        assert (entry.folder, entry.name, entry.run.namespace) == (folder, "renamed since", "airline")
        return entry.status

    assert now() == "interrupted"
    with locked(folder):
        assert now() == "running"
        (folder / PAUSE_FILE).touch()
        assert now() == "paused"
    assert now() == "interrupted"


@pytest.mark.parametrize("content", [None, b"{", b"[]", b"\xff"])
def test_what_is_no_run_is_told(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / RUN_FILE).write_bytes(content)
    with pytest.raises(UnknownRun, match=r"run\.json"):
        read_run(tmp_path)


@pytest.mark.parametrize("name", ["../elsewhere", "", "a/b", ".."])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="namespace"):
        run_folder(tmp_path, name)


def test_looking_whether_a_run_is_in_use_keeps_nobody_from_starting_it(tmp_path: Path) -> None:
    assert not is_in_use(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path):
        assert is_in_use(tmp_path)
    assert not is_in_use(tmp_path)
    looking = threading.Event()

    def look() -> None:
        while not looking.is_set():
            is_in_use(tmp_path)

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(20):
            with locked(tmp_path):
                pass
    finally:
        looking.set()
        for looker in lookers:
            looker.join()


def test_a_run_in_use_is_told(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(RunInUse, match="in use by a replay that runs"), locked(tmp_path):
        pass
