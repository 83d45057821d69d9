"""Charts → SVG and PNG without a browser."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Final, Literal

import pyarrow as pa
import vl_convert

from .charts import INK, Spec

_FONT: Final = "Source Sans, Liberation Sans, Arial, sans-serif"
_WIDTH: Final = 960
_SCALE: Final = 2.0


def draw(spec: Spec, kind: Literal["svg", "png"] | str) -> bytes:
    """A chart as the page shows it, on white."""
    whole = {
        **spec,
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": _WIDTH,
        "background": "white",
        "padding": 16,
        "datasets": {name: _rows(rows) for name, rows in spec["datasets"].items()},
        "config": {
            **spec.get("config", {}),
            "font": _FONT,
            "view": {"stroke": None},
            "axis": {"labelColor": INK, "gridColor": "#e2ded4"},
        },
    }
    whole.pop("params", None)
    if kind == "svg":
        return vl_convert.vegalite_to_svg(whole).encode()
    return bytes(vl_convert.vegalite_to_png(whole, scale=_SCALE))


def _rows(table: pa.Table) -> list[dict[str, object]]:
    """Rows as JSON knows them: times in milliseconds, nothing for NaN."""
    columns = {name: [_plain(value) for value in table.column(name).to_pylist()] for name in table.column_names}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return int(value.timestamp() * 1000)
    return None if isinstance(value, float) and math.isnan(value) else value
