"""Alerts and rules → HTML for `st.html`; names and sentences enter it escaped, and no post's text at all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from html import escape
from typing import Final

from dashboard.markup import topic_title
from dashboard.reading import PLAIN, Reading, duration

from .history import Alert, Check, mute_field
from .rules import Rule
from .wording import window

KINDS = {
    "volume": "Volume",
    "sentiment": "Mood",
    "share": "Share",
    "silent": "Silence",
    "drift": "Drift",
}
_LATE: Final = timedelta(minutes=3)


def brief(one: Alert, reading: Reading = PLAIN) -> str:
    """An alert in a few words, for a strip of them: what, how much, and how much was expected."""
    expected = _amount(one.kind, one.expected, reading)
    what = f"{_amount(one.kind, one.observed, reading)} {_unit(one)}, {expected} expected"
    return f"{topic_title(one.topic)}: {what}, since {reading.at(one.opened_at):%H:%M}"


def progress(active: Sequence[Alert], clock: datetime, evaluated: datetime | None, reading: Reading = PLAIN) -> str:
    """How many alerts there are now, and how far the service has come."""
    count = len(active)
    if count:
        badge = f'<span class="ms-badge ms-alarmed">{count} active</span>'
    elif evaluated:
        badge = '<span class="ms-badge ms-live">All quiet</span>'
    else:
        badge = '<span class="ms-badge ms-stale">Nobody is watching</span>'
    said = "nothing evaluated yet"
    if evaluated is not None:
        behind = clock - evaluated
        lag = f", {duration(behind)} behind the feed" if behind > _LATE else ""
        said = f"evaluated up to {reading.clock_time(evaluated)}{lag}"
    return f'<p class="ms-progress-line">{badge}<span>{said}</span></p>'


def alert(one: Alert, reading: Reading = PLAIN) -> str:
    """An alert as a card: what, how strong, since when, against what."""
    state = "ms-active" if one.is_active else "ms-past"
    until = f"until {reading.clock_time(one.closed_at)}" if one.closed_at else "still going on"
    seen = f" · seen by {escape(one.acknowledged_by)}" if one.acknowledged_by else ""
    bases = "".join(
        f"<li><b>{escape(_amount(one.kind, base.expected, reading))}</b> {escape(base.name)}"
        f"{_strength(one.kind, base.strength, reading)}</li>"
        for base in one.baselines
    )
    return (
        f'<article class="ms-alert {state} ms-{one.direction}">'
        f'<div class="ms-alert-head"><span class="ms-kind">{escape(KINDS.get(one.kind, one.kind))}</span>'
        f"<h3>{escape(topic_title(one.topic))}</h3>"
        f"<time>{reading.clock_time(one.opened_at)}</time></div>"
        f'<div class="ms-alert-body"><div class="ms-alert-figure">'
        f"<b>{escape(_amount(one.kind, one.observed, reading))}</b><small>{escape(_unit(one))}</small></div>"
        f'<ul class="ms-bases">{bases}</ul>{_gauge(one, reading)}</div>'
        f"<p>{escape(one.sentence)}</p>"
        f'<p class="ms-quiet">{escape(one.rule)} · {until}{seen}</p></article>'
    )


def _gauge(one: Alert, reading: Reading) -> str:
    if one.strength <= 0:
        return ""
    width = min(100 * one.strength / 10, 100)
    return (
        f'<div class="ms-gauge" title="standard deviations from what was expected"><span><i style="width:{width:.0f}%">'
        f"</i></span><small>anomaly strength <b>{reading.number(one.strength, 1)}</b></small></div>"
    )


def _amount(kind: str, value: float, reading: Reading) -> str:
    if kind in ("volume", "silent"):
        return reading.compact(value) if value >= 10 or value == int(value) else reading.number(value, 1)
    return f"{reading.number(100 * value)} %" if kind == "share" else reading.signed(value)


def _unit(one: Alert) -> str:
    is_count = one.kind in ("volume", "silent")
    one_post = is_count and one.observed == 1
    what = ("post" if one_post else "posts") if is_count else "of posts" if one.kind == "share" else "net sentiment"
    return f"{what} in {window(one.window_min)}"


def _strength(kind: str, strength: float, reading: Reading) -> str:
    return f" <small>{reading.number(abs(strength), 1)} sd away</small>" if strength and kind != "silent" else ""


def row(one: Alert, reading: Reading = PLAIN) -> str:
    """A line of the history."""
    closed = f"{duration(one.closed_at - one.opened_at)}" if one.closed_at else "open"
    return (
        f"<tr><td><time>{reading.clock_time(one.opened_at)}</time></td><td>{escape(topic_title(one.topic))}</td>"
        f"<td>{escape(one.rule)}</td><td class='ms-what'>{escape(one.sentence)}</td>"
        f"<td class='ms-n' data-name='strength'>{reading.number(one.strength, 1)}</td>"
        f"<td class='ms-n' data-name='lasted'>{closed}</td></tr>"
    )


def history(found: Sequence[Alert], reading: Reading = PLAIN) -> str:
    head = "<tr><th>Opened</th><th>Topic</th><th>Rule</th><th>What</th><th>Strength</th><th>Lasted</th></tr>"
    rows = "".join(row(one, reading) for one in found)
    return f'<table class="ms-list ms-history"><thead>{head}</thead><tbody>{rows}</tbody></table>'


def rules(known: Sequence[Rule], checks: Sequence[Check], muted: dict[str, datetime], reading: Reading = PLAIN) -> str:
    """Each rule with what it sees of each topic now."""
    cells = [_rule(rule, [one for one in checks if one.rule == rule.name], muted, reading) for rule in known]
    return f'<div class="ms-rules">{"".join(cells)}</div>'


def _rule(rule: Rule, checks: Sequence[Check], muted: dict[str, datetime], reading: Reading) -> str:
    state = "" if rule.enabled else '<span class="ms-flag">off</span>'
    topics = "every topic" if rule.topics == "*" else ", ".join(map(topic_title, rule.topics))
    windows = ", ".join(window(minutes) for minutes in rule.windows_min)
    told = [one for one in checks if _quiet(rule, one) is None]
    rows = "".join(_check(rule, one, muted.get(mute_field(one.rule, one.topic)), reading) for one in told)
    titles = "<tr><th>Topic</th><th>Now</th><th>Expected</th><th>Strength</th></tr>"
    table = f'<table class="ms-list ms-seen">{titles}{rows}</table>' if told else ""
    return (
        f'<section class="ms-tile ms-rule"><h3 class="ms-topic">{escape(rule.name)} {state}</h3>'
        f'<p class="ms-quiet">{escape(KINDS[rule.kind])} · {escape(topics)} · over {escape(windows)} · '
        f"cool-down {escape(window(rule.cooldown_min))} · to {escape(', '.join(rule.sinks) or 'nobody')}</p>"
        f"{table}{_untold(rule, checks)}</section>"
    )


def _quiet(rule: Rule, one: Check) -> str | None:
    """Why a rule has nothing to say of a topic; None if it has."""
    if one.expected is None or one.strength is None:
        return "too young or too thin for a baseline"
    return "no change found" if rule.kind == "drift" and one.strength == 0 else None


def _untold(rule: Rule, checks: Sequence[Check]) -> str:
    """The topics a rule has nothing to say of, by the reason."""
    if not checks:
        return '<p class="ms-quiet">not evaluated yet</p>'
    reasons: dict[str, list[str]] = {}
    for one in checks:
        if (reason := _quiet(rule, one)) is not None:
            reasons.setdefault(reason, []).append(topic_title(one.topic))
    return "".join(
        f'<p class="ms-untold">{escape(", ".join(names))}: <span class="ms-quiet">{reason}</span></p>'
        for reason, names in reasons.items()
    )


def _check(rule: Rule, one: Check, muted_until: datetime | None, reading: Reading) -> str:
    quiet = f' <span class="ms-flag">muted until {reading.clock_time(muted_until)}</span>' if muted_until else ""
    expected, strength = one.expected or 0.0, abs(one.strength or 0.0)
    share = min(100 * strength / one.threshold, 100)
    return (
        f"<tr><td>{escape(topic_title(one.topic))}{quiet}</td>"
        f"<td class='ms-n'>{escape(_amount(rule.kind, one.observed, reading))} "
        f"<small>in {window(one.window_min)}</small></td>"
        f"<td class='ms-n'>{escape(_amount(rule.kind, expected, reading))}</td>"
        f"<td class='ms-n'><span class='ms-fill'><i style='width:{share:.0f}%'></i></span>"
        f"{reading.number(strength, 1)} <small>of {reading.number(one.threshold, 1)}</small></td></tr>"
    )
