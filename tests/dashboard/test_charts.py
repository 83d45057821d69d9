"""Charts: what is drawn against what, from which rows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import altair as alt
import pandas as pd
import pytest
from redis import Redis

from dashboard import charts, queries
from dashboard.feeds import Feed
from dashboard.reading import PLAIN, Reading
from inference_worker.contract import ALL
from tests.dashboard.seeding import NOW, TOPICS, Seed, feed


def series(count: int = 4, step: timedelta = timedelta(minutes=1)) -> pd.DataFrame:
    at = pd.DatetimeIndex([datetime(2015, 2, 24, 19, 0, tzinfo=UTC) + step * number for number in range(count)])
    return pd.DataFrame(
        {
            "topic": "tea",
            "at": at,
            "until": at + step,
            "posts": [6, 0, 3, 4][:count],
            "positive": [3, 0, 1, 4][:count],
            "neutral": [2, 0, 1, 0][:count],
            "negative": [1, 0, 1, 0][:count],
            "volume": [6, 0, 9, 4][:count],
            "net": [0.3, None, 0.0, 0.9][:count],
            "low": [0.1, None, -0.4, 0.8][:count],
            "high": [0.5, None, 0.4, 1.0][:count],
            "complete": [True, True, True, False][:count],
        }
    )


def fields(layer: dict[str, Any]) -> dict[str, str | None]:
    return {channel: part.get("field") for channel, part in layer["encoding"].items() if isinstance(part, dict)}


def test_trend_draws_band_line_and_points_over_time() -> None:
    spec = charts.trend(series(), "tea", 1.0)
    marks = [layer["mark"]["type"] for layer in spec["layer"]]
    assert marks == ["area", "area", "area", "line", "point"]
    band, line = fields(spec["layer"][0]), fields(spec["layer"][3])
    assert (band["x"], band["y"], band["y2"]) == ("at", "low", "high")
    assert (line["x"], line["y"]) == ("at", "net")
    for layer in spec["layer"]:
        assert layer["encoding"]["x"]["scale"] == {"type": "utc"}
        assert layer["encoding"]["y"]["scale"]["domain"] == [-1.0, 1.0]


@pytest.mark.parametrize("draw", [partial(charts.trend, limit=0.5), charts.volume])
def test_specs_are_what_vega_lite_takes(draw: Callable[..., charts.Spec]) -> None:
    spec = draw(series(), "tea")
    alt.LayerChart.from_dict({**spec, "datasets": {"rows": []}})


def test_trend_keeps_to_its_topic() -> None:
    both = pd.concat([series(), series().assign(topic="rain")])
    assert len(charts.trend(both, "tea", 1.0)["datasets"]["rows"]) == 4


@pytest.mark.parametrize("reading", [PLAIN, Reading(zone="Asia/Tokyo", numbers="de")])
def test_charts_drawn_together_are_those_drawn_alone(reading: Reading) -> None:
    both = pd.concat([series(), series().assign(topic="rain", net=0.2)], ignore_index=True)
    for drawn in charts.courses(both, ["rain", "tea"], reading):
        assert drawn.trend == charts.trend(both, drawn.topic, 1.0, reading)
        assert drawn.volume == charts.volume(both, drawn.topic, reading)
        assert len(drawn.trend["datasets"]["rows"]) == 4


def test_volume_stacks_the_classes_and_what_was_shed() -> None:
    spec = charts.volume(series(), "tea")
    heights = [(fields(layer)["y"], fields(layer)["y2"], layer["mark"]["color"]) for layer in spec["layer"]]
    assert heights == [
        ("zero", "positive", charts.CLASS_COLORS["positive"]),
        ("positive", "upper", charts.CLASS_COLORS["neutral"]),
        ("upper", "posts", charts.CLASS_COLORS["negative"]),
        ("posts", "volume", charts.SHED_COLOR),
    ]
    assert spec["layer"][0]["encoding"]["opacity"]["condition"]["test"] == "datum.complete"


def test_refresh_changes_rows_alone() -> None:
    before, after = charts.trend(series(3), "tea", 1.0), charts.trend(series(4), "tea", 1.0)
    assert {**before, "datasets": None} == {**after, "datasets": None}
    assert len(after["datasets"]["rows"]) == 4


def test_data_is_the_page_s_own() -> None:
    for spec in (charts.trend(series(), "tea", 1.0), charts.volume(series(), "tea")):
        assert spec["data"] == {"name": "rows"}
        assert all("data" not in layer for layer in spec["layer"])
        assert "url" not in str({**spec, "datasets": None})


@pytest.mark.parametrize("empty", [series(0), series().iloc[1:2]])
def test_no_posts_make_an_empty_chart(empty: pd.DataFrame) -> None:
    assert charts.trend_limit(empty, ["tea"]) == 0.25
    assert charts.trend(empty, "tea", 0.25)["layer"]
    assert charts.volume(empty, "tea")["layer"]


@pytest.mark.parametrize(("net", "limit"), [(0.2, 0.25), (-0.3, 0.5), (0.49, 1.0), (-1.0, 1.0)])
def test_scale_moves_in_steps(net: float, limit: float) -> None:
    assert charts.trend_limit(series().assign(net=net), ["tea"]) == limit


@pytest.mark.parametrize(
    ("step", "pattern"),
    [
        (timedelta(minutes=1), "%H:%M"),
        (timedelta(hours=10), "%a %H:%M"),
        (timedelta(days=7), "%-d %b"),
        (timedelta(days=200), "%b %Y"),
    ],
)
def test_times_are_written_as_long_as_the_span_needs(step: timedelta, pattern: str) -> None:
    assert charts.volume(series(4, step), "tea")["layer"][0]["encoding"]["x"]["axis"]["format"] == pattern


def test_rows_of_a_snapshot_fit(redis: Redis, seed: Seed) -> None:
    seed(feed(200))
    snapshot = queries.snapshot(Feed(redis, "live", address="the store"), window="1h", now=NOW)
    rows = charts.volume(snapshot.series, ALL)["datasets"]["rows"]
    assert sum(rows["posts"].to_pylist()) == snapshot.total.posts > 0
    assert charts.trend(snapshot.series, TOPICS[0], 1.0)["datasets"]["rows"].to_pandas()["net"].abs().max() <= 1
