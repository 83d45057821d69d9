"""Figures of the ablations: CLMLF's layers, SPP-SCL's threshold, MDSE's private branches."""

import statistics
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

import altair as alt

from training.config import RunConfig
from training.differences import difference
from training.figures.drawing import BLUE, INK, OCHRE, Figure, rows
from training.figures.runs import Line, missing, provenance, runs_by_row
from training.table import Table

MEASURES: Final = {"accuracy": "accuracy", "weighted F1": "weighted_f1"}
USUAL_LAYERS: Final = {"fusion_layers": 3, "image_layers": 2}
USUAL_THRESHOLD: Final = 2 / 3
BRANCHES: Final = {
    "all": "whole",
    "iPFL, MACL": "without the text's private features",
    "tPFL, MACL": "without the picture's private features",
    "iPFL, tPFL": "without the contrastive loss (MACL)",
}
"""Rows of MDSE's ablation with one part removed, and what that is in words."""
BRANCHES_HEIGHT: Final = 200
MEASURE_COLOR: Final = alt.Color(
    "measure:N",
    title="Test posts",
    scale=alt.Scale(domain=list(MEASURES), range=[BLUE, OCHRE]),
    legend=alt.Legend(orient="top"),
)
SWEEP_CAPTION: Final = "A small mark is one seed; the line goes through the seeds' means."


def layers(table: Table, lines: Sequence[Line]) -> Figure:
    """CLMLF's accuracy and weighted F1 over its fusion layers, and over its picture's."""
    panels = {
        "fusion_layers": "Fusion layers (two of the picture)",
        "image_layers": "Layers of the picture (three of fusion)",
    }
    configs = {row.name: row.config for row in table.rows if row.config is not None and _is_whole(row.config)}
    swept = {
        panel: {str(_layers(config)[panel]): name for name, config in configs.items() if _moved(config) <= {panel}}
        for panel in panels
    }
    found = runs_by_row(table, lines, list(dict.fromkeys(name for names in swept.values() for name in names.values())))
    charts = [
        _sweep({at: found[name] for at, name in sorted(swept[panel].items())}, title, width=55 * len(swept[panel]))
        for panel, title in panels.items()
    ]
    return Figure(
        "layers",
        "CLMLF: how many layers it takes",
        (SWEEP_CAPTION, provenance(table, found)),
        alt.hconcat(*charts).resolve_scale(y="shared"),
        missing(table, found),
    )


def _is_whole(config: RunConfig) -> bool:
    return bool(config.model.get("use_lbcl", True) and config.model.get("use_dbcl", True))


def _layers(config: RunConfig) -> dict[str, int]:
    return {name: config.model.get(name, usual) for name, usual in USUAL_LAYERS.items()}


def _moved(config: RunConfig) -> set[str]:
    return {name for name, count in _layers(config).items() if count != USUAL_LAYERS[name]}


def thresholds(table: Table, lines: Sequence[Line]) -> Figure:
    """SPP-SCL's accuracy and weighted F1 over the threshold below which its second step is made."""
    swept = {
        float(row.config.model.get("threshold", USUAL_THRESHOLD)): row.name
        for row in table.rows
        if row.config is not None and set(row.config.model) - {"label_weight"} <= {"threshold"}
    }
    found = runs_by_row(table, lines, list(swept.values()))
    named = {str(Fraction(at).limit_denominator(12)): found[name] for at, name in sorted(swept.items())}
    return Figure(
        "thresholds",
        "SPP-SCL: when to pull the modalities together",
        (SWEEP_CAPTION, provenance(table, found)),
        _sweep(named, "Threshold (share of the pairs of one label), below which the second step is made", width=430),
        missing(table, found),
    )


def score_rows(runs_at: Mapping[str, Sequence[Line]]) -> list[dict[str, Any]]:
    """A row a run and measure, in percent."""
    return [
        {"at": at, "seed": run["seed"], "measure": measure, "value": 100 * run["test"][field]}
        for at, runs in runs_at.items()
        for run in runs
        for measure, field in MEASURES.items()
    ]


