"""Two replays side by side: the verdict in words, and the page."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from dashboard.evaluation.comparison import McNemar, NothingShared, compare
from dashboard.evaluation.judgement import Estimate
from dashboard.report.comparison import verdict, write_comparison
from dashboard.runs import PREDICTIONS_FILE
from tests.dashboard.report.folders import judged, posts, write_folder
from tests.dashboard.report.test_render import HOSTILE, SIZE_LIMIT, assert_inert, parsed

NAMES = ("old", "new")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    predictions = posts(300)
    worse = [
        replace(one, predicted="neutral", text=f"{HOSTILE[number % len(HOSTILE)]} {one.text}")
        if number % 3 == 0
        else one
        for number, one in enumerate(predictions)
    ]
    old = write_folder(tmp_path / "old", worse, judged(worse))
    return old, write_folder(tmp_path / "new", predictions, judged(predictions), model=HOSTILE[0])


def test_the_page_tells_which_is_better_and_shows_where_they_differ(folders: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "comparison.html"
    compared = write_comparison(*folders, out)
    page = parsed(out)
    assert "On the 300 labelled posts both scored, new is the better one, by" in page.text
    assert "Posts they disagree on" in page.text
    assert f"24 of {compared.disagreeing}." in page.text
    assert sum(tag == "svg" for tag, _ in page.tags) == 5
    assert_inert(page)
    assert out.stat().st_size < SIZE_LIMIT


def test_a_run_not_judged_yet_is_compared_without_its_curve(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (folders[0] / "judgement.json").unlink()
    write_comparison(*folders, tmp_path / "comparison.html")
    assert "new is the better one" in parsed(tmp_path / "comparison.html").text


def test_replays_without_a_labelled_post_in_common_are_told(tmp_path: Path) -> None:
    predictions = posts(60)
    one = write_folder(tmp_path / "one", predictions, None)
    other = write_folder(tmp_path / "other", [replace(post, label=None) for post in predictions], None)
    with pytest.raises(NothingShared, match="share no labelled post"):
        write_comparison(one, other, tmp_path / "comparison.html")
    assert not (tmp_path / "comparison.html").exists()


def test_a_difference_within_chance_is_called_none(folders: tuple[Path, Path]) -> None:
    compared = compare(*(folder / PREDICTIONS_FILE for folder in folders))
    close = replace(
        compared,
        accuracy_difference=Estimate(value=0.01, low=-0.02, high=0.04),
        mcnemar=McNemar(only_first_right=20, only_second_right=23, p_value=0.76),
    )
    assert verdict(close, NAMES) == (
        "On the 300 labelled posts both scored, neither is clearly better: new alone is right on 23, old alone on 20; "
        "chance alone would do that 76 times in 100."
    )


def test_the_first_may_be_the_better_one(folders: tuple[Path, Path]) -> None:
    compared = compare(*(folder / PREDICTIONS_FILE for folder in folders))
    reverse = replace(
        compared,
        accuracy_difference=Estimate(value=-0.05, low=-0.08, high=-0.02),
        mcnemar=McNemar(only_first_right=40, only_second_right=11, p_value=0.00005),
    )
    assert verdict(reverse, NAMES) == (
        "On the 300 labelled posts both scored, old is the better one, by 5.0 points of accuracy (95 %: 2.0 to 8.0): "
        "old alone is right on 40, new alone on 11; chance alone would split them so unevenly less than once in "
        "10,000 times."
    )
