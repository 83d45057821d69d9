"""What the pages Posts, Why and Topics say about what they show → HTML for `st.html`; everything is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from inference_worker.amendments import Correction

from .highlights import visible
from .markup import notice, sampled
from .reading import PLAIN, Reading
from .search import Stretch

_BESIDE: Final = 48


def against(topic: str, span: tuple[datetime, datetime], other: str, reading: Reading = PLAIN) -> str:
    """Which windows are compared."""
    return (
        f'<p class="ms-found"><b>{visible(topic)}</b> from {reading.clock_time(span[0])} to '
        f"{reading.clock_time(span[1])}, against {visible(other)}</p>"
    )


def found(of_range: Stretch, matching: int, reading: Reading = PLAIN) -> str:
    """How many posts answer, of how many looked at, and which were not."""
    read = len(of_range.posts)
    said = f"<b>{reading.number(matching)}</b> of {reading.number(read)} posts match"
    if of_range.left_out:
        said += f" · the newest {reading.number(read)} were looked at, older ones since "
        said += f"{reading.clock_time(of_range.start)} were not"
    elif of_range.scored > read:
        said += f" · {reading.number(of_range.scored - read)} more were scored there and are no longer kept"
    if told := sampled(of_range.counters, reading):
        said += f" · of the range: {told}"
    return f'<p class="ms-found">{said}</p>'


def nothing(of_range: Stretch, reading: Reading = PLAIN) -> str:
    """No post answers."""
    if not of_range.posts:
        return notice("No post is kept of this range", ["Texts are kept for a while only; counts stay longer."])
    return notice("No post matches", [f"{reading.number(len(of_range.posts))} posts were looked at. Ask for less."])


def gone(post_id: str) -> str:
    return notice("This post is not kept", [f"{post_id[:200]} is unknown, deleted, or past its retention."])


def caret(problem: str, query: str, column: int | None) -> str:
    """What is wrong with a query, with the place marked."""
    said = notice("These words cannot be read", [f"{problem}." if column is None else f"Column {column}: {problem}."])
    if column is None:
        return said
    place = min(max(column - 1, 0), len(query))
    before, after = query[max(0, place - _BESIDE) : place], query[place + 1 : place + 1 + _BESIDE]
    at = query[place : place + 1] or " "
    shown = f"{visible(before)}<b>{visible(at)}</b>{visible(after)}"
    return f'{said}<pre class="ms-caret">{shown}\n{" " * len(before)}<b>^</b></pre>'


def history(steps: Sequence[Correction], reading: Reading = PLAIN) -> str:
    """Who said what of which post, and when."""
    rows = "".join(
        f'<li class="ms-quote"><span class="ms-dot ms-{step.label or "neutral"}"></span><span>'
        f"<b>{step.label or 'taken back'}</b> by {visible(step.by)}; the model said {step.predicted} "
        f"({reading.number(100 * step.confidence)} %) · {visible(step.post_id)}</span>"
        f"<time>{reading.clock_time(step.at)}</time></li>"
        for step in steps
    )
    return f'<ul class="ms-quotes">{rows}</ul>'
