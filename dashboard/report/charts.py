"""What a judgement says → charts: Vega-Lite specs for the report (as SVG) and the Runs page (live) alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import altair as alt
import pandas as pd

from dashboard.charts import CLASS_COLORS, INK, Spec

MODEL_COLOR: Final = CLASS_COLORS["positive"]
SERIES_COLORS: Final = (MODEL_COLOR, "#b9770e", INK)
"""The model, then what it is held against."""
FLAG_COLOR: Final = CLASS_COLORS["negative"]
_SERIES_DASHES: Final = ([1, 0], [5, 3], [2, 2])
_WIDE_HEIGHT: Final = 190
_SQUARE_HEIGHT: Final = 220
_POINTS_DRAWN: Final = 400
"""More points than this on one line only make the file larger."""


def prequential(curves: pd.DataFrame, names: Sequence[str], flags: pd.DataFrame, *, title: str) -> Spec:
    """A measure over the feed's own time, a line per name, the model's first; flags stand as marks on the way.

    curves: at, name, value; flags: at, what.
    """
    rows = pd.concat([thinned(curves[curves["name"] == name]) for name in names]) if len(curves) else curves
    scale = alt.Scale(domain=list(names), range=list(SERIES_COLORS[: len(names)]))
    dashes = alt.Scale(domain=list(names), range=list(_SERIES_DASHES[: len(names)]))
    x = alt.X("at:T", title=None, scale=alt.Scale(type="utc"), axis=_time_axis(rows))
    y = alt.Y("value:Q", title=None, scale=alt.Scale(zero=False, nice=True), axis=_share_axis())
    lines = alt.Chart(alt.NamedData("curves")).encode(x=x)
    tooltip = [
        alt.Tooltip("at:T", title="Until (UTC)", timeUnit="utcyearmonthdatehoursminutes", format="%-d %b %Y %H:%M"),
        alt.Tooltip("name:N", title="By"),
        alt.Tooltip("value:Q", title=title, format=".1%"),
    ]
    marks = alt.Chart(alt.NamedData("flags")).encode(x="at:T", tooltip=["what:N", "at:T"])
    layers = [
        marks.mark_rule(color=FLAG_COLOR, strokeDash=[4, 3], strokeWidth=1.4),
        lines.mark_line(strokeWidth=1.9).encode(
            y=y,
            color=alt.Color("name:N", scale=scale, legend=None),
            strokeDash=alt.StrokeDash("name:N", scale=dashes, legend=None),
            tooltip=tooltip,
        ),
    ]
    return _spec(alt.layer(*layers).properties(height=_WIDE_HEIGHT), curves=rows, flags=flags)


def reliability(bins: pd.DataFrame) -> Spec:
    """How sure against how right, a dot per bin as large as its posts are many; on the diagonal the model is honest.

    bins: confidence, accuracy, low, high, posts.
    """
    base = alt.Chart(alt.NamedData("bins"))
    share = alt.Scale(domain=[0, 1])
    x = alt.X("confidence:Q", title="how sure", scale=share, axis=_share_axis())
    y = alt.Y("accuracy:Q", title="how right", scale=share, axis=_share_axis())
    diagonal = alt.Chart(alt.NamedData("diagonal")).mark_line(color=INK, strokeDash=[3, 3], strokeWidth=1)
    layers = [
        diagonal.encode(x=alt.X("confidence:Q", scale=share), y=alt.Y("accuracy:Q", scale=share)),
        base.mark_rule(color=MODEL_COLOR, strokeWidth=1.4, opacity=0.7).encode(x=x, y=alt.Y("low:Q"), y2="high:Q"),
        base.mark_circle(color=MODEL_COLOR, opacity=1).encode(
            x=x,
            y=y,
            size=alt.Size("posts:Q", scale=alt.Scale(type="sqrt", range=[14, 190]), legend=None),
            tooltip=[
                alt.Tooltip("posts:Q", title="Posts", format=","),
                alt.Tooltip("confidence:Q", title="How sure", format=".1%"),
                alt.Tooltip("accuracy:Q", title="How right", format=".1%"),
            ],
        ),
    ]
    ends = pd.DataFrame({"confidence": [0.0, 1.0], "accuracy": [0.0, 1.0]})
    return _spec(alt.layer(*layers).properties(height=_SQUARE_HEIGHT), bins=bins, diagonal=ends)


def bin_counts(bins: pd.DataFrame) -> Spec:
    """How many posts stand behind each dot of `reliability`: bins: confidence, posts."""
    x = alt.X("confidence:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=None)
    y = alt.Y(
        "posts:Q", title="posts", axis=alt.Axis(tickCount=2, format="~s", domain=False, ticks=False, minExtent=34)
    )
    bars = alt.Chart(alt.NamedData("bins")).mark_bar(color=INK, size=10, opacity=0.65)
    return _spec(bars.encode(x=x, y=y).properties(height=54), bins=bins)


def risk_coverage(curve: pd.DataFrame, answered: pd.DataFrame) -> Spec:
    """Share wrong against share answered when the surest posts are answered first; the dot is where the model stops.

    curve, answered: coverage, risk.
    """
    x = alt.X("coverage:Q", title="answered", scale=alt.Scale(domain=[0, 1]), axis=_share_axis())
    y = alt.Y("risk:Q", title="wrong among them", scale=alt.Scale(domainMin=0), axis=_share_axis())
    tooltip = [
        alt.Tooltip("coverage:Q", title="Answered", format=".1%"),
        alt.Tooltip("risk:Q", title="Wrong among them", format=".1%"),
    ]
    line = alt.Chart(alt.NamedData("curve"))
    layers = [
        line.mark_area(color=MODEL_COLOR, opacity=0.14).encode(x=x, y=y),
        line.mark_line(color=MODEL_COLOR, strokeWidth=1.9).encode(x=x, y=y, tooltip=tooltip),
        alt.Chart(alt.NamedData("answered"))
        .mark_point(color=FLAG_COLOR, filled=True, size=90, opacity=1)
        .encode(x=x, y=y, tooltip=tooltip),
    ]
    return _spec(alt.layer(*layers).properties(height=_SQUARE_HEIGHT), curve=thinned(curve), answered=answered)


def thinned(rows: pd.DataFrame) -> pd.DataFrame:
    """At most _POINTS_DRAWN rows, evenly chosen, the first and the last among them."""
    if len(rows) <= _POINTS_DRAWN:
        return rows
    step = (len(rows) - 1) / (_POINTS_DRAWN - 1)
    return rows.iloc[[round(step * number) for number in range(_POINTS_DRAWN)]]


def _share_axis() -> alt.Axis:
    return alt.Axis(format=".0%", tickCount=5, domain=False, ticks=False, minExtent=34)


def _time_axis(rows: pd.DataFrame) -> alt.Axis:
    span = rows["at"].max() - rows["at"].min() if len(rows) else pd.Timedelta(0)
    pattern = "%H:%M" if span <= pd.Timedelta(hours=13) else "%-d %b" if span <= pd.Timedelta(days=300) else "%b %Y"
    return alt.Axis(format=pattern, labelOverlap=True, tickCount=6, grid=False)


def _spec(chart: alt.TopLevelMixin, **rows: pd.DataFrame) -> Spec:
    """The chart without Altair's own look; its rows stay DataFrames."""
    spec: dict[str, Any] = chart.to_dict()
    kept = {key: value for key, value in spec.items() if key not in ("config", "$schema")}
    return {**kept, "datasets": rows}
