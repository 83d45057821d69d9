"""A figure as the two files people get."""

from pathlib import Path

import altair as alt
import pytest
from PIL import Image

pytest.importorskip("torch", reason="the train extra is not installed (torch)")

from training.figures.drawing import Figure, rows, specification, write  # noqa: E402

pytestmark = pytest.mark.train


def figure(**changes: object) -> Figure:
    chart = alt.Chart(rows([{"x": 1, "y": 2}, {"x": 2, "y": 4}])).mark_point().encode(x="x:Q", y="y:Q")
    return Figure(**{"name": "dots", "title": "Two dots", "caption": ("What they mean.",), "chart": chart} | changes)  # type: ignore[arg-type]


def test_a_figure_is_a_png_and_an_svg_of_its_name(tmp_path: Path) -> None:
    png, svg = write(figure(), tmp_path / "new")
    assert (png, svg) == (tmp_path / "new/dots.png", tmp_path / "new/dots.svg")
    with Image.open(png) as picture:
        picture.load()
        assert picture.width > 400 and picture.height > 400
    assert ">Two dots<" in svg.read_text() and ">What they mean.<" in svg.read_text()


def test_a_caption_is_broken_into_lines_and_ends_with_what_is_missing() -> None:
    told = figure(caption=("word " * 40,), missing="Seed 2 is missing.").told_by("Drawn by: moodstream figure dots")
    subtitle = specification(told)["title"]["subtitle"]
    assert len(subtitle) == 4 and max(map(len, subtitle)) <= 112
    assert subtitle[2:] == ["Drawn by: moodstream figure dots", "Seed 2 is missing."]


def test_rows_beyond_altairs_limit_are_drawn(tmp_path: Path) -> None:
    chart = alt.Chart(rows([{"x": at} for at in range(6000)])).mark_bar().encode(x=alt.X("x:Q", bin=True), y="count()")
    assert write(figure(chart=chart), tmp_path)[0].stat().st_size > 1000
