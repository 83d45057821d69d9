"""Figures of a whole table, against the same figures worked out by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the train extra is not installed (torch)")

from training.config import BadConfig  # noqa: E402
from training.differences import interval  # noqa: E402
from training.figures.drawing import Figure, write  # noqa: E402
from training.figures.systems import confusion, seeds  # noqa: E402
from training.table import Table, read_table  # noqa: E402

pytestmark = pytest.mark.train
RowsOf = Callable[[Figure], list[list[dict[str, Any]]]]
BenchLine = Callable[..., dict[str, Any]]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    file = tmp_path / "small.toml"
    file.write_text(
        """
title = "A small table"
corpus = "mvsa_single"
seeds = 2
row = [
    { name = "Text", config = "uni_text" },
    { name = "Both", config = "concatenation" },
    { name = "Third", config = "mdse" },
    { name = "CLIP", published = { any = "63.99" } },
]
"""
    )
    return read_table(str(file))


@pytest.fixture
def lines(table: Table, bench_line: BenchLine) -> list[dict[str, Any]]:
    """Two seeds of Text, best on validation, one of Both, none of Third."""
    keys = {(row.name, seed): config.key("mvsa_single", "published", seed) for row, config, seed in table.runs()}
    return [
        bench_line(keys["Text", 1], 1, "1111100000", validation=0.7),
        bench_line(keys["Text", 2], 2, "1111111000", validation=0.7),
        bench_line(keys["Both", 1], 1, "1111111100", validation=0.6),
    ]


def test_seeds_are_dots_with_their_mean_and_its_interval(
    table: Table, lines: list[dict[str, Any]], rows_of: RowsOf, tmp_path: Path
) -> None:
    figure = seeds(table, lines)
    means, dots = rows_of(figure)[:2]
    assert [(row["system"], row["seed"], row["accuracy"]) for row in dots] == [
        ("Text", 1, 50.0), ("Text", 2, 70.0), ("Both", 1, 80.0)
    ]  # fmt: skip
    assert [(row["system"], row["mean"]) for row in means] == [("Text", 60.0), ("Both", 80.0)]
    low, high = interval(np.array([[int(digit) for digit in line["right"]] for line in lines[:2]]))
    assert (means[0]["low"], means[0]["high"]) == (100 * low, 100 * high) and low < 0.6 < high
    svg = write(figure, tmp_path)[1].read_text()
    assert all(f">{word}<" in svg for word in ("Text", "Both", "60.0", "80.0", "Accuracy on the test posts, %"))
    assert svg.index(">Both<") < svg.index(">Text<")


def test_a_figure_tells_its_runs_and_those_that_lack(table: Table, lines: list[dict[str, Any]]) -> None:
    figure = seeds(table, lines)
    assert figure.missing == "Seeds not all made yet: Both (1 of 2); Third (0 of 2)."
    keys = ", ".join(line["key"] for line in lines)
    assert figure.caption[1] == (
        "mvsa_single, published split, 10 test posts. moodstream bench small --mvsa mvsa_single.parquet: "
        f"3 runs, keys {keys}."
    )


def test_confusion_is_the_seeds_mean_and_share_of_the_true_class(
    table: Table, lines: list[dict[str, Any]], rows_of: RowsOf, tmp_path: Path
) -> None:
    lines[1]["test"]["confusion"] = [[2, 3, 0], [0, 2, 0], [1, 0, 2]]
    figure = confusion(table, lines, "Text")
    cells = {(row["true"], row["called"]): row for row in rows_of(figure)[0]}
    assert len(cells) == 9
    assert cells["positive", "positive"] == {"true": "positive", "called": "positive", "posts": 3.0, "share": 60.0}
    assert cells["neutral", "positive"]["share"] == 25.0 and cells["negative", "positive"]["posts"] == 0.5
    assert figure.missing == ""
    svg = write(figure, tmp_path)[1].read_text()
    assert all(f">{word}<" in svg for word in ("60 %", "3.0 posts", "True class", "Predicted class", "negative"))


def test_confusion_is_by_default_of_the_best_on_validation(table: Table, lines: list[dict[str, Any]]) -> None:
    figure = confusion(table, lines)
    assert figure.title == "Text: what it takes for what" and "best on validation" in figure.caption[0]
    assert confusion(table, lines, "Both").missing == "Seeds not all made yet: Both (1 of 2)."


def test_classes_beyond_three_go_by_number(table: Table, lines: list[dict[str, Any]], rows_of: RowsOf) -> None:
    lines[2]["test"]["confusion"] = [[1] * 5] * 5
    assert {row["true"] for row in rows_of(confusion(table, lines, "Both"))[0]} == {f"class {n}" for n in range(5)}


def test_no_run_at_all_names_the_bench_to_run(table: Table) -> None:
    with pytest.raises(BadConfig, match="no run of small is made yet: .* moodstream bench small --mvsa") as told:
        seeds(table, [])
    assert "\n" not in str(told.value)
    with pytest.raises(BadConfig, match='bench small --mvsa mvsa_single.parquet --only "Third"'):
        confusion(table, [], "Third")


def test_a_row_that_is_none_is_told(table: Table, lines: list[dict[str, Any]]) -> None:
    with pytest.raises(BadConfig, match="'CLIP' is no row of small that is run: use one of Text, Both, Third"):
        confusion(table, lines, "CLIP")
