"""`moodstream runs compare` as people read it, and as programs do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.cli import main
from tests.dashboard.evaluation.feeds import prediction
from tests.dashboard.report.folders import write_folder


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`new` is right on 40 posts of 60, `old` on the first 20 of those alone."""
    monkeypatch.setenv("MOODSTREAM_RUNS", str(tmp_path))
    monkeypatch.delenv("MOODSTREAM_REDIS", raising=False)
    old = [
        prediction(
            number,
            "positive" if number < 20 else "neutral",
            "positive",
            confidence=0.9 if number == 30 else 0.6,
            text="cleared \x1b[2J\n screen" if number == 30 else None,
        )
        for number in range(60)
    ]
    new = [prediction(number, "positive" if number < 40 else "neutral", "positive") for number in range(61)]
    write_folder(tmp_path / "old", old, None)
    write_folder(tmp_path / "new", new, None)
    write_folder(tmp_path / "unlabelled", [prediction(1)], None)
    return tmp_path


def test_people_get_the_verdict_the_figures_and_posts_they_disagree_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "compare", "old", "new"]) == 0
    said = capsys.readouterr().out.replace("\N{NO-BREAK SPACE}", " ")
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert lines[0].startswith(
        "On the 60 labelled posts both scored, new is the better one, by 33.3 points of accuracy"
    )
    assert lines[2] == "accuracy macro F1"
    assert lines[3].startswith("old 33.3 % (") and lines[4].startswith("new 66.7 % (")
    assert lines[5].startswith("difference +33.3 (+21.7 to +45.0) points")
    assert lines[6] == "McNemar's test p = 1.9e-06: right alone are old on 0 posts, new on 20"
    assert lines[7] == "disagree on 20 of 60 labelled posts both scored"
    assert lines[8] == "left out 0 labelled posts only old has, 1 only new has, 0 labelled otherwise in the two"
    assert lines[10] == "Posts they disagree on, surest first: label | old | new | text"
    assert lines[11] == "positive | neutral 90% | positive 60% | cleared [2J screen"
    assert lines[-1] == "… and 10 more (--json has up to 20)"
    assert len(lines) == 22 and "{" not in said and "\x1b" not in said


def test_runs_alike_are_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "compare", "old", "old"]) == 0
    said = capsys.readouterr().out
    assert "neither is clearly better: both are right on the very same ones" in said
    assert "Posts they disagree on" not in said


def test_programs_get_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "compare", "old", "new", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["shared"], found["disagreeing"], len(found["disagreements"])) == (60, 20, 20)


@pytest.mark.parametrize(
    ("other", "told"), [("unlabelled", "share no labelled post"), ("nowhere", "no replay in 'nowhere'")]
)
def test_what_cannot_be_compared_is_one_line(other: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "compare", "old", other]) == 2
    errors = capsys.readouterr().err
    assert told in errors and errors.count("\n") == 1