def _sweep(runs_at: Mapping[str, Sequence[Line]], title: str, *, width: int) -> alt.LayerChart:
    base = alt.Chart(rows(score_rows(runs_at))).encode(
        x=alt.X("at:O", title=title, scale=alt.Scale(domain=list(runs_at)), axis=alt.Axis(labelAngle=0, grid=True)),
        color=MEASURE_COLOR,
    )
    shape = alt.Shape("measure:N", title="Test posts", scale=alt.Scale(domain=list(MEASURES)))
    y = alt.Y("value:Q", title="Accuracy and weighted F1, %", scale=alt.Scale(zero=False))
    mean = base.encode(y=alt.Y("mean(value):Q", scale=alt.Scale(zero=False)))
    return alt.layer(
        base.mark_point(size=34, opacity=0.7).encode(y=y, shape=shape),
        mean.mark_line(strokeWidth=2),
        mean.mark_point(size=70, filled=True).encode(shape=shape),
    ).properties(width=width, height=260)


def branches(table: Table, lines: Sequence[Line]) -> Figure:
    """MDSE's scores with each private branch removed, and how far that is from the whole."""
    found = runs_by_row(table, lines, list(BRANCHES))
    order = list(BRANCHES.values())
    dots = score_rows({BRANCHES[name]: runs for name, runs in found.items()})
    y = alt.Y("at:N", sort=order, title="MDSE", scale=alt.Scale(domain=order), axis=alt.Axis(labelLimit=260))
    offset = alt.YOffset("measure:N", scale=alt.Scale(domain=list(MEASURES)))
    base = alt.Chart(rows(dots)).encode(y=y, yOffset=offset, color=MEASURE_COLOR)
    scores = alt.layer(
        base.mark_bar(opacity=0.45).encode(x=alt.X("mean(value):Q", title="Score, % (bar: mean; dot: a seed)")),
        base.mark_circle(size=38, opacity=1).encode(x=alt.X("value:Q")),
    ).properties(width=330, height=BRANCHES_HEIGHT)
    return Figure(
        "branches",
        "MDSE: what each private branch is worth",
        (
            "On the right, accuracy against the whole on the same posts and seeds, with its 95 % interval over both; "
            "an interval across 0 leaves chance in.",
            provenance(table, found),
        ),
        alt.hconcat(scores, _changes_chart(changes(found), order)),
        missing(table, found),
    )


def changes(found: Mapping[str, Sequence[Line]]) -> list[dict[str, Any]]:
    """Accuracy against `all` in points, over the seeds both have; the interval takes two of these."""
    whole = {run["seed"]: run["test"]["accuracy"] for run in found["all"]}
    rows_of_change = []
    for name, part in BRANCHES.items():
        shared = [run for run in found[name] if run["seed"] in whole]
        if name == "all" or not shared:
            continue
        points = 100 * statistics.fmean(run["test"]["accuracy"] - whole[run["seed"]] for run in shared)
        known = difference(found[name], found["all"])
        ends = {"low": 100 * known.low, "high": 100 * known.high} if known else {}
        rows_of_change.append({"part": part, "points": points, **ends})
    return rows_of_change


def _changes_chart(changed: Sequence[dict[str, Any]], order: Sequence[str]) -> alt.LayerChart:
    y = alt.Y("part:N", sort=list(order), title=None, scale=alt.Scale(domain=list(order)), axis=None)
    base = alt.Chart(rows(changed)).encode(y=y)
    return alt.layer(
        alt.Chart(rows([{"points": 0}])).mark_rule(color=INK).encode(x="points:Q"),
        base.mark_bar(color=BLUE, opacity=0.45, height=16).encode(
            x=alt.X("points:Q", title="Accuracy against the whole, points")
        ),
        base.mark_rule(color=INK, strokeWidth=2).encode(x="low:Q", x2="high:Q"),
        base.mark_text(dy=-14, color=INK).encode(x="points:Q", text=alt.Text("points:Q", format="+.1f")),
    ).properties(width=280, height=BRANCHES_HEIGHT)
