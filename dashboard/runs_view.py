"""Replays as the page Runs shows them: HTML of what `runs` and evaluation say. Names in it are escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from dashboard.evaluation.comparison import Comparison, Disagreement
from dashboard.evaluation.judgement import BadJudgement, Judgement, Scores, read_judgement
from dashboard.report import words
from dashboard.report.comparison import verdict
from dashboard.runs import JUDGEMENT_FILE, Entry

RUNS_SHOWN: Final = 200


def judgement(entry: Entry) -> Judgement | None:
    """None while there is none, and of one that cannot be read."""
    try:
        return read_judgement(entry.folder / JUDGEMENT_FILE) if entry.judged_ns else None
    except BadJudgement:
        return None


def table(rows: Sequence[tuple[Entry, Judgement | None]], chosen: Sequence[str], broken: int) -> str:
    """All runs, one a line; the chosen ones are marked."""
    head = "".join(f'<th class="{kind}">{name}</th>' for name, kind in _COLUMNS)
    body = "".join(_row(entry, judged, entry.name in chosen) for entry, judged in rows)
    passed = (
        f'<p class="ms-quiet">{words.counted(broken, "folder")} passed over: no readable run.json.</p>'
        if broken
        else ""
    )
    return f"{_framed(head, body)}{passed}"


_COLUMNS: Final = (
    ("Run", ""),
    ("Archive", ""),
    ("Model", ""),
    ("Status", ""),
    ("Posts", "ms-number"),
    ("Accuracy", "ms-number"),
    ("Macro F1", "ms-number"),
    ("Answered", "ms-number"),
    ("Began (UTC)", "ms-number"),
)


def _row(entry: Entry, judged: Judgement | None, is_chosen: bool) -> str:
    run = entry.run
    figures = (
        words.whole(judged.rows if judged else run.settled),
        words.percent(judged.scores.accuracy.value if judged else None),
        words.percent(judged.scores.macro_f1.value if judged else None),
        words.percent(judged.answered.coverage if judged else None),
        words.brief(run.started_at),
    )
    cells = "".join(f'<td class="ms-number">{figure}</td>' for figure in figures)
    return (
        f"<tr{' class=ms-chosen' if is_chosen else ''}><th><bdi>{escape(entry.name)}</bdi></th>"
        f"<td><bdi>{escape(words.title(run))}</bdi></td><td><bdi>{escape(run.model) or words.DASH}</bdi></td>"
        f"<td>{_status(entry)}</td>{cells}</tr>"
    )


def _status(entry: Entry) -> str:
    badge = f'<span class="ms-state ms-{escape(entry.status)}">{escape(entry.status)}</span>'
    run = entry.run
    if entry.status not in ("running", "paused") or not run.expected:
        return badge
    share = min(run.settled / run.expected, 1.0)
    return f'{badge}<div class="ms-progress" title="{share:.0%}"><i style="width:{100 * share:.1f}%"></i></div>'


def head(entry: Entry) -> str:
    """Name and circumstances of the run looked at."""
    run = entry.run
    facts = [words.title(run), run.model, words.moment(run.started_at)]
    error = f'<p class="ms-error">{escape(run.error)}</p>' if run.error else ""
    return (
        f'<div class="ms-header"><span class="ms-namespace"><bdi>{escape(entry.name)}</bdi></span>'
        f'<span class="ms-source"><bdi>{escape(" · ".join(fact for fact in facts if fact))}</bdi></span>'
        f"{_status(entry)}</div>{error}"
    )


def story(paragraphs: Sequence[str]) -> str:
    return "".join(f'<p class="ms-story">{escape(paragraph)}</p>' for paragraph in paragraphs)


def tiles(judged: Judgement) -> str:
    """The figures that matter most, with what they rest on."""
    scores, answered, calibration = judged.scores, judged.answered, judged.calibration
    shown = [
        ("Accuracy", words.percent(scores.accuracy.value), words.interval(scores.accuracy) or "no labels"),
        ("Macro F1", words.percent(scores.macro_f1.value), words.interval(scores.macro_f1) or "no labels"),
        ("Answered", words.percent(answered.coverage), f"{words.percent(answered.accuracy.value)} right among them"),
        ("Calibration error", words.percent(calibration.ece_debiased), "debiased"),
        ("Throughput", words.whole(judged.performance.throughput_posts_per_s), "posts a second"),
    ]
    return _tiles(shown)


def _tiles(shown: Sequence[tuple[str, str, str]]) -> str:
    cells = "".join(
        f'<section class="ms-tile"><h3 class="ms-topic">{name}</h3><span class="ms-value ms-positive">{value}</span>'
        f'<p class="ms-quiet">{note}</p></section>'
        for name, value, note in shown
    )
    return f'<div class="ms-tiles ms-few">{cells}</div>'


def contenders(judged: Judgement) -> str:
    """The model beside the baselines, on the same rows."""
    head = "".join(f'<th class="ms-number">{name}</th>' for name in ("Posts", "Accuracy", "Macro F1"))
    body = "".join(_contender(name, one, is_ours) for name, one, is_ours in words.contenders(judged))
    return _framed(f"<th>On the same posts</th>{head}", body)


def _contender(name: str, scores: Scores, is_ours: bool) -> str:
    figures = (
        words.whole(scores.rows),
        *(
            f"{words.percent(one.value)} <small>{words.interval(one)}</small>"
            for one in (scores.accuracy, scores.macro_f1)
        ),
    )
    cells = "".join(f'<td class="ms-number">{figure}</td>' for figure in figures)
    return f"<tr{' class=ms-chosen' if is_ours else ''}><th>{escape(name)}</th>{cells}</tr>"


def _framed(head: str, body: str) -> str:
    """A table that scrolls sideways in its own place where that is too narrow."""
    return (
        f'<div class="ms-scroll"><table class="ms-runs"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def curve_key(names: Sequence[str], has_flags: bool) -> str:
    keys = "".join(
        f'<span class="ms-series-{place}">{escape(words.called(name))}</span>' for place, name in enumerate(names, 1)
    )
    flag = '<span class="ms-flagged">lasting change noticed</span>' if has_flags else ""
    return f'<div class="ms-curves">{keys}{flag}</div>'


def compared(found: Comparison, names: tuple[str, str]) -> str:
    """The verdict in words, and the figures it rests on."""
    accuracy, macro_f1 = found.accuracy_difference, found.macro_f1_difference
    shown = [
        (
            "Accuracy",
            words.points(accuracy.value),
            f"points; {words.points(accuracy.low)} to {words.points(accuracy.high)}",
        ),
        (
            "Macro F1",
            words.points(macro_f1.value),
            f"points; {words.points(macro_f1.low)} to {words.points(macro_f1.high)}",
        ),
        ("McNemar’s test", f"p = {found.mcnemar.p_value:.2g}", "exact, paired"),
        ("Disagree on", words.whole(found.disagreeing), f"of {words.whole(found.shared)} labelled posts"),
    ]
    title = f"{names[0]} and {names[1]}"
    note = f"Differences are {names[1]} minus {names[0]}; 95 % intervals from a paired bootstrap over posts."
    return (
        f'<div class="ms-header"><span class="ms-namespace"><bdi>{escape(title)}</bdi></span></div>'
        f'{story([verdict(found, names)])}{_tiles(shown)}<p class="ms-quiet">{escape(note)}</p>'
    )


def disagreement(post: Disagreement, names: tuple[str, str]) -> str:
    """Who called a post what, and what its label is."""
    calls = "".join(
        f'<span>{escape(name)}</span><span class="ms-class ms-{escape(called)}">{escape(called)}</span>'
        for name, called in zip(names, (post.first, post.second), strict=True)
    )
    return f'<div class="ms-card-head">{calls}<time>hand label: {escape(post.label)}</time></div>'
