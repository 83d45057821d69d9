"""Figures of a whole table: every system's accuracy seed by seed, and what a system takes for what."""

import statistics
from collections.abc import Sequence

import altair as alt
import numpy as np

from training.datasets.example import LABELS
from training.differences import interval
from training.figures.drawing import BLUE, INK, Figure, rows
from training.figures.runs import Line, missing, provenance, runs_by_row
from training.table import Table


def seeds(table: Table, lines: Sequence[Line]) -> Figure:
    """Accuracy of every row: a dot a seed, their mean and its interval."""
    found = runs_by_row(table, lines)
    made = {name: runs for name, runs in found.items() if runs}
    means = [{"system": name} | _mean_with_interval(runs) for name, runs in made.items()]
    dots = [
        {"system": name, "seed": run["seed"], "accuracy": 100 * run["test"]["accuracy"]}
        for name, runs in made.items()
        for run in runs
    ]
    order = [str(row["system"]) for row in sorted(means, key=lambda row: -float(row["mean"]))]
    y = alt.Y("system:N", sort=order, title="System", axis=alt.Axis(labelLimit=260, grid=True))
    scale = alt.Scale(zero=False, nice=True)

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", title="Accuracy on the test posts, %", scale=scale)

    base = alt.Chart(rows(means)).encode(y=y)
    chart = alt.layer(
        base.mark_rule(color=INK, strokeWidth=2, opacity=0.6).encode(x=x("low"), x2="high:Q"),
        alt.Chart(rows(dots)).mark_circle(color=BLUE, size=46, opacity=0.65).encode(x=x("accuracy"), y=y),
        base.mark_tick(color=INK, thickness=3, height=14).encode(x=x("mean")),
        base.mark_text(align="left", dx=8, color=INK).encode(x=x("high"), text=alt.Text("mean:Q", format=".1f")),
    ).properties(width=520, height=alt.Step(24))
    return Figure(
        "seeds",
        f"{table.title}: accuracy of every system",
        (
            "A dot is one seed, the upright stroke with its figure their mean, the line its 95 % interval over posts "
            "and seeds. All judged the same posts, so two systems differ less by chance than their lines suggest.",
            provenance(table, made),
        ),
        chart,
        missing(table, found),
    )


def _mean_with_interval(runs: Sequence[Line]) -> dict[str, float]:
    low, high = interval(np.array([[int(digit) for digit in run["right"]] for run in runs]))
    mean = statistics.fmean(run["test"]["accuracy"] for run in runs)
    return {"mean": 100 * mean, "low": 100 * low, "high": 100 * high}


def confusion(table: Table, lines: Sequence[Line], row: str | None = None) -> Figure:
    """What a row's runs take for what; by default that of the row which is best on validation."""
    found = runs_by_row(table, lines, [row] if row else None)
    name = row or max((name for name, runs in found.items() if runs), key=lambda name: _validated(found[name]))
    runs = found[name]
    counts = np.sum([run["test"]["confusion"] for run in runs], axis=0)
    classes = LABELS if len(counts) == len(LABELS) else [f"class {number}" for number in range(len(counts))]
    cells = [
        {
            "true": classes[true],
            "called": classes[called],
            "posts": float(counts[true, called]) / len(runs),
            "share": 100 * float(counts[true, called]) / max(1, int(counts[true].sum())),
        }
        for true in range(len(counts))
        for called in range(len(counts))
    ]
    base = alt.Chart(rows(cells)).encode(
        x=alt.X("called:N", sort=list(classes), title="Predicted class", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("true:N", sort=list(classes), title="True class"),
    )
    color = alt.Color(
        "share:Q",
        title=["Share of the", "true class, %"],
        scale=alt.Scale(scheme="blues", domain=[0, 100]),
    )
    ink = alt.condition("datum.share > 60", alt.value("white"), alt.value("#1d2730"))
    chart = alt.layer(
        base.mark_rect().encode(color=color),
        base.mark_text(dy=-8, fontSize=17).encode(text=alt.Text("share_told:N"), color=ink),
        base.mark_text(dy=12, fontSize=11).encode(text="posts_told:N", color=ink),
    )
    chart = chart.transform_calculate(
        share_told="format(datum.share, '.0f') + ' %'", posts_told="format(datum.posts, '.1f') + ' posts'"
    )
    chosen = {name: runs}
    best = "" if row else f" Of {table.name}'s systems it is the best on validation (weighted F1)."
    return Figure(
        "confusion",
        f"{name}: what it takes for what",
        (f"Mean of {len(runs)} seeds on the test posts; rows add up to 100 %.{best}", provenance(table, chosen)),
        chart.properties(width=390, height=330),
        missing(table, chosen),
    )


def _validated(runs: Sequence[Line]) -> float:
    return statistics.fmean(run["validation"]["weighted_f1"] for run in runs)
