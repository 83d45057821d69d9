"""`--fail-under`: what a replay has to reach, for the continuous check of models."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from dashboard.evaluation.judgement import Judgement

FIGURES: Final[dict[str, Callable[[Judgement], float | None]]] = {
    "accuracy": lambda judged: judged.scores.accuracy.value,
    "macro_f1": lambda judged: judged.scores.macro_f1.value,
    "weighted_f1": lambda judged: judged.scores.weighted_f1.value,
    "coverage": lambda judged: judged.answered.coverage,
    "accuracy_answered": lambda judged: judged.answered.accuracy.value,
    "ece": lambda judged: judged.calibration.ece,
}
AT_MOST: Final = frozenset({"ece"})
"""Figures that are better the smaller they are: their limit is an upper one."""


class BadCondition(ValueError):
    """No such figure, or no number to hold it against."""


class Condition(NamedTuple):
    figure: str
    limit: float


class Failure(NamedTuple):
    """found is None where no labelled post tells: a condition nobody can check is not met."""

    condition: Condition
    found: float | None

    def __str__(self) -> str:
        found = "unknown, no post carries a label" if self.found is None else f"{self.found:.4f}"
        word = "at most" if self.condition.figure in AT_MOST else "at least"
        return f"{self.condition.figure} is {found}: {word} {self.condition.limit:g} was asked for"


def parse_condition(text: str) -> Condition:
    """`macro_f1=0.70` → Condition. Raises BadCondition."""
    figure, _, limit = (part.strip() for part in text.partition("="))
    if figure not in FIGURES:
        raise BadCondition(f"condition {text!r}: no figure {figure!r}: use one of {', '.join(FIGURES)}")
    try:
        number = float(limit)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise BadCondition(f"condition {text!r}: {limit!r} is no number from 0 to 1: write {figure}=0.70")
    return Condition(figure, number)


def failures(judged: Judgement, conditions: Sequence[Condition]) -> list[Failure]:
    """The conditions that are not met, with what was found instead."""
    found = [Failure(condition, FIGURES[condition.figure](judged)) for condition in conditions]
    return [one for one in found if not _is_met(one)]


def _is_met(checked: Failure) -> bool:
    (figure, limit), found = checked
    if found is None:
        return False
    return found <= limit if figure in AT_MOST else found >= limit
