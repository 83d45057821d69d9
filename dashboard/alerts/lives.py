"""The life of an alert: it opens once, keeps its peak, closes when calm has lasted, then keeps still for a while."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from scipy.special import ndtr

from .baselines import at_minute
from .detectors import Checks
from .history import Alert, Baseline, Check
from .rules import Rule
from .wording import link, sentence

Happening = Literal["opened", "closed"]


class Life(msgspec.Struct):
    """One rule on one topic. calm: minutes in a row below half the threshold; opens_from: end of the cool-down."""

    alert: Alert | None = None
    calm: int = 0
    opens_from: int = 0


class Event(NamedTuple):
    """minute: end of the minute it was noticed at, in minutes since the epoch."""

    minute: int
    happening: Happening
    alert: Alert


def live_through(
    life: Life, rule: Rule, namespace: str, topic: str, looks: list[Checks], first: int
) -> tuple[list[Event], list[Alert]]:
    """Takes one rule and topic through a batch of minutes: what happened, and the alerts that changed, last state."""
    fires = np.array([look.fires for look in looks])
    strengths = np.abs(np.nan_to_num(np.array([look.strength for look in looks])))
    fires_at = np.asarray(fires.any(axis=0))
    calm_at = np.all([look.calm for look in looks], axis=0)
    if life.alert is None and not fires_at.any():
        return [], []
    best = np.where(fires, strengths, -1.0).argmax(axis=0)
    events: list[Event] = []
    changed: dict[str, Alert] = {}
    for index in range(fires.shape[1]):
        end = first + index + 1
        if life.alert is None:
            if fires_at[index] and end >= life.opens_from:
                life.alert = _opened(rule, namespace, topic, looks[best[index]], index, end)
                life.calm = 0
                events.append(Event(end, "opened", life.alert))
                changed[life.alert.id] = life.alert
            continue
        if fires_at[index]:
            life.alert = _grown(life.alert, rule, looks[best[index]], index, end)
        life.calm = life.calm + 1 if calm_at[index] else 0
        if life.calm >= rule.clear_after_min:
            events.append(Event(end, "closed", closed(life, rule, end)))
            changed[events[-1].alert.id] = events[-1].alert
        else:
            changed[life.alert.id] = life.alert
    return events, list(changed.values())


def closed(life: Life, rule: Rule | None, end: int) -> Alert:
    """Ends the life's alert; without a rule (it was removed or switched off) there is no cool-down to keep."""
    assert life.alert is not None
    alert = msgspec.structs.replace(life.alert, closed_at=at_minute(end))
    life.alert, life.calm = None, 0
    life.opens_from = end + rule.cooldown_min if rule is not None else end
    return alert


def _opened(rule: Rule, namespace: str, topic: str, look: Checks, index: int, end: int) -> Alert:
    return Alert(
        id=f"{end}:{rule.name}:{topic}",
        namespace=namespace,
        rule=rule.name,
        kind=rule.kind,
        topic=topic,
        opened_at=at_minute(end),
        updated_at=at_minute(end),
        **_figures(rule, namespace, topic, look, index, end),
    )


def _grown(alert: Alert, rule: Rule, look: Checks, index: int, end: int) -> Alert:
    """The alert one firing minute on: with new figures if this is its peak."""
    if abs(look.strength[index]) <= abs(alert.strength):
        return msgspec.structs.replace(alert, updated_at=at_minute(end))
    figures = _figures(rule, alert.namespace, alert.topic, look, index, end)
    return msgspec.structs.replace(alert, updated_at=at_minute(end), **figures)


def _figures(rule: Rule, namespace: str, topic: str, look: Checks, index: int, end: int) -> dict[str, Any]:
    baselines = tuple(
        Baseline(
            name=name,
            expected=float(expected[index]),
            strength=round(float(strength[index]), 3),
            minutes=int(minutes[index]),
        )
        for name, expected, strength, minutes in look.against
        if not np.isnan(strength[index])
    )
    observed, sample = float(look.observed[index]), int(look.sample[index])
    strength = round(abs(float(look.strength[index])), 3)
    return {
        "peak_at": at_minute(end),
        "window_min": look.window_min,
        "observed": observed,
        "expected": baselines[0].expected,
        "strength": strength,
        "p": float(ndtr(-strength)),
        "direction": "up" if observed > baselines[0].expected else "down",
        "sample": sample,
        "baselines": baselines,
        "sentence": sentence(rule, topic, look.window_min, observed, sample, baselines),
        "link": link(namespace, topic, end, look.window_min),
    }


def last_check(rule: Rule, topic: str, looks: list[Checks], end: int) -> Check:
    """What the rule saw at the batch's last minute, through the window that was surprised most."""
    look = max(looks, key=lambda one: abs(np.nan_to_num(one.strength[-1])))
    unknown = bool(np.isnan(look.strength[-1]))
    return Check(
        rule=rule.name,
        topic=topic,
        at=at_minute(end),
        window_min=look.window_min,
        observed=float(look.observed[-1]),
        expected=None if unknown else float(look.expected[-1]),
        strength=None if unknown else float(look.strength[-1]),
        threshold=rule.threshold,
        sample=int(look.sample[-1]),
    )
