"""Mood and volume over the feed's own time: predictions.parquet → the bins the dashboard draws."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from dashboard.estimates import intervals
from dashboard.windows import ALL_TIME, Frame, frame
from inference_worker.contract import ALL, FIXED_POINT, LABELS


def series(predictions: Path) -> tuple[pd.DataFrame, Frame] | None:
    """A row per bin of all posts, in the columns `dashboard.charts` draws, and the bins; None without posts."""
    with pq.ParquetFile(predictions) as file:
        rows = file.read(["created_at", "predicted", LABELS[0], LABELS[-1]]).to_pandas()
    if rows.empty:
        return None
    placed = frame(ALL_TIME, rows["created_at"].max().to_pydatetime(), rows["created_at"].min().to_pydatetime())
    width = pd.Timedelta(seconds=placed.bins.width_s)
    score = (rows[LABELS[0]] - rows[LABELS[-1]]).astype("float64") * FIXED_POINT
    counted = pd.DataFrame({label: (rows["predicted"] == label).astype("int64") for label in LABELS})
    counted = counted.assign(posts=1, volume=1, score=score, square=score**2 / FIXED_POINT)
    starts = pd.DatetimeIndex(placed.starts, name="at").as_unit("ms")
    bins = counted.groupby(rows["created_at"].dt.floor(width)).sum().reindex(starts, fill_value=0)
    net, low, high = intervals(bins["posts"], bins["score"], bins["square"])
    named = bins.assign(topic=ALL, net=net, low=low, high=high, complete=True).reset_index()
    return named.assign(until=named["at"] + width), placed
