"""Two replays of the same history side by side: which is better, by how much, and the posts they disagree on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from dashboard.charts import Spec
from dashboard.evaluation.comparison import Comparison, compare
from dashboard.evaluation.judgement import BadJudgement, Curve, Estimate, Judgement, read_judgement
from dashboard.report import figures, words
from dashboard.report.render import environment, replace, responsive
from dashboard.runs import JUDGEMENT_FILE, PREDICTIONS_FILE, Run, read_run

POSTS_SHOWN: Final = 24
SLICES_SHOWN: Final = 20
SIGNIFICANT: Final = 0.05


def write_comparison(first: Path, second: Path, out: Path) -> Comparison:
    """Judges two folders of replays against each other and writes the HTML page `out`, as self-contained as a report.

    Raises UnknownRun; BadPredictions, or NothingShared where they have no labelled post in common.
    """
    runs = read_run(first), read_run(second)
    compared = compare(first / PREDICTIONS_FILE, second / PREDICTIONS_FILE)
    names = run_names(*runs)
    curves = side_by_side(known(first), known(second), names)
    page = (
        environment()
        .get_template("comparison.html.j2")
        .render(
            **said(compared, names),
            runs=runs,
            prequential={
                title: responsive(figures.prequential(curves, [], measure))
                for measure, title in figures.MEASURES.items()
            },
        )
    )
    replace(out, page)
    return compared


def run_names(first: Run, second: Run) -> tuple[str, str]:
    """Two names that can be told apart."""
    if first.namespace != second.namespace:
        return first.namespace, second.namespace
    return (
        f"{first.namespace} ({words.brief(first.started_at)})",
        f"{second.namespace} ({words.brief(second.started_at)})",
    )


def known(folder: Path) -> Judgement | None:
    """The curves are worth having, and their lack is no reason to keep the rest back."""
    try:
        return read_judgement(folder / JUDGEMENT_FILE)
    except BadJudgement:
        return None


def side_by_side(first: Judgement | None, second: Judgement | None, names: tuple[str, str]) -> list[Curve]:
    """The models' own curves under the runs' names."""
    return [
        msgspec.structs.replace(judged.curves[0], name=name)
        for judged, name in zip((first, second), names, strict=True)
        if judged is not None and judged.curves
    ]


def curve_spec(first: Judgement, second: Judgement, names: tuple[str, str], measure: figures.Measure) -> Spec | None:
    return figures.prequential(side_by_side(first, second, names), [], measure)


def said(compared: Comparison, names: tuple[str, str]) -> dict[str, Any]:
    """What page and report say alike."""
    slices = sorted(compared.slices, key=lambda one: (one.p_value, one.dimension, one.value))
    return {
        "compared": compared,
        "names": names,
        "verdict": verdict(compared, names),
        "slices": slices[:SLICES_SHOWN],
        "posts": compared.disagreements[:POSTS_SHOWN],
    }


def verdict(compared: Comparison, names: tuple[str, str]) -> str:
    """The outcome in plain words."""
    test, difference = compared.mcnemar, compared.accuracy_difference
    value = difference.value or 0.0
    better, worse = (names[1], names[0]) if value > 0 else names
    only_better, only_worse = test.only_second_right, test.only_first_right
    if value <= 0:
        only_better, only_worse = only_worse, only_better
    shared = f"On the {compared.shared:,} labelled posts both scored"
    split = (
        f"{better} alone is right on {only_better:,}, {worse} alone on {only_worse:,}"
        if test.only_first_right + test.only_second_right
        else "both are right on the very same ones"
    )
    if test.p_value < SIGNIFICANT and value:
        return (
            f"{shared}, {better} is the better one, by {abs(100 * value):.1f} points of accuracy (95 %: "
            f"{points(difference)}): {split}; chance alone would split them so unevenly {chance(test.p_value)}."
        )
    return f"{shared}, neither is clearly better: {split}; chance alone would do that {chance(test.p_value)}."


def points(difference: Estimate) -> str:
    """The interval of the difference's size, the smaller end first."""
    ends = [
        100 * end * (1 if (difference.value or 0) >= 0 else -1)
        for end in (difference.low, difference.high)
        if end is not None
    ]
    return " to ".join(f"{end:.1f}".replace("-", "\N{MINUS SIGN}") for end in sorted(ends))


def chance(p_value: float) -> str:
    """0.03 → `3 times in 100`."""
    if p_value < 0.0001:
        return "less than once in 10,000 times"
    if p_value < 0.01:
        return f"{p_value * 10_000:.0f} times in 10,000"
    return f"{p_value * 100:.0f} times in 100"
