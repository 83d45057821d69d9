"""What the benchmark of replays says of itself: it must not pass where it shows nothing, or something wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from tests.benchmarks.replay import COLUMNS, Replays, exit_code, rows_differ, write_feed
from tests.dashboard.evaluation.feeds import prediction, write


def test_rows_are_compared_however_the_files_are_cut(tmp_path: Path) -> None:
    rows = [prediction(number) for number in range(50)]
    whole = write(tmp_path, rows, "whole.parquet")
    pq.write_table(pq.read_table(whole), tmp_path / "cut.parquet", row_group_size=7)
    later = write(tmp_path, [prediction(number, ms=99) for number in range(50)], "later.parquet")
    assert not rows_differ(whole, tmp_path / "cut.parquet")
    assert not rows_differ(whole, later)  # but for when it was scored


def test_rows_that_are_missing_or_changed_differ(tmp_path: Path) -> None:
    rows = [prediction(number) for number in range(50)]
    whole = write(tmp_path, rows, "whole.parquet")
    assert rows_differ(whole, write(tmp_path, rows[:-1], "fewer.parquet"))
    changed = [*rows[:-1], msgspec.structs.replace(rows[-1], predicted="neutral")]
    assert rows_differ(whole, write(tmp_path, changed, "changed.parquet"))


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ({"lost": 0}, 0),
        ({"lost": 0, "lost_when_killed": 0, "different_results": [], "rows_differ": False}, 0),
        ({"lost": 2}, 1),
        ({"lost": 0, "rows_differ": True}, 1),
        ({"lost": 0, "different_judgements": ["drift"]}, 1),
        ({"lost": 0, "different_results": ["accuracy"]}, 1),
    ],
)
def test_what_must_not_be_ends_with_exit_code_1(found: dict[str, Any], code: int) -> None:
    assert exit_code(found) == code


def test_a_replay_that_ends_before_it_is_killed_shows_nothing(tmp_path: Path) -> None:
    feed = tmp_path / "feed.csv"
    write_feed(feed, 10, None)
    replays = Replays(tmp_path, "null")
    with pytest.raises(SystemExit, match="killed at 20 posts ended before with exit code 2: use more --posts"):
        replays.kill_at(20, "killed", str(feed), *COLUMNS, "--namespace", "No Namespace")


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_so_does_one_that_is_through(tmp_path: Path) -> None:
    feed = tmp_path / "feed.csv"
    write_feed(feed, 10, None)
    replays = Replays(tmp_path, "null")
    with pytest.raises(SystemExit, match="killed at 20 posts ended before with exit code 0: use more --posts"):
        replays.kill_at(20, "killed", str(feed), *COLUMNS, "--namespace", "killed")
