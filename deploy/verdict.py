"""A replay judged and held against the conditions of --fail-under; replays and `moodstream evaluate` alike."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from dashboard.runs import JUDGEMENT_FILE, PREDICTIONS_FILE
from ingest.arguments import above_zero

UNMET: Final = 4
"""Exit code where a condition is not met."""


def add_judging(parser: argparse.ArgumentParser) -> None:
    """--fail-under, --label-delay and --hourly-price."""
    parser.add_argument(
        "--fail-under",
        action="append",
        default=[],
        type=_condition,
        metavar="FIGURE=LIMIT",
        help="exit with code 4 if a figure is worse, e.g. macro_f1=0.70; again for more",
    )
    parser.add_argument(
        "--label-delay",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="event time after which a post's label becomes known (default: %(default)s)",
    )
    parser.add_argument(
        "--hourly-price",
        type=above_zero,
        metavar="DOLLARS",
        help="of this machine, for the report's cost of a million posts (default: an example, called one)",
    )


def judged(folder: Path, label_delay_s: float) -> dict[str, Any]:
    """Judges the predictions of a folder, keeps the judgement there, and returns what of it goes into the result.

    The one place where predictions are judged, once they are drained and merged.
    """
    from dashboard.evaluation.judge import judge
    from dashboard.evaluation.judgement import write_judgement

    judgement = judge(folder / PREDICTIONS_FILE, label_delay=timedelta(seconds=label_delay_s))
    write_judgement(folder / JUDGEMENT_FILE, judgement)
    latency = judgement.performance.stages[0]
    return {
        "labelled": judgement.labelled,
        "accuracy": judgement.scores.accuracy.value,
        "macro_f1": judgement.scores.macro_f1.value,
        "weighted_f1": judgement.scores.weighted_f1.value,
        "coverage": judgement.answered.coverage,
        "accuracy_answered": judgement.answered.accuracy.value,
        "per_class": msgspec.to_builtins(judgement.scores.per_class),
        "confusion": judgement.scores.confusion,
        "latency_ms": {"p50": latency.p50_ms, "p95": latency.p95_ms, "p99": latency.p99_ms},
    }


def unmet(folder: Path, conditions: Sequence[str]) -> int:
    """Exit code: UNMET if the judgement of a folder fails a condition, each told in a line."""
    from dashboard.evaluation.conditions import failures, parse_condition
    from dashboard.evaluation.judgement import read_judgement

    if not conditions:
        return 0
    failed = failures(read_judgement(folder / JUDGEMENT_FILE), [parse_condition(one) for one in conditions])
    for failure in failed:
        sys.stderr.write(f"moodstream: --fail-under: {failure}\n")
    return UNMET if failed else 0


def _condition(text: str) -> str:
    """The text itself, once it is known to be a condition."""
    from dashboard.evaluation.conditions import BadCondition, parse_condition

    try:
        parse_condition(text)
    except BadCondition as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds, 0 or more")
    return number
