"""What all figures share: colours, a title with a caption under it, and the way from a chart to PNG and SVG."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import altair as alt
import vl_convert

CLASS_COLORS: Final = {"positive": "#12938c", "neutral": "#97a3ae", "negative": "#d9572b"}
"""Those of the dashboard."""
CLASS_SHAPES: Final = {"positive": "circle", "neutral": "square", "negative": "triangle-up"}
BLUE, OCHRE, VIOLET, INK = "#2f7fc1", "#c2820e", "#8a5cc2", "#4d5964"
"""Told apart by readers of any colour vision; nothing rests on colour alone."""
HEAT: Final = "viridis"
_FONT: Final = "Source Sans, Liberation Sans, Arial, sans-serif"
_CAPTION_CHARS: Final = 112
_SCALE: Final = 2.0


@dataclass(frozen=True)
class Figure:
    """caption: what the marks mean, which runs they are of and which command draws them; missing: runs not made yet."""

    name: str
    title: str
    caption: tuple[str, ...]
    chart: alt.TopLevelMixin
    missing: str = ""

    def told_by(self, command: str) -> "Figure":
        return replace(self, caption=(*self.caption, command))


def rows(values: Sequence[dict[str, Any]]) -> alt.InlineData:
    """Rows for a chart, however many."""
    return alt.InlineData(values=list(values))


def write(figure: Figure, folder: Path) -> tuple[Path, Path]:
    """NAME.png and NAME.svg in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = specification(figure)
    png, svg = folder / f"{figure.name}.png", folder / f"{figure.name}.svg"
    png.write_bytes(vl_convert.vegalite_to_png(spec, scale=_SCALE))
    svg.write_text(vl_convert.vegalite_to_svg(spec), encoding="utf-8")
    return png, svg


def specification(figure: Figure) -> dict[str, Any]:
    """The whole Vega-Lite chart."""
    lines = [*figure.caption, *([figure.missing] if figure.missing else [])]
    wrapped = [part for line in lines for part in textwrap.wrap(line, _CAPTION_CHARS)]
    spec: dict[str, Any] = figure.chart.to_dict()
    return {
        **spec,
        "title": {"text": figure.title, "subtitle": wrapped, "anchor": "start", "offset": 14},
        "background": "white",
        "padding": 16,
        "config": {
            "font": _FONT,
            "view": {"stroke": None},
            "axis": {"labelColor": INK, "titleColor": INK, "titleFontWeight": "normal", "gridColor": "#e2ded4"},
            "legend": {"labelColor": INK, "titleColor": INK, "titleFontWeight": "normal"},
            "title": {"fontSize": 17, "subtitleFontSize": 11, "subtitleColor": INK, "subtitlePadding": 6},
            "header": {"labelColor": INK},
        },
    }
