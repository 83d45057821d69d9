"""A chart as inline SVG: drawn without a browser, in colours that follow the reader's light or dark page."""

from __future__ import annotations

import re
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import vl_convert

from dashboard.charts import Spec

PAGE_COLORS: Final = {"#010101": "var(--quiet)", "#020202": "var(--line)", "#030303": "var(--text)"}
"""Stand-ins a chart may be drawn in, and what the page paints in their place."""
QUIET, LINE, TEXT = PAGE_COLORS
_STAND_IN: Final = re.compile("|".join(PAGE_COLORS))
_LONG_NUMBER: Final = re.compile(r"(\d+\.\d\d)\d+")
_CONFIG: Final[dict[str, Any]] = {
    "background": None,
    "aria": False,
    "font": "Source Sans, system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": QUIET,
        "titleColor": QUIET,
        "gridColor": LINE,
        "domainColor": LINE,
        "tickColor": LINE,
        "labelFontSize": 11.5,
        "titleFontSize": 11.5,
        "titleFontWeight": "normal",
        "labelPadding": 5,
        "labelSeparation": 10,
    },
    "text": {"fontSize": 11.5, "color": QUIET},
}


def drawn(spec: Spec, *, width: int) -> str:
    """The chart as an `<svg>` element that shrinks with its place; `width` of the plot in pixels.

    Reads nothing but the spec: an address in it is refused, not fetched.
    """
    whole = {
        **spec,
        **_data(spec),
        "width": width,
        "config": _CONFIG,
        "autosize": {"type": "fit-x", "contains": "padding"},
    }
    svg = vl_convert.vegalite_to_svg(whole, vl_version="6.1", allowed_base_urls=[])
    svg = _LONG_NUMBER.sub(r"\1", svg)
    return _STAND_IN.sub(lambda found: PAGE_COLORS[found[0]], svg)


def _data(spec: Spec) -> dict[str, Any]:
    return {"datasets": {name: _records(rows) for name, rows in spec.get("datasets", {}).items()}}


def _records(rows: pd.DataFrame | pa.Table | list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows as JSON knows them: times in milliseconds, gaps as null."""
    if isinstance(rows, pa.Table):
        rows = rows.to_pandas()
    if not isinstance(rows, pd.DataFrame):
        return rows
    plain = rows.copy()
    for name in plain.columns:
        if isinstance(plain[name].dtype, pd.DatetimeTZDtype):
            plain[name] = plain[name].dt.as_unit("ms").astype("int64")
    plain = plain.astype(object)
    records: list[dict[str, Any]] = plain.where(plain.notna(), None).to_dict(orient="records")
    return records
