"""DataFrames of `trends` → charts that compare topics, classes and modalities.

Points carry `start` and `end` of their bin, in milliseconds, and their topic: a click on one asks for its posts.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final, NamedTuple

import altair as alt
import pandas as pd

from inference_worker.contract import ALL, LABELS

from .charts import CLASS_COLORS, INK, Spec, bare, filled, net_axis, time_axis, time_format, when
from .markup import topic_title
from .reading import Reading
from .trends import MODALITIES, Event

TOPIC_COLORS: Final = ("#6b7780", "#2f7fc1", "#c2820e", "#8a5cc2", "#1f9e77", "#c8487a", "#7a8a1f", "#b0562e")
"""In the order of the topics compared; none is a class's colour, and neighbours differ in lightness too."""
PICKED: Final = "picked"
"""The selection a click makes."""
_EPOCH: Final = pd.Timestamp(0, tz="UTC")
_MILLISECOND: Final = pd.Timedelta(milliseconds=1)
_TALL: Final = 280
_LOW: Final = 190
_LANES, _LANE = 4, 13
"""Heights of the events' labels, in pixels."""
_MODALITY_COLORS: Final = (INK, "#2f7fc1", "#c2820e")
_EVENT_COLORS: Final = {"model": "#8a5cc2", "alert": "#d9572b"}


class Point(NamedTuple):
    """A bin of a topic somebody clicked on."""

    topic: str
    start: datetime
    end: datetime


def point_of(selection: object) -> Point | None:
    """What a chart's selection names; None if it names nothing whole."""
    rows = selection.get(PICKED) if isinstance(selection, dict) else None
    if not isinstance(rows, list) or not rows or not isinstance(rows[-1], dict):
        return None
    row = rows[-1]
    try:
        start, end = (datetime.fromtimestamp(float(row[name]) / 1000, UTC) for name in ("start", "end"))
        return Point(str(row["name"]), start, end)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None


def compared(
    series: pd.DataFrame, topics: Sequence[str], limit: float, events: Sequence[Event], reading: Reading
) -> Spec:
    """Net sentiment of several topics on one scale."""
    rows = _pickable(series, ["topic", "at", "posts", "net", "low", "high"])
    spec = _compared_spec(tuple(topics), limit, time_format(series), reading.zone)
    return _marked(filled(spec, rows, reading), series, events, reading)


def volumes(series: pd.DataFrame, topics: Sequence[str], events: Sequence[Event], reading: Reading) -> Spec:
    """Posts of several topics, scored or not, on one scale."""
    rows = _pickable(series, ["topic", "at", "posts", "volume"])
    spec = _volumes_spec(tuple(topics), time_format(series), reading.zone)
    return _marked(filled(spec, rows, reading), series, events, reading)


def classes(series: pd.DataFrame, topic: str, reading: Reading, *, shares: bool) -> Spec:
    """The classes of one topic, stacked: posts, or shares of them."""
    rows = _pickable(series[series["topic"] == topic], ["topic", "at", "until", *LABELS, "posts", "complete"])
    return filled(_classes_spec(time_format(rows), reading.zone, shares), rows, reading)


def modalities(rows: pd.DataFrame, limit: float, reading: Reading) -> Spec:
    """What the texts alone say, what the pictures alone say, and what both together do."""
    return filled(_modalities_spec(limit, time_format(rows), reading.zone), rows, reading)


def rates(rows: pd.DataFrame, reading: Reading) -> Spec:
    """How often the model abstains, and how often text and picture disagree."""
    return filled(_rates_spec(tuple(rows["rate"].unique()), time_format(rows), reading.zone), rows, reading)


def voice(rows: pd.DataFrame, reading: Reading) -> Spec:
    """Share of voice: a bar per topic, parted by class."""
    rows = rows.assign(name=[topic_title(topic) for topic in rows["topic"]])
    return filled(_voice_spec(tuple(rows["name"])), rows, reading)


