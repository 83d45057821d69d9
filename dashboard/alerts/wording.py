"""An alert in a plain sentence, and the link that shows it."""

from __future__ import annotations

from urllib.parse import urlencode

from dashboard.reading import iso
from inference_worker.contract import ALL

from .baselines import at_minute
from .detectors import LAST_WEEK, PAST_NAME, YESTERDAY
from .history import Baseline
from .rules import Rule


def sentence(
    rule: Rule, topic: str, window_min: int, observed: float, sample: int, baselines: tuple[Baseline, ...]
) -> str:
    """What happened, against what, and what could not be asked."""
    name = "All posts" if topic == ALL else topic
    first = baselines[0]
    if rule.kind == "volume":
        said = f"{name}: {observed:.0f} posts in {window(window_min)}, {first.expected:.1f} expected"
        said += f" ({observed / max(first.expected, 0.1):.1f} times as many)"
    elif rule.kind == "silent":
        said = f"{name}: no post in {window(window_min)}, {first.expected:.0f} expected"
    elif rule.kind == "share":
        said = f"{name}: {100 * observed:.0f} % {rule.of.replace('_', ' ')} in {window(window_min)}"
        said += f", {100 * first.expected:.0f} % expected ({sample} posts)"
    else:
        what = "mood has drifted" if rule.kind == "drift" else "mood"
        turn = "up" if observed > first.expected else "down"
        said = f"{name}: {what} {turn} to {observed:+.2f} from {first.expected:+.2f} ({sample} posts in "
        said += f"{window(window_min)})"
    used = ", ".join(f"{baseline.name}{_cut(baseline)} ({_amount(rule, baseline)})" for baseline in baselines)
    known = {baseline.name for baseline in baselines}
    missing = [] if rule.kind == "drift" else [name for name in (YESTERDAY, LAST_WEEK) if name not in known]
    young = f" No data yet for {' and '.join(missing)}." if missing else ""
    return f"{said}. Checked against {used}.{young}"


def _cut(baseline: Baseline) -> str:
    if baseline.name == PAST_NAME and baseline.minutes < 12 * 60:
        return f", {window(baseline.minutes)} of them known"
    return ""


def _amount(rule: Rule, baseline: Baseline) -> str:
    if rule.kind in ("volume", "silent"):
        return f"{baseline.expected:.1f}"
    return f"{100 * baseline.expected:.0f} %" if rule.kind == "share" else f"{baseline.expected:+.2f}"


def window(minutes: int) -> str:
    """`15 minutes`, `1 hour`, `7 hours`."""
    if minutes % 60 == 0 and minutes >= 60:
        return "1 hour" if minutes == 60 else f"{minutes // 60} hours"
    return "1 minute" if minutes == 1 else f"{minutes} minutes"


def link(namespace: str, topic: str, end: int, window_min: int) -> str:
    """Path into the dashboard: the window with as much again after it, and six times as much before."""
    begin, until = at_minute(end - 7 * window_min), at_minute(end + window_min)
    asked = {"namespace": namespace, "topics": topic, "from": iso(begin), "to": iso(until)}
    return f"/trends?{urlencode(asked)}"
