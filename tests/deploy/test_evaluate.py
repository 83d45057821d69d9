"""A model on an archive, offline: each post once, as a replay would count it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from deploy.cli import main
from ingest.sources.archive import write_archive
from tests.deploy.full_disk import no_room
from tests.deploy.withdrawn_feed import JUDGED, withdrawn_feed


def test_posts_are_counted_as_in_a_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MOODSTREAM_ENGINE", "null")
    feed = tmp_path / "feed.csv"
    rows = [f"{number},neutral,post number {number}" for number in range(40)]
    feed.write_text("\n".join(["id,mood,words", *rows, "3,positive,the same id again", "90,neutral,"]) + "\n")
    out = tmp_path / "out"
    columns = ("--map", "id=id", "label=mood", "text=words")
    assert main(["evaluate", "--data", str(feed), *columns, "--report", str(out), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["posts_read"], result["predictions"], result["duplicates"], result["lost"]) == (42, 40, 1, 0)
    assert result["model"] == "null"
    table = pq.read_table(out / "predictions.parquet").to_pydict()
    assert len(set(table["id"])) == 40 and "the same id again" not in table["text"]
    assert json.loads((out / "run.json").read_bytes())["status"] == "done"
    assert json.loads((out / "result.json").read_bytes()) == result


def test_what_was_edited_deleted_or_forgotten_is_not_judged_but_counted_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MOODSTREAM_ENGINE", "null")
    write_archive(tmp_path / "feed.jsonl.zst", withdrawn_feed())
    out = tmp_path / "out"
    assert main(["evaluate", "--data", str(tmp_path / "feed.jsonl.zst"), "--report", str(out), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    found = {name: result[name] for name in ("posts_read", "duplicates", "withdrawn", "deletions", "lost", "labelled")}
    assert found == {"posts_read": 13, "duplicates": 1, "withdrawn": 6, "deletions": 2, "lost": 0, "labelled": 4}
    rows = pq.read_table(out / "predictions.parquet").to_pylist()
    assert {row["id"]: row["text"] for row in rows} == JUDGED
    summary = (out / "report.md").read_text()
    assert (
        "4 scored, 1 duplicates, 6 withdrawn (edited, deleted or forgotten later: not judged), 2 deletions" in summary
    )


@pytest.mark.parametrize("limit", [1_000, 6_000], ids=["at once", "on the way"])
def test_a_full_disk_is_one_line_that_says_how_to_go_on(
    limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MOODSTREAM_ENGINE", "null")
    feed, out = tmp_path / "feed.csv", tmp_path / "out"
    feed.write_text("words\n" + "\n".join(f"post number {number}" for number in range(2_000)) + "\n")
    arguments = ["evaluate", "--data", str(feed), "--map", "text=words", "--report", str(out), "--json"]
    with no_room(limit):
        assert main(arguments) == 1
    errors = capsys.readouterr().err.splitlines()
    assert f"no room left for {out} (File too large): make some and run the same command again" in errors[-1]
    assert not any("Traceback" in line for line in errors)
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["predictions"] == 2_000


def test_what_cannot_be_evaluated_is_misuse(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["evaluate", "--data", "nowhere.csv"]) == 2
    assert "'nowhere.csv'" in capsys.readouterr().err
    feed = tmp_path / "feed.csv"
    feed.write_text("words\nhello\n")
    assert main(["evaluate", "--data", str(feed), "--map", "text=words", "--model", str(tmp_path)]) == 1
    assert f"no artifact.json in {tmp_path}" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["-3", "some"])
def test_a_limit_is_a_number_of_items(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--data", "feed.csv", "--limit", given])
    assert ended.value.code == 2
    assert f"{given!r} is no whole number, 0 or more" in capsys.readouterr().err
