"""Figures of the ablations, on lines of the shipped tables."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the train extra is not installed (torch)")

from training.config import BadConfig  # noqa: E402
from training.differences import difference  # noqa: E402
from training.figures.drawing import Figure, write  # noqa: E402
from training.figures.runs import runs_by_row  # noqa: E402
from training.figures.sweeps import BRANCHES, branches, changes, layers, thresholds  # noqa: E402
from training.table import Table, read_table  # noqa: E402

pytestmark = pytest.mark.train
RowsOf = Callable[[Figure], list[list[dict[str, Any]]]]
BenchLine = Callable[..., dict[str, Any]]


def lines_of(table: Table, bench_line: BenchLine, right: dict[str, tuple[str, ...]]) -> list[dict[str, Any]]:
    """Of each named row as many seeds as it has strings of right and wrong posts."""
    return [
        bench_line(config.key(table.corpus, table.split, seed), seed, right[row.name][seed - 1], weighted_f1=0.25)
        for row, config, seed in table.runs()
        if seed <= len(right.get(row.name, ()))
    ]


def test_layers_are_swept_in_two_panels(bench_line: BenchLine, rows_of: RowsOf, tmp_path: Path) -> None:
    table = read_table("ablation_clmlf")
    right = {"all, 3-2": ("1100000000", "1111000000"), "all, 6-2": ("1110000000",), "all, 3-1": ("1000000000",)}
    right |= {"all, 5-1": ("1111111111",), "MLF": ("1111111111",)}
    figure = layers(table, lines_of(table, bench_line, right))
    fusion, image = (
        {(row["at"], row["seed"], row["measure"]): row["value"] for row in panel} for panel in rows_of(figure)
    )
    assert fusion == {
        ("3", 1, "accuracy"): 20.0, ("3", 1, "weighted F1"): 25.0, ("3", 2, "accuracy"): 40.0,
        ("3", 2, "weighted F1"): 25.0, ("6", 1, "accuracy"): 30.0, ("6", 1, "weighted F1"): 25.0,
    }  # fmt: skip
    assert {at for at, _, _ in image} == {"1", "2"}
    assert image["1", 1, "accuracy"] == 10.0 and image["2", 2, "accuracy"] == 40.0
    assert figure.missing.startswith("Seeds not all made yet: all, 3-2 (2 of 3); all, 1-2 (0 of 3); all, 2-2 (0 of 3)")
    assert "5-1" not in figure.missing and "MLF" not in figure.missing
    svg = write(figure, tmp_path)[1].read_text()
    assert "Fusion layers (two of the picture)" in svg and all(f">{at}<" in svg for at in range(1, 7))


def test_thresholds_are_swept_from_a_third_to_five_sixths(
    bench_line: BenchLine, rows_of: RowsOf, tmp_path: Path
) -> None:
    table = read_table("ablation_spp_scl")
    right = {"two steps": ("1100000000",), "threshold 1/3": ("1110000000",), "one step": ("1111111111",)}
    figure = thresholds(table, lines_of(table, bench_line, right))
    found = {row["at"]: row["value"] for row in rows_of(figure)[0] if row["measure"] == "accuracy"}
    assert found == {"1/3": 30.0, "2/3": 20.0}
    assert "threshold 5/6 (0 of 3)" in figure.missing and "one step" not in figure.missing
    svg = write(figure, tmp_path)[1].read_text()
    assert all(f">{at}<" in svg for at in ("1/3", "1/2", "2/3", "5/6", "Accuracy and weighted F1, %"))


def test_branches_are_held_against_the_whole_on_shared_seeds(
    bench_line: BenchLine, rows_of: RowsOf, tmp_path: Path
) -> None:
    table = read_table("ablation_mdse")
    right = {
        "all": ("1111110000", "1111111100"),
        "iPFL, MACL": ("1111100000", "1111110000", "1111111111"),
        "tPFL, MACL": ("1111111000",),
    }
    lines = lines_of(table, bench_line, right)
    found = runs_by_row(table, lines, list(BRANCHES))
    text, picture = changes(found)
    assert text["part"] == "without the text's private features" and text["points"] == pytest.approx(-15)
    known = difference(found["iPFL, MACL"], found["all"])
    assert known is not None and (text["low"], text["high"]) == (100 * known.low, 100 * known.high)
    assert picture == {"part": "without the picture's private features", "points": pytest.approx(10)}
    figure = branches(table, lines)
    scores = [row for row in rows_of(figure)[0] if row["measure"] == "accuracy"]
    assert [(row["at"], row["value"]) for row in scores] == [
        ("whole", 60.0), ("whole", 80.0),
        ("without the text's private features", 50.0), ("without the text's private features", 60.0),
        ("without the text's private features", 100.0), ("without the picture's private features", 70.0),
    ]  # fmt: skip
    assert "iPFL, tPFL (0 of 3)" in figure.missing
    svg = write(figure, tmp_path)[1].read_text()
    assert "without the contrastive loss (MACL)" in svg and ">−15.0<" in svg and ">+10.0<" in svg


@pytest.mark.parametrize(
    ("draw", "name"), [(layers, "ablation_clmlf"), (thresholds, "ablation_spp_scl"), (branches, "ablation_mdse")]
)
def test_no_run_at_all_names_the_bench_to_run(draw: Callable[..., Figure], name: str) -> None:
    with pytest.raises(BadConfig, match=f"no run of {name} is made yet: .* moodstream bench {name} --mvsa"):
        draw(read_table(name), [])
