"""DataFrames of `queries` → charts: rows, and a Vega-Lite spec written with Altair.

A spec depends on few things and is built once for each (Altair takes 50 ms for one). What a refresh changes is rows
alone, so the browser updates the picture in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final, NamedTuple

import altair as alt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from inference_worker.contract import LABELS

from .reading import PLAIN, UTC_NAME, Reading

CLASS_COLORS: Final = {"positive": "#12938c", "neutral": "#97a3ae", "negative": "#d9572b"}
"""Told apart by readers of any colour vision, and legible on white and on near-black; `style.css` repeats them."""
INK: Final = "#7c8a97"
SHED_COLOR: Final = "#d5dbe0"
_GAPS: Final = "break-paths-show-path-domains"
"""A bin without posts breaks the line, yet keeps its place on the axis."""
_HEIGHT: Final = 118
_ROWS: Final = "rows"
_BAR_GAP: Final = 0.14
_TREND_COLUMNS: Final = ["at", "posts", "net", "low", "high"]
_VOLUME_COLUMNS: Final = ["at", "until", *LABELS, "posts", "volume", "complete"]
_TIME_FORMATS: Final = (
    (pd.Timedelta(hours=13), "%H:%M"),
    (pd.Timedelta(days=2), "%a %H:%M"),
    (pd.Timedelta(days=300), "%-d %b"),
)


Spec = dict[str, Any]
"""A Vega-Lite chart with its rows as the one data set, for `st.vega_lite_chart`. Shared in part: not to be changed."""


class Course(NamedTuple):
    """How one topic's mood and volume went."""

    topic: str
    trend: Spec
    volume: Spec


def courses(series: pd.DataFrame, topics: Sequence[str], reading: Reading = PLAIN) -> tuple[Course, ...]:
    """A row of charts per topic, on one scale of mood."""
    limit, pattern, table = trend_limit(series, topics), time_format(series), table_of(series, reading)
    trend_spec, volume_spec = _trend_spec(limit, pattern, reading.zone), _volume_spec(pattern, reading.zone)
    drawn = []
    for topic in topics:
        rows = table.filter(pc.equal(table["topic"], topic))
        drawn.append(
            Course(
                topic,
                _with_rows(trend_spec, rows.select(_TREND_COLUMNS), reading),
                _with_rows(volume_spec, rows.select(_VOLUME_COLUMNS), reading),
            )
        )
    return tuple(drawn)


def trend(series: pd.DataFrame, topic: str, limit: float, reading: Reading = PLAIN) -> Spec:
    """Net sentiment of a topic per bin, with its 95 % band, around the line of balance: teal above, orange below.

    limit: end of the scale, see `trend_limit`.
    """
    rows = series.loc[series["topic"] == topic, _TREND_COLUMNS]
    return filled(_trend_spec(limit, time_format(rows), reading.zone), rows, reading)


def trend_limit(series: pd.DataFrame, topics: Sequence[str]) -> float:
    """End of the scale the topics' trends share, in steps: it moves seldom, so pictures stand still as they refresh."""
    net = series.loc[series["topic"].isin(topics), "net"].abs()
    reach = float(net.max()) if net.notna().any() else 0.0
    return 0.25 if reach <= 0.24 else 0.5 if reach <= 0.48 else 1.0


def volume(series: pd.DataFrame, topic: str, reading: Reading = PLAIN) -> Spec:
    """Posts per bin, stacked by class, and what was shed on top; the bin still filling is paler."""
    rows = series.loc[series["topic"] == topic, _VOLUME_COLUMNS]
    return filled(_volume_spec(time_format(rows), reading.zone), rows, reading)


@lru_cache
def _trend_spec(limit: float, pattern: str, zone: str) -> Spec:
    base = (
        alt.Chart()
        .transform_calculate(above="max(datum.net, 0)", below="min(datum.net, 0)")
        .encode(x=time_axis(pattern))
    )
    style: dict[str, Any] = {"interpolate": "monotone", "invalid": _GAPS}
    balance = alt.Y2Datum(0)
    tooltip = [
        when(zone),
        alt.Tooltip("net:Q", title="Net sentiment", format="+.2f"),
        alt.Tooltip("low:Q", title="95 % from", format="+.2f"),
        alt.Tooltip("high:Q", title="95 % to", format="+.2f"),
        alt.Tooltip("posts:Q", title="Posts", format=","),
    ]
    layers = [
        base.mark_area(color=INK, opacity=0.18, **style).encode(y=net_axis("low", limit), y2="high:Q"),
        base.mark_area(color=CLASS_COLORS["positive"], opacity=0.55, **style).encode(
            y=net_axis("above", limit), y2=balance
        ),
        base.mark_area(color=CLASS_COLORS["negative"], opacity=0.55, **style).encode(
            y=net_axis("below", limit), y2=balance
        ),
        base.mark_line(color=INK, strokeWidth=1.6, **style).encode(y=net_axis("net", limit)),
        base.mark_point(color=INK, filled=True, size=16, opacity=1).encode(y=net_axis("net", limit), tooltip=tooltip),
    ]
    return bare(alt.layer(*layers).properties(height=_HEIGHT))


