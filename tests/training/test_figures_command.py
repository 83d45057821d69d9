"""`python -m training figure …` as people call it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("torch", reason="the train extra is not installed (torch)")

from training.__main__ import main  # noqa: E402
from training.figures import command  # noqa: E402
from training.figures.trained import TrainedRun  # noqa: E402
from training.table import read_table  # noqa: E402

pytestmark = pytest.mark.train


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    def run(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["python -m training", "figure", *arguments, "--out", str(tmp_path / "out")])
        main()

    return run


def test_figures_of_results_need_nothing_else(
    call: Callable[..., None],
    bench_line: Callable[..., dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = ("mvsa_single", "ablation_clmlf", "ablation_spp_scl", "ablation_mdse")
    lines = [
        bench_line(config.key(table.corpus, table.split, seed), seed, "1110000000")
        for table in map(read_table, names)
        for _, config, seed in table.runs()
    ]
    (tmp_path / "results.jsonl").write_text("\n".join(map(json.dumps, lines)))
    wanted = ["seeds", "confusion", "layers", "thresholds", "branches"]
    call(*wanted, "--row", "MDSE", "--results", str(tmp_path / "results.jsonl"))
    written = [str(tmp_path / "out" / f"{name}.{kind}") for name in wanted for kind in ("png", "svg")]
    assert capsys.readouterr().out.splitlines() == written
    for name in wanted:
        with Image.open(tmp_path / "out" / f"{name}.png") as picture:
            picture.load()
    told = (tmp_path / "out" / "confusion.svg").read_text()
    assert "Drawn by: moodstream figure confusion --table mvsa_single --row MDSE<" in told


@pytest.mark.parametrize(
    ("system", "names"),
    [("mdse", ("private", "scores")), ("clmlf", ("attention", "tsne")), ("spp_scl", ("distances",))],
)
def test_figures_of_a_run_tell_how_to_draw_them_again(
    call: Callable[..., None],
    trained_run: Callable[..., TrainedRun],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    system: str,
    names: tuple[str, ...],
) -> None:
    run = trained_run(system)
    opened: list[Path] = []
    monkeypatch.setattr(command, "open_run", lambda folder, _: opened.append(folder) or run)
    call(*names, "--run", "somewhere/kept", "--mvsa", "data/posts.parquet", "--post", "80")
    assert opened == [Path("somewhere/kept")]
    for name in names:
        told = (tmp_path / "out" / f"{name}.svg").read_text()
        post = "" if name in ("tsne", "distances") else " --post 80"
        assert f"Drawn by: moodstream figure {name} --run kept --mvsa posts.parquet{post}<" in told
        assert "seed 1, key " in told and (tmp_path / "out" / f"{name}.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("sedes",), "figure 'sedes' is none of seeds, confusion, layers"),
        (("seeds", "--results", "nowhere.jsonl"), "no run of mvsa_single is made yet: make them with moodstream bench"),
        (("seeds", "--table", "nobody"), "give a TOML file or one of"),
        (("private",), "a trained run is needed: give --run FOLDER"),
        (("attention", "--run", "nowhere"), "cannot read nowhere/best.pt (No such file or directory): make it with"),
    ],
)
def test_what_goes_wrong_is_one_line_and_exit_code_2(
    call: Callable[..., None], capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], problem: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        call(*arguments)
    told = capsys.readouterr().err
    assert stopped.value.code == 2
    assert told.startswith("moodstream: ") and problem in told and told.count("\n") == 1
