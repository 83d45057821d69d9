"""DataFrames of `queries` → charts: rows, and a Vega-Lite spec written with Altair.

A spec depends on few things and is built once for each (Altair takes 50 ms for one). What a refresh changes is rows
alone, so the browser updates the picture in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

import altair as alt
import pandas as pd

from inference_worker.contract import LABELS

CLASS_COLORS: Final = {"positive": "#12938c", "neutral": "#97a3ae", "negative": "#d9572b"}
"""Told apart by readers of any colour vision, and legible on white and on near-black; `style.css` repeats them."""
INK: Final = "#7c8a97"
_GAPS: Final = "break-paths-show-path-domains"
"""A bin without posts breaks the line, yet keeps its place on the axis."""
_HEIGHT: Final = 118
_ROWS: Final = "rows"
_BAR_GAP: Final = 0.14
_TIME_FORMATS: Final = (
    (pd.Timedelta(hours=13), "%H:%M"),
    (pd.Timedelta(days=2), "%a %H:%M"),
    (pd.Timedelta(days=300), "%-d %b"),
)


Spec = dict[str, Any]
"""A Vega-Lite chart with its rows as the one data set, for `st.vega_lite_chart`. Shared in part: not to be changed."""


def trend(series: pd.DataFrame, topic: str, limit: float) -> Spec:
    """Net sentiment of a topic per bin, with its 95 % band, around the line of balance: teal above, orange below.

    limit: end of the scale, see `trend_limit`.
    """
    rows = series.loc[series["topic"] == topic, ["at", "posts", "net", "low", "high"]]
    return _filled(_trend_spec(limit, _time_format(rows)), rows)


def trend_limit(series: pd.DataFrame, topics: Sequence[str]) -> float:
    """End of the scale the topics' trends share, in steps: it moves seldom, so pictures stand still as they refresh."""
    net = series.loc[series["topic"].isin(topics), "net"].abs()
    reach = float(net.max()) if net.notna().any() else 0.0
    return 0.25 if reach <= 0.24 else 0.5 if reach <= 0.48 else 1.0


def volume(series: pd.DataFrame, topic: str) -> Spec:
    """Posts per bin, stacked by class; the bin still filling is paler."""
    columns = ["at", "until", *LABELS, "posts", "complete"]
    rows = series.loc[series["topic"] == topic, columns]
    return _filled(_volume_spec(_time_format(rows)), rows)


@lru_cache
def _trend_spec(limit: float, time_format: str) -> Spec:
    base = (
        alt.Chart()
        .transform_calculate(above="max(datum.net, 0)", below="min(datum.net, 0)")
        .encode(x=_time(time_format))
    )
    style: dict[str, Any] = {"interpolate": "monotone", "invalid": _GAPS}
    balance = alt.Y2Datum(0)
    tooltip = [
        _when(),
        alt.Tooltip("net:Q", title="Net sentiment", format="+.2f"),
        alt.Tooltip("low:Q", title="95 % from", format="+.2f"),
        alt.Tooltip("high:Q", title="95 % to", format="+.2f"),
        alt.Tooltip("posts:Q", title="Posts", format=","),
    ]
    layers = [
        base.mark_area(color=INK, opacity=0.18, **style).encode(y=_net("low", limit), y2="high:Q"),
        base.mark_area(color=CLASS_COLORS["positive"], opacity=0.55, **style).encode(
            y=_net("above", limit), y2=balance
        ),
        base.mark_area(color=CLASS_COLORS["negative"], opacity=0.55, **style).encode(
            y=_net("below", limit), y2=balance
        ),
        base.mark_line(color=INK, strokeWidth=1.6, **style).encode(y=_net("net", limit)),
        base.mark_point(color=INK, filled=True, size=16, opacity=1).encode(y=_net("net", limit), tooltip=tooltip),
    ]
    return _spec(alt.layer(*layers).properties(height=_HEIGHT))


@lru_cache
def _volume_spec(time_format: str) -> Spec:
    axis = alt.Axis(format="~s", tickMinStep=1, tickCount=3, domain=False, ticks=False, minExtent=32)
    base = (
        alt.Chart()
        .transform_calculate(
            end=f"datum.until - {_BAR_GAP} * (datum.until - datum.at)",
            zero="0",
            upper="datum.positive + datum.neutral",
        )
        .encode(
            x=_time(time_format),
            x2="end:T",
            opacity=alt.condition("datum.complete", alt.value(1.0), alt.value(0.5)),
            tooltip=[
                _when(),
                *(alt.Tooltip(f"{label}:Q", title=label.capitalize(), format=",") for label in LABELS),
                alt.Tooltip("posts:Q", title="All", format=","),
            ],
        )
    )
    edges = ("zero", "positive", "upper", "posts")
    layers = [
        base.mark_rect(color=CLASS_COLORS[label]).encode(y=alt.Y(f"{floor}:Q", title=None, axis=axis), y2=f"{top}:Q")
        for label, (floor, top) in zip(LABELS, pairwise(edges), strict=True)
    ]
    return _spec(alt.layer(*layers).properties(height=_HEIGHT))


def _spec(chart: alt.TopLevelMixin) -> Spec:
    """The chart without rows and without Altair's own look, which the page's theme replaces."""
    spec = chart.to_dict()
    for part in (spec, *spec.get("layer", ())):
        part.pop("data", None)
    return {key: value for key, value in spec.items() if key not in ("config", "$schema")}


def _filled(spec: Spec, rows: pd.DataFrame) -> Spec:
    return {**spec, "data": {"name": _ROWS}, "datasets": {_ROWS: rows}}


def _net(field: str, limit: float) -> alt.Y:
    axis = alt.Axis(
        values=[-limit, 0, limit],
        labelExpr="datum.value == 0 ? '0' : format(datum.value, '+.3~f')",
        domain=False,
        ticks=False,
        minExtent=32,
    )
    return alt.Y(f"{field}:Q", title=None, scale=alt.Scale(domain=[-limit, limit], clamp=True), axis=axis)


def _time(pattern: str) -> alt.X:
    """The namespace's clock, in UTC whatever the reader's own zone."""
    axis = alt.Axis(format=pattern, labelOverlap=True, tickCount=6, grid=False)
    return alt.X("at:T", title=None, scale=alt.Scale(type="utc"), axis=axis)


def _time_format(rows: pd.DataFrame) -> str:
    span = rows["at"].max() - rows["at"].min() if len(rows) else pd.Timedelta(0)
    return next((pattern for longest, pattern in _TIME_FORMATS if span <= longest), "%b %Y")


def _when() -> alt.Tooltip:
    return alt.Tooltip("at:T", title="From (UTC)", timeUnit="utcyearmonthdatehoursminutes", format="%-d %b %Y %H:%M")
