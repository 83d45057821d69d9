"""`moodstream runs compare`: which of two replays of one labelled archive is right more often, told in lines."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from dashboard.runs import PREDICTIONS_FILE, read_run
from deploy.beginning import folder_of
from deploy.errors import Misuse
from deploy.printing import print_json, print_line
from deploy.settings import Settings

if TYPE_CHECKING:
    from dashboard.evaluation.comparison import Comparison, Disagreement
    from dashboard.evaluation.judgement import Estimate

POSTS_SHOWN: Final = 10
TEXT_SHOWN: Final = 80
MCNEMAR: Final = "McNemar's test"


def compare_two(options: argparse.Namespace, settings: Settings) -> int:
    """Differences are second minus first."""
    from dashboard.evaluation.comparison import NothingShared, compare
    from dashboard.evaluation.feed import BadPredictions

    first, second = (folder_of(name, settings) for name in (options.first, options.second))
    try:
        found = compare(first / PREDICTIONS_FILE, second / PREDICTIONS_FILE)
    except (NothingShared, BadPredictions) as error:
        raise Misuse(str(error)) from error
    if options.json:
        print_json(msgspec.to_builtins(found))
        return 0
    for line in lines(found, _names(first, second)):
        print_line(line)
    return 0


def lines(found: Comparison, names: tuple[str, str]) -> Iterator[str]:
    """The verdict in words, the figures it rests on, and posts they disagree on."""
    from dashboard.report.comparison import verdict
    from dashboard.report.words import points, whole

    yield verdict(found, names)
    yield ""
    width = max(len(name) for name in (*names, MCNEMAR)) + 2
    yield f"{'':{width}}{'accuracy':32}macro F1"
    for name, scores in zip(names, (found.first, found.second), strict=True):
        yield f"{name:{width}}{_with_interval(scores.accuracy):32}{_with_interval(scores.macro_f1)}"
    apart = (found.accuracy_difference, found.macro_f1_difference)
    accuracy, macro_f1 = (f"{points(one.value)} ({points(one.low)} to {points(one.high)}) points" for one in apart)
    yield f"{'difference':{width}}{accuracy:32}{macro_f1}"
    test = found.mcnemar
    yield (
        f"{MCNEMAR:{width}}p = {test.p_value:.2g}: right alone are {names[0]} on "
        f"{whole(test.only_first_right)} posts, {names[1]} on {whole(test.only_second_right)}"
    )
    yield f"{'disagree on':{width}}{whole(found.disagreeing)} of {whole(found.shared)} labelled posts both scored"
    yield f"{'left out':{width}}{_left_out(found, names)}"
    if found.disagreements:
        yield ""
        yield f"Posts they disagree on, surest first: label | {names[0]} | {names[1]} | text"
    for post in found.disagreements[:POSTS_SHOWN]:
        yield _told(post)
    if found.disagreeing > POSTS_SHOWN:
        yield f"… and {whole(found.disagreeing - POSTS_SHOWN)} more (--json has up to {len(found.disagreements)})"


def _names(first: Path, second: Path) -> tuple[str, str]:
    from dashboard.report.comparison import run_names

    return run_names(read_run(first), read_run(second))


def _with_interval(estimate: Estimate) -> str:
    from dashboard.report.words import interval, percent

    bounds = interval(estimate)
    return f"{percent(estimate.value)} ({bounds})" if bounds else percent(estimate.value)


def _left_out(found: Comparison, names: tuple[str, str]) -> str:
    from dashboard.report.words import counted

    return (
        f"{counted(found.only_first, 'labelled post')} only {names[0]} has, {found.only_second:,} only {names[1]} has, "
        f"{found.relabelled:,} labelled otherwise in the two"
    )


def _told(post: Disagreement) -> str:
    """One line; a stranger's text must not command the terminal."""
    text = "".join(character if character.isprintable() else " " for character in post.text)
    text = " ".join(text.split())
    short = text if len(text) <= TEXT_SHOWN else f"{text[: TEXT_SHOWN - 1]}…"
    first, second = f"{post.first} {post.first_confidence:.0%}", f"{post.second} {post.second_confidence:.0%}"
    return f"  {post.label:8} | {first:13} | {second:13} | {short or post.id}"