def _pickable(series: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Rows a click can be read from; titles instead of names, as topic `all` is shown as `All posts`."""
    starts, ends = ((series[name] - _EPOCH) // _MILLISECOND for name in ("at", "until"))
    return series[columns].assign(
        name=series["topic"], topic=[topic_title(topic) for topic in series["topic"]], start=starts, end=ends
    )


def _colors(topics: tuple[str, ...]) -> alt.Color:
    names = [topic_title(topic) for topic in topics]
    colors = [INK if topic == ALL else TOPIC_COLORS[place % len(TOPIC_COLORS)] for place, topic in enumerate(topics)]
    legend = alt.Legend(
        orient="top", title=None, columns=alt.ExprRef("width < 500 ? 2 : 4"), symbolType="stroke", labelLimit=220
    )
    return alt.Color("topic:N", scale=alt.Scale(domain=names, range=colors), legend=legend)


def _pick() -> alt.Parameter:
    return alt.selection_point(name=PICKED, fields=["name", "start", "end"], on="click", nearest=True)


@lru_cache(maxsize=32)
def _compared_spec(topics: tuple[str, ...], limit: float, pattern: str, zone: str) -> Spec:
    base = alt.Chart().encode(x=time_axis(pattern), color=_colors(topics))
    tooltip = [
        alt.Tooltip("topic:N", title="Topic"),
        when(zone),
        alt.Tooltip("net:Q", title="Net sentiment", format="+.2f"),
        alt.Tooltip("low:Q", title="95 % from", format="+.2f"),
        alt.Tooltip("high:Q", title="95 % to", format="+.2f"),
        alt.Tooltip("posts:Q", title="Posts", format=","),
    ]
    style: dict[str, Any] = {"interpolate": "monotone", "invalid": "break-paths-show-path-domains"}
    layers = [
        base.mark_line(strokeWidth=2, **style).encode(y=net_axis("net", limit)),
        base.mark_point(filled=True, size=42, opacity=1, cursor="pointer")
        .encode(y=net_axis("net", limit), tooltip=tooltip)
        .add_params(_pick()),
    ]
    if len(topics) == 1:
        layers.insert(0, base.mark_area(color=INK, opacity=0.18, **style).encode(y=net_axis("low", limit), y2="high:Q"))
    return bare(alt.layer(*layers).properties(height=_TALL))


@lru_cache(maxsize=32)
def _volumes_spec(topics: tuple[str, ...], pattern: str, zone: str) -> Spec:
    tooltip = [
        alt.Tooltip("topic:N", title="Topic"),
        when(zone),
        alt.Tooltip("volume:Q", title="Posts", format=","),
        alt.Tooltip("posts:Q", title="Scored", format=","),
    ]
    base = alt.Chart().encode(
        x=time_axis(pattern), y=alt.Y("volume:Q", title=None, axis=_count_axis()), color=_colors(topics)
    )
    return bare(
        alt.layer(
            base.mark_line(strokeWidth=1.8, interpolate="monotone"),
            base.mark_point(filled=True, size=36, opacity=1, cursor="pointer")
            .encode(tooltip=tooltip)
            .add_params(_pick()),
        ).properties(height=_LOW)
    )


@lru_cache(maxsize=32)
def _classes_spec(pattern: str, zone: str, shares: bool) -> Spec:
    whole = "max(datum.posts, 1)" if shares else "1"
    base = (
        alt.Chart()
        .transform_calculate(
            upto="datum.until - 0.12 * (datum.until - datum.at)",
            e0="0",
            e1=f"datum.positive / {whole}",
            e2=f"(datum.positive + datum.neutral) / {whole}",
            e3=f"datum.posts / {whole}",
        )
        .encode(
            x=time_axis(pattern),
            x2="upto:T",
            opacity=alt.condition("datum.complete", alt.value(1.0), alt.value(0.5)),
            tooltip=[
                when(zone),
                *(alt.Tooltip(f"{label}:Q", title=label.capitalize(), format=",") for label in LABELS),
                alt.Tooltip("posts:Q", title="All", format=","),
            ],
        )
    )
    axis = _share_axis() if shares else _count_axis()
    layers = [
        base.mark_rect(color=CLASS_COLORS[label], cursor="pointer").encode(
            y=alt.Y(f"{floor}:Q", title=None, axis=axis), y2=f"{top}:Q"
        )
        for label, (floor, top) in zip(LABELS, pairwise(("e0", "e1", "e2", "e3")), strict=True)
    ]
    layers[-1] = layers[-1].add_params(alt.selection_point(name=PICKED, fields=["name", "start", "end"], on="click"))
    return bare(alt.layer(*layers).properties(height=_LOW))


@lru_cache(maxsize=32)
def _modalities_spec(limit: float, pattern: str, zone: str) -> Spec:
    legend = alt.Legend(orient="top", title=None, symbolType="stroke")
    color = alt.Color(
        "modality:N", scale=alt.Scale(domain=list(MODALITIES), range=list(_MODALITY_COLORS)), legend=legend
    )
    tooltip = [
        alt.Tooltip("modality:N", title="Says"),
        when(zone),
        alt.Tooltip("net:Q", title="Net sentiment", format="+.2f"),
    ]
    base = alt.Chart().encode(x=time_axis(pattern), y=net_axis("net", limit), color=color)
    style: dict[str, Any] = {"interpolate": "monotone", "invalid": "break-paths-show-path-domains"}
    return bare(
        alt.layer(
            base.mark_line(strokeWidth=2, **style), base.mark_point(filled=True, size=20).encode(tooltip=tooltip)
        ).properties(height=_LOW)
    )


@lru_cache(maxsize=32)
def _rates_spec(names: tuple[str, ...], pattern: str, zone: str) -> Spec:
    legend = alt.Legend(orient="top", title=None, symbolType="stroke", labelLimit=220)
    color = alt.Color("rate:N", scale=alt.Scale(domain=list(names), range=["#c2820e", "#8a5cc2"]), legend=legend)
    tooltip = [
        alt.Tooltip("rate:N", title="Share"),
        when(zone),
        alt.Tooltip("share:Q", title="Of the posts", format=".1%"),
    ]
    base = alt.Chart().encode(
        x=time_axis(pattern),
        y=alt.Y("share:Q", title=None, axis=_share_axis(), scale=alt.Scale(zero=True)),
        color=color,
    )
    return bare(
        alt.layer(
            base.mark_line(strokeWidth=2, interpolate="monotone", invalid="break-paths-show-path-domains"),
            base.mark_point(filled=True, size=20).encode(tooltip=tooltip),
        ).properties(height=_LOW)
    )


@lru_cache(maxsize=32)
def _voice_spec(names: tuple[str, ...]) -> Spec:
    """Bars drawn as rectangles from sums, as parts of one bar must stand in the classes' order."""
    base = (
        alt.Chart()
        .transform_calculate(
            e0="0",
            e1="datum.share * datum.positive / max(datum.scored, 1)",
            e2="datum.share * (datum.positive + datum.neutral) / max(datum.scored, 1)",
            e3="datum.share * min(datum.scored, 1)",
        )
        .encode(
            y=alt.Y(
                "name:N",
                title=None,
                sort=list(names),
                axis=alt.Axis(domain=False, ticks=False, labelLimit=170, labelOverlap=False),
            ),
            tooltip=[
                alt.Tooltip("name:N", title="Topic"),
                alt.Tooltip("share:Q", title="Share of voice", format=".1%"),
                alt.Tooltip("posts:Q", title="Posts", format=","),
                alt.Tooltip("net:Q", title="Net sentiment", format="+.2f"),
            ],
        )
    )
    axis = alt.Axis(format=".0%", tickCount=4, domain=False, ticks=False)
    layers: list[alt.Chart] = [
        base.mark_bar(color=CLASS_COLORS[label], height={"band": 0.62}).encode(
            x=alt.X(f"{floor}:Q", title=None, axis=axis), x2=f"{top}:Q"
        )
        for label, (floor, top) in zip(LABELS, pairwise(("e0", "e1", "e2", "e3")), strict=True)
    ]
    return bare(alt.layer(*layers).properties(height=max(40 * len(names) + 40, 110)))


def _count_axis() -> alt.Axis:
    return alt.Axis(format="~s", tickMinStep=1, tickCount=3, domain=False, ticks=False, minExtent=32)


def _share_axis() -> alt.Axis:
    return alt.Axis(format=".0%", tickCount=3, domain=False, ticks=False, minExtent=32)


def _marked(spec: Spec, series: pd.DataFrame, events: Sequence[Event], reading: Reading) -> Spec:
    """The chart with a rule where something happened; labels take turns in height and lean to where there is room."""
    if not events:
        return spec
    first, last = series["at"].min(), series["at"].max()
    layers = []
    for place, event in enumerate(events):
        at = int(reading.at(event.at).replace(tzinfo=UTC).timestamp() * 1000)
        is_late = event.at > first + 0.6 * (last - first)
        color, y = _EVENT_COLORS[event.kind], 8 + _LANE * (place % _LANES)
        values = {"values": [{"at": at, "label": event.label}]}
        x = {"field": "at", "type": "temporal"}
        tooltip = {"field": "label", "type": "nominal", "title": "Here"}
        rule = {"type": "rule", "strokeDash": [4, 3], "strokeWidth": 1.5, "color": color}
        words = {"type": "text", "align": "right" if is_late else "left", "dx": -4 if is_late else 4, "y": y}
        words |= {"fontSize": 11, "limit": 240, "color": color}
        layers += [
            {"data": values, "mark": rule, "encoding": {"x": x, "tooltip": tooltip}},
            {"data": values, "mark": words, "encoding": {"x": x, "text": {"field": "label", "type": "nominal"}}},
        ]
    return {**spec, "layer": [*spec["layer"], *layers]}
