"""Figures as people read them, and a replay told in a few plain sentences made of nothing but its figures."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from dashboard.evaluation.judgement import Baseline, DriftFlag, Estimate, Judgement, Scores
from dashboard.report.outcome import Outcome
from dashboard.runs import Run

DASH: Final = "\N{EN DASH}"
_NBSP: Final = "\N{NO-BREAK SPACE}"
EXAMPLE_PRICE: Final = 0.10
"""US dollars per machine-hour: about what two cores are let for. An example, and told so."""


NAMES: Final = {
    "model": "Moodstream",
    "majority": "the commonest class so far",
    "error": "share wrong",
    "abstained": "share abstained on",
    "confidence": "mean confidence",
    "positive": "share called positive",
    "neutral": "share called neutral",
    "negative": "share called negative",
}
"""What evaluation calls a contender or a signal, for somebody who has not read it."""
OF_CONTENT: Final = (
    (re.compile(r"direction (\d+)"), r"content of the posts, main direction \1 of their embeddings"),
    (
        re.compile(r"(likeness|distance) (to|from) the first posts"),
        r"\1 of the posts’ content \2 that of the first ones",
    ),
)
"""Signals taken from embeddings, which `about_content` explains."""


def called(name: str) -> str:
    for pattern, words in OF_CONTENT:
        if pattern.fullmatch(name):
            return pattern.sub(words, name)
    return NAMES.get(name, name)


def about_content(signals: Iterable[str]) -> str:
    """What somebody needs to know to read the names of such signals; nothing if there are none."""
    if not any(pattern.fullmatch(name) for name in signals for pattern, _ in OF_CONTENT):
        return ""
    return (
        "An embedding is where the model places a post by what it says and shows: posts that are alike lie close "
        "together. Main directions are those in which the first posts of the feed differ most from each other."
    )


def percent(share: float | None) -> str:
    """0.7143 → `71.4 %`."""
    return DASH if share is None else f"{100 * share:.1f}{_NBSP}%"


def decimal(value: float | None) -> str:
    return DASH if value is None else f"{value:.3f}"


def whole(count: float | None) -> str:
    return DASH if count is None else f"{count:,.0f}"


def interval(estimate: Estimate) -> str:
    """`70.6 to 72.1 %`; nothing where no interval was worked out."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{100 * estimate.low:.1f} to {100 * estimate.high:.1f}{_NBSP}%"


def moment(at: datetime | None) -> str:
    return DASH if at is None else f"{brief(at)} UTC"


def brief(at: datetime) -> str:
    return f"{at.astimezone(UTC):%-d %b %Y, %H:%M}"


def hours(seconds: float) -> str:
    """3600 → `1 hour`."""
    count = seconds / 3600
    return f"{count:g} hour" if count == 1 else f"{count:g} hours"


def day(at: datetime) -> str:
    return f"{at.astimezone(UTC):%-d %B %Y}"


def milliseconds(value: float | None) -> str:
    if value is None:
        return DASH
    return f"{value:.0f}{_NBSP}ms" if value < 1000 else f"{value / 1000:,.1f}{_NBSP}s"


def money(amount: float | None) -> str:
    return DASH if amount is None else f"${amount:,.2f}"


def points(difference: float | None) -> str:
    """0.012 → `+1.2`: a difference of shares."""
    return DASH if difference is None else f"{100 * difference:+.1f}".replace("-", "\N{MINUS SIGN}")