@lru_cache
def _volume_spec(pattern: str, zone: str) -> Spec:
    axis = alt.Axis(format="~s", tickMinStep=1, tickCount=3, domain=False, ticks=False, minExtent=32)
    base = (
        alt.Chart()
        .transform_calculate(
            end=f"datum.until - {_BAR_GAP} * (datum.until - datum.at)",
            zero="0",
            upper="datum.positive + datum.neutral",
        )
        .encode(
            x=time_axis(pattern),
            x2="end:T",
            opacity=alt.condition("datum.complete", alt.value(1.0), alt.value(0.5)),
            tooltip=[
                when(zone),
                *(alt.Tooltip(f"{label}:Q", title=label.capitalize(), format=",") for label in LABELS),
                alt.Tooltip("posts:Q", title="Scored", format=","),
                alt.Tooltip("volume:Q", title="All", format=","),
            ],
        )
    )
    edges = ("zero", "positive", "upper", "posts", "volume")
    layers = [
        base.mark_rect(color=color).encode(y=alt.Y(f"{floor}:Q", title=None, axis=axis), y2=f"{top}:Q")
        for color, (floor, top) in zip((*CLASS_COLORS.values(), SHED_COLOR), pairwise(edges), strict=True)
    ]
    return bare(alt.layer(*layers).properties(height=_HEIGHT))


def bare(chart: alt.TopLevelMixin) -> Spec:
    """The chart without rows and without Altair's own look, which the page's theme replaces.

    Not checked against Vega-Lite's schema, which takes as long as all the rest while somebody waits; tests do that.
    """
    spec = chart.to_dict(validate=False)
    for part in (spec, *spec.get("layer", ())):
        part.pop("data", None)
    return {key: value for key, value in spec.items() if key not in ("config", "$schema")}


def filled(spec: Spec, rows: pd.DataFrame, reading: Reading) -> Spec:
    """The chart with its rows, for one reader: their clock's hours as if they were UTC's, their marks in numbers."""
    return _with_rows(spec, table_of(rows, reading), reading)


def table_of(rows: pd.DataFrame, reading: Reading) -> pa.Table:
    """Rows on a reader's clock as an Arrow table, made once for all viewers, and without what pandas would add to it.

    Making one takes milliseconds, taking topics and columns out of it microseconds.
    """
    if reading.zone != UTC_NAME:
        rows = rows.assign(**{name: _shifted(rows[name], reading.zone) for name in ("at", "until") if name in rows})
    return pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(None)


def _with_rows(spec: Spec, table: pa.Table, reading: Reading) -> Spec:
    marks = reading.marks
    number = {"decimal": marks.decimal, "thousands": marks.thousands, "grouping": [3], "currency": ["", ""]}
    return {**spec, "data": {"name": _ROWS}, "datasets": {_ROWS: table}, "config": {"locale": {"number": number}}}


def _shifted(times: pd.Series, zone: str) -> pd.Series:
    """Vega knows UTC and the browser's own zone, and no other."""
    return times.dt.tz_convert(zone).dt.tz_localize(None).dt.tz_localize("UTC")


def net_axis(field: str, limit: float) -> alt.Y:
    axis = alt.Axis(
        values=[-limit, 0, limit],
        labelExpr="datum.value == 0 ? '0' : format(datum.value, '+.3~f')",
        domain=False,
        ticks=False,
        minExtent=32,
    )
    return alt.Y(f"{field}:Q", title=None, scale=alt.Scale(domain=[-limit, limit], clamp=True), axis=axis)


def time_axis(pattern: str) -> alt.X:
    """The namespace's clock; `filled` has brought it into the reader's zone."""
    axis = alt.Axis(format=pattern, labelOverlap=True, tickCount=6, grid=False)
    return alt.X("at:T", title=None, scale=alt.Scale(type="utc"), axis=axis)


def time_format(rows: pd.DataFrame) -> str:
    span = rows["at"].max() - rows["at"].min() if len(rows) else pd.Timedelta(0)
    return next((pattern for longest, pattern in _TIME_FORMATS if span <= longest), "%b %Y")


def when(zone: str) -> alt.Tooltip:
    return alt.Tooltip(
        "at:T", title=f"From ({zone})", timeUnit="utcyearmonthdatehoursminutes", format="%-d %b %Y %H:%M"
    )
