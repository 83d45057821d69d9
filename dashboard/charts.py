"""DataFrames of `queries` → Altair charts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import altair as alt
import pandas as pd

from inference_worker.contract import ALL, LABELS

CLASS_COLORS: Final = {"positive": "#12938c", "neutral": "#97a3ae", "negative": "#d9572b"}
"""Told apart by readers of any colour vision, and legible on white and on near-black alike; `style.css` repeats them."""
ALL_COLOR: Final = "#6b7a88"
TOPIC_COLORS: Final = ("#4a72c4", "#b8860b", "#a3569e", "#3d8f4e", "#c2607a", "#7b6fc9", "#8a7350")
LINES_SHOWN: Final = 6
_GAPS: Final = "break-paths-show-path-domains"
"""A bin without posts breaks the line, yet keeps its place on the axis."""

_TIME_FORMATS: Final = (
    (pd.Timedelta(hours=13), "%H:%M"),
    (pd.Timedelta(days=2), "%a %H:%M"),
    (pd.Timedelta(days=300), "%-d %b"),
    (pd.Timedelta.max, "%b %Y"),
)


def topic_colors(topics: Sequence[str]) -> dict[str, str]:
    """A colour per topic that stays with it while the list of topics stays; `all` is always the same grey."""
    others = [topic for topic in topics if topic != ALL]
    colors = {topic: TOPIC_COLORS[number % len(TOPIC_COLORS)] for number, topic in enumerate(others)}
    return {ALL: ALL_COLOR, **colors}


def trend(series: pd.DataFrame, shown: Sequence[str], colors: dict[str, str]) -> alt.LayerChart:
    """Net sentiment per bin, a line with its 95 % band per topic, around the line of balance."""
    rows = series[series["topic"].isin(shown)]
    # A scale in steps: it moves seldom, so the picture stands still between refreshes.
    reach = float(rows["net"].abs().max()) if rows["net"].notna().any() else 0.0
    limit = next(step for step in (0.25, 0.5, 1.0) if reach <= step * 0.95 or step == 1.0)
    scale = alt.Scale(domain=[-limit, limit], clamp=True)
    axis = alt.Axis(
        values=[-limit, -limit / 2, 0, limit / 2, limit],
        labelExpr="datum.value == 0 ? '0' : format(datum.value, '+.3~f')",
        domain=False,
        ticks=False,
    )
    color = alt.Color(
        "topic:N",
        scale=alt.Scale(domain=list(shown), range=[colors[topic] for topic in shown]),
        legend=alt.Legend(
            title=None,
            orient="top",
            symbolType="circle",
            labelExpr=f"datum.label == '{ALL}' ? 'All posts' : datum.label",
        ),
    )
    base = alt.Chart(rows).encode(x=_time(rows), color=color)
    band = base.mark_area(opacity=0.13, interpolate="monotone", invalid=_GAPS).encode(
        y=alt.Y("low:Q", title=None, scale=scale, axis=axis), y2="high:Q"
    )
    line = base.mark_line(strokeWidth=2, interpolate="monotone", invalid=_GAPS).encode(
        y=alt.Y("net:Q", title=None, scale=scale, axis=axis)
    )
    point = base.mark_point(filled=True, size=22, opacity=1).encode(
        y=alt.Y("net:Q", title=None, scale=scale, axis=axis),
        tooltip=[
            _when(),
            alt.Tooltip("topic:N", title="Topic"),
            alt.Tooltip("net:Q", title="Net sentiment", format="+.2f"),
            alt.Tooltip("low:Q", title="95 % from", format="+.2f"),
            alt.Tooltip("high:Q", title="95 % to", format="+.2f"),
            alt.Tooltip("posts:Q", title="Posts", format=","),
        ],
    )
    balance = (
        alt.Chart(pd.DataFrame({"net": [0.0]}))
        .mark_rule(strokeDash=[3, 3], opacity=0.55, color=ALL_COLOR)
        .encode(y=alt.Y("net:Q", scale=scale, axis=axis, title=None))
    )
    return alt.layer(balance, band, line, point).properties(height=250)


def volume(series: pd.DataFrame, topic: str, *, height: int = 250) -> alt.Chart:
    """Posts per bin, stacked by class; the bin still filling is paler."""
    rows = _stacked(series[series["topic"] == topic])
    return (
        alt.Chart(rows)
        .mark_rect(stroke=None)
        .encode(
            x=_time(rows),
            x2="until:T",
            y=alt.Y("floor:Q", title=None, axis=_count_axis()),
            y2="ceiling:Q",
            color=alt.Color(
                "class:N",
                scale=alt.Scale(domain=list(CLASS_COLORS), range=list(CLASS_COLORS.values())),
                legend=alt.Legend(title=None, orient="top", symbolType="square"),
            ),
            opacity=alt.condition("datum.complete", alt.value(1.0), alt.value(0.5)),
            tooltip=[
                _when(),
                alt.Tooltip("class:N", title="Class"),
                alt.Tooltip("count:Q", title="Posts", format=","),
                alt.Tooltip("posts:Q", title="Of", format=","),
            ],
        )
        .properties(height=height)
    )


def _stacked(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per bin and class, with the heights between which its block stands and a gap to the next bin."""
    ceilings = rows[list(LABELS)].cumsum(axis=1)
    blocks = [
        rows[["at", "posts", "complete"]].assign(
            **{
                "until": rows["until"] - (rows["until"] - rows["at"]) * 0.14,
                "class": label,
                "count": rows[label],
                "floor": ceilings[label] - rows[label],
                "ceiling": ceilings[label],
            }
        )
        for label in LABELS
    ]
    return pd.concat(blocks, ignore_index=True)


def _count_axis() -> alt.Axis:
    return alt.Axis(format="~s", tickMinStep=1, tickCount=4, domain=False, ticks=False)


def _time(rows: pd.DataFrame) -> alt.X:
    """The namespace's clock, in UTC whatever the reader's own zone."""
    span = rows["at"].max() - rows["at"].min() if len(rows) else pd.Timedelta(0)
    pattern = next(pattern for longest, pattern in _TIME_FORMATS if span <= longest)
    axis = alt.Axis(format=pattern, labelOverlap=True, tickCount=6, grid=False)
    return alt.X("at:T", title=None, scale=alt.Scale(type="utc"), axis=axis)


def _when() -> alt.Tooltip:
    return alt.Tooltip("at:T", title="From (UTC)", timeUnit="utcyearmonthdatehoursminutes", format="%-d %b %Y %H:%M")