def counted(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def title(run: Run) -> str:
    """The archive's own name; the folders it lies in are nobody's business."""
    return run.archive.replace("\\", "/").rstrip("/").rpartition("/")[2] or run.namespace


def is_evaluation(run: Run) -> bool:
    """The model was asked by itself, without the pipeline."""
    return run.stack == "none"


def deed(run: Run) -> str:
    return "evaluated" if is_evaluation(run) else "replayed"


def command(run: Run) -> str:
    """What to type to have this run again: the variables its outcome hangs on, and the command with its options."""
    words = [f"{name}={shlex.quote(value)}" for name, value in sorted(run.variables.items()) if _matters(name, run)]
    words += ["moodstream", *(("evaluate", "--data") if is_evaluation(run) else ("replay",)), shlex.quote(run.archive)]
    for name, value in sorted(run.options.items()):
        flag = flag_of(name)
        for one in value if isinstance(value, list) else [value]:
            if one is True:
                words.append(flag)
            elif one and name != "source":  # the archive, which stands first
                words += [flag, shlex.quote("=".join(one) if isinstance(one, list) else str(one))]
    return " ".join(words)


def _matters(variable: str, run: Run) -> bool:
    """Not what is of Kafka and Redis alone where there were none, and not what an option says."""
    if not is_evaluation(run):
        return True
    return variable in _OF_THE_MODEL and not (variable == "MOODSTREAM_MODEL" and run.options.get("model"))


def flag_of(option: str) -> str:
    """`label_delay` → `--label-delay`."""
    return _FLAGS.get(option, f"--{option.replace('_', '-')}")


_FLAGS: Final = {
    "column_map": "--map",
    "start": "--from",
    "end": "--to",
    "hosts": "--host",
    "channels": "--channel",
    "keep_all": "--all",
}
"""Options that are called otherwise on the command line."""
_OF_THE_MODEL: Final = ("MOODSTREAM_ENGINE", "MOODSTREAM_MODEL")


def story(judgement: Judgement, outcome: Outcome, run: Run) -> list[str]:
    """What somebody who was not there needs to know, in two paragraphs: how right; how sure, and what changed."""
    if not judgement.rows:
        return ["Not one post of this archive was scored, so there is nothing to judge."]
    first = [_scope(judgement, run), *_rightness(judgement)]
    if outcome.lost:
        first.append(f"{counted(outcome.lost, 'post')} went missing on the way: do not rely on these figures.")
    return [" ".join(first), " ".join([*_sureness(judgement), _changes(judgement.drift.flags)])]


def _scope(judgement: Judgement, run: Run) -> str:
    model = " and ".join(judgement.models) or "the model"
    first, last = judgement.first_at, judgement.last_at
    if first is None or last is None:
        when = ""
    elif day(first) == day(last):
        when = f", all written on {day(first)}"
    else:
        when = f", written from {day(first)} to {day(last)}"
    if is_evaluation(run):
        return f"{counted(judgement.rows, 'post')}{when}, were scored by {model} on its own, without the live pipeline."
    return f"{counted(judgement.rows, 'post')}{when}, went through the live pipeline and were scored by {model}."


def _rightness(judgement: Judgement) -> list[str]:
    accuracy = judgement.scores.accuracy
    if not judgement.labelled or accuracy.value is None:
        return ["None of them carries a label, so nobody can say how right the model was; what it did is below."]
    among = "All carry" if judgement.labelled == judgement.rows else f"{judgement.labelled:,} of them carry"
    bounds = f" (95 %: {interval(accuracy)})" if interval(accuracy) else ""
    said = f"{among} a label, and the model agrees with {percent(accuracy.value)} of those{bounds}"
    others = [_against(one) for one in judgement.baselines if one.scores.accuracy.value is not None]
    return [f"{said}." if not others else f"{said}; {' and '.join(others)}."]


def _against(baseline: Baseline) -> str:
    theirs = percent(baseline.scores.accuracy.value)
    where = f" on the first {baseline.scores.rows:,}" if baseline.is_limited else ""
    ours = f", where the model has {percent(baseline.model.accuracy.value)}" if baseline.is_limited else ""
    return f"{called(baseline.name)} gets {theirs}{where}{ours}"


def _sureness(judgement: Judgement) -> list[str]:
    silent = judgement.abstained / judgement.rows
    answered = judgement.answered
    sentence = f"It would not commit itself on {percent(silent)} of the posts"
    if answered.accuracy.value is not None:
        sentence += f"; where it did, it was right {percent(answered.accuracy.value)} of the time"
    sentences = [f"{sentence}."]
    off, by_chance = judgement.calibration.ece_debiased, judgement.calibration.ece_if_perfect.high
    if off is not None:
        measured = judgement.calibration.ece
        as_good = measured is not None and by_chance is not None and measured <= by_chance
        verdict = " which is no more than chance explains" if as_good else " more than chance explains"
        sentences.append(
            f"Its confidence misses its hit rate by {100 * off:.1f} points on average,{verdict}."
            if by_chance is not None
            else f"Its confidence misses its hit rate by {100 * off:.1f} points on average."
        )
    return sentences


def _changes(flags: list[DriftFlag]) -> str:
    if not flags:
        return "Nothing that was watched changed for good on the way."
    told = sorted(flags, key=lambda flag: (flag.signal != "error", flag.signal not in NAMES, flag.at))[0]
    return (
        f"{counted(len(flags), 'lasting change was', 'lasting changes were')} noticed on the way; on {day(told.at)}, "
        f"{called(told.signal)} went from {decimal(told.before)} to {decimal(told.after)}."
    )


def contenders(judgement: Judgement) -> list[tuple[str, Scores, bool]]:
    """(name, scores, whether it is the model), so that each baseline stands beside the model on the same rows."""
    lines = [("Moodstream", judgement.scores, True)]
    for baseline in judgement.baselines:
        if baseline.model.rows != judgement.scores.rows:
            lines.append((f"Moodstream, on the {baseline.model.rows:,} below", baseline.model, True))
        lines.append((called(baseline.name), baseline.scores, False))
    return lines


def plain(text: str, limit: int = 200) -> str:
    """Somebody else's words on one line of a Markdown summary, where they can start nothing."""
    single = " ".join(text.split())[:limit].replace("://", ":\\//")
    return "".join(f"\\{character}" if character in r"`*_[]<>#|~&@!" else character for character in single)
