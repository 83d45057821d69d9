"""The closed minutes of a namespace, in order, each once: rollups and a state in → events and the next state out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import msgspec

from inference_worker.contract import ALL, Meta, Results

from .baselines import DAY, at_minute, first_minute, minute_of, read_minutes
from .detectors import check
from .history import Alert, Check, mute_field
from .lives import Event, Life, closed, last_check, live_through
from .rules import Rule

BATCH_MIN: Final = DAY
"""Minutes evaluated at once while catching up."""
FIRST_PASS: Final = timedelta(seconds=45)
"""Workers score by length, not by time: until all of it is there, no minute of it is whole."""
_SETTLED_MIN: Final = 30
"""Posts may come out of order: so long a topic may turn out to have begun earlier than it seemed."""
_TOPICS_AT_ONCE: Final = 10
_FIRST_LOOK_BACK: Final = DAY
"""A live namespace that was never evaluated is so from a day ago: older news alerts nobody."""
_EXAMPLES: Final = 3
_EXAMPLES_READ: Final = 60


class State(msgspec.Struct):
    """How far a namespace was evaluated. next_minute: the first one that was not; starts: topics' first minutes."""

    next_minute: int
    starts: dict[str, int] = {}
    lives: dict[str, Life] = {}


@dataclass(kw_only=True)
class Outcome:
    """What a batch led to: events in order, alerts in their last state, and what each rule saw last."""

    events: list[Event] = field(default_factory=list)
    changed: list[Alert] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)


def closed_until(clock: datetime, grace_s: float) -> int:
    """The first minute that has not closed yet."""
    return minute_of(clock - timedelta(seconds=grace_s))


def clock_of(results: Results, meta: Meta, now: datetime, quiet_after_s: float) -> datetime | None:
    """The namespace's clock. A live one goes on when nobody posts, some minutes behind the wall's: silence is news.

    None before the first post, and while a sample feed's first pass, which comes at once, may still be in the worker.
    """
    if meta.kind == "sample" and meta.created_at is not None and now - meta.created_at < FIRST_PASS:
        return None
    clock = results.watermark()
    if clock is None or meta.kind == "replay":
        return clock
    return max(clock, now - timedelta(seconds=quiet_after_s))


def first_state(results: Results, meta: Meta, clock: datetime) -> State | None:
    """Where evaluation begins; None before the first post."""
    start = _start(results, meta, ALL, clock)
    if start is None:
        return None
    if meta.kind != "replay":
        start = max(start, minute_of(clock) - _FIRST_LOOK_BACK)
    return State(next_minute=start)


def evaluate(results: Results, rules: Sequence[Rule], state: State, last: int) -> Outcome:
    """Takes `state` through the closed minutes before `last`; at most BATCH_MIN of them a call."""
    first, last = state.next_minute, min(last, state.next_minute + BATCH_MIN)
    outcome = Outcome()
    if last <= first:
        return outcome
    known = results.topics()
    _forget_rules(state, rules, known, first, outcome)
    meta = results.meta()
    watching = [rule for rule in rules if rule.enabled]
    watched = sorted({topic for rule in watching for topic in rule.watched(known)})
    for topic in watched:
        is_settled = first - state.starts.get(topic, first) > _SETTLED_MIN
        if not is_settled and (start := _start(results, meta, topic, at_minute(last))) is not None:
            state.starts[topic] = min(start, state.starts.get(topic, start))
    begun = [topic for topic in watched if state.starts.get(topic, last) < last]
    for low in range(0, len(begun), _TOPICS_AT_ONCE):
        some = begun[low : low + _TOPICS_AT_ONCE]
        minutes = read_minutes(results, some, first, last, state.starts)
        for rule in watching:
            for topic in set(some).intersection(rule.watched(known)):
                looks = check(rule, minutes[topic], first, last)
                life = state.lives.setdefault(mute_field(rule.name, topic), Life())
                events, changed = live_through(life, rule, results.namespace, topic, looks, first)
                outcome.events += events
                outcome.changed += changed
                outcome.checks.append(last_check(rule, topic, looks, last))
    _add_examples(results, state, outcome)
    outcome.events.sort(key=lambda event: (event.minute, event.alert.id))
    state.next_minute = last
    return outcome


def backtest(
    results: Results, rules: Sequence[Rule], start: datetime, end: datetime, *, grace_s: float = 0.0
) -> list[Alert]:
    """The alerts these rules would have opened between two times, over what is retained; nothing is written."""
    meta = results.meta()
    clock = results.watermark()
    if clock is None or (state := first_state(results, meta, clock)) is None:
        return []
    state.next_minute = max(minute_of(start), _start(results, meta, ALL, clock) or 0)
    last = min(minute_of(end), closed_until(clock, grace_s))
    found: dict[str, Alert] = {}
    while state.next_minute < last:
        for alert in evaluate(results, rules, state, last).changed:
            found[alert.id] = alert
    return sorted(found.values(), key=lambda alert: (alert.opened_at, alert.id))


def _start(results: Results, meta: Meta, topic: str, clock: datetime) -> int | None:
    """A topic's first minute. Live, posts older than the namespace are stragglers: nobody listened then.

    The sample feed begins with the ten minutes just gone, all of them.
    """
    start = first_minute(results, topic, clock)
    if start is None or meta.kind != "live" or meta.created_at is None:
        return start
    return max(start, minute_of(meta.created_at))


def _forget_rules(state: State, rules: Sequence[Rule], known: Sequence[str], first: int, outcome: Outcome) -> None:
    """Closes what no rule watches any more: the rule or its topic was taken out, or switched off."""
    kept = {mute_field(rule.name, topic) for rule in rules if rule.enabled for topic in rule.watched(known)}
    for name in [name for name in state.lives if name not in kept]:
        life = state.lives.pop(name)
        if life.alert is not None:
            outcome.events.append(Event(first, "closed", closed(life, None, first)))
            outcome.changed.append(outcome.events[-1].alert)


def _add_examples(results: Results, state: State, outcome: Outcome) -> None:
    """Ids of posts that show what an opening alert is about."""
    examples: dict[str, tuple[str, ...]] = {}
    for event in outcome.events:
        if event.happening == "opened":
            examples[event.alert.id] = _examples(results, event.alert)
    outcome.events = [
        event._replace(alert=_with(event.alert, examples.get(event.alert.id))) for event in outcome.events
    ]
    outcome.changed = [_with(alert, examples.get(alert.id)) for alert in outcome.changed]
    for life in state.lives.values():
        if life.alert is not None:
            life.alert = _with(life.alert, examples.get(life.alert.id))


def _with(alert: Alert, examples: tuple[str, ...] | None) -> Alert:
    return alert if examples is None else msgspec.structs.replace(alert, examples=examples)


def _examples(results: Results, alert: Alert) -> tuple[str, ...]:
    """The posts furthest to the alert's side where it is about mood, else the newest, of the window it opened on."""
    if alert.kind == "silent":
        return ()
    start = alert.opened_at - timedelta(minutes=alert.window_min)
    posts = results.posts(alert.topic, start, alert.opened_at, limit=_EXAMPLES_READ)
    if alert.kind in ("sentiment", "drift"):
        posts.sort(key=lambda post: post.score, reverse=alert.direction == "up")
    return tuple(post.id for post in posts[:_EXAMPLES])
