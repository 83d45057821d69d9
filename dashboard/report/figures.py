"""The charts of a judgement: which there are, from which rows; `charts` says how they look."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import pandas as pd

from dashboard import charts as mood_charts
from dashboard.charts import Spec
from dashboard.evaluation.judgement import Calibration, Curve, DriftFlag, Judgement
from dashboard.report import charts, mood, words
from inference_worker.contract import ALL

Measure = Literal["accuracy", "macro_f1"]
MEASURES: Final[dict[Measure, str]] = {"accuracy": "Accuracy", "macro_f1": "Macro F1"}


@dataclass(frozen=True, kw_only=True)
class Course:
    """Mood and volume over the archive, and what one bin is."""

    mood: Spec
    volume: Spec
    per: str


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """How sure against how right, and how many posts that rests on."""

    diagram: Spec
    counts: Spec


def curve_names(curves: list[Curve]) -> list[str]:
    """As many as can be told apart."""
    return [curve.name for curve in curves if curve.points][: len(charts.SERIES_COLORS)]


def prequential(curves: list[Curve], flags: list[DriftFlag], measure: Measure) -> Spec | None:
    names = curve_names(curves)
    if not names:
        return None
    rows = [
        {"at": point.at, "name": curve.name, "value": getattr(point, measure)}
        for curve in curves
        if curve.name in names
        for point in curve.points
    ]
    marks = [{"at": flag.at, "what": words.called(flag.signal)} for flag in flags]
    return charts.prequential(_timed(rows, "name", "value"), names, _timed(marks, "what"), title=MEASURES[measure])


def reliability(calibration: Calibration) -> Reliability | None:
    """None without labels."""
    rows = [
        {
            "confidence": one.confidence,
            "accuracy": one.accuracy.value,
            "low": one.accuracy.low,
            "high": one.accuracy.high,
            "posts": one.rows,
        }
        for one in calibration.bins
        if one.rows and one.confidence is not None
    ]
    if not rows:
        return None
    bins = pd.DataFrame(rows)
    return Reliability(diagram=charts.reliability(bins), counts=charts.bin_counts(bins))


def risk_coverage(judgement: Judgement) -> Spec | None:
    points = judgement.risk_coverage.points
    if not points:
        return None
    answered = judgement.answered
    here = (
        [{"coverage": answered.coverage, "risk": 1 - answered.accuracy.value}]
        if answered.coverage is not None and answered.accuracy.value is not None
        else []
    )
    curve = pd.DataFrame([{"coverage": point.coverage, "risk": 1 - point.accuracy} for point in points])
    return charts.risk_coverage(curve, pd.DataFrame(here, columns=["coverage", "risk"]))


def course(predictions: Path) -> Course | None:
    """None without posts."""
    found = mood.series(predictions)
    if found is None:
        return None
    series, frame = found
    limit = mood_charts.trend_limit(series, [ALL])
    return Course(
        mood=mood_charts.trend(series, ALL, limit), volume=mood_charts.volume(series, ALL), per=frame.bin_label
    )


def _timed(rows: list[dict[str, object]], *columns: str) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["at", *columns])
    frame["at"] = pd.to_datetime(frame["at"], utc=True)
    return frame
