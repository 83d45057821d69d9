"""What the page Topics says → HTML for `st.html`; everything is escaped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Final

from . import evidence
from .highlights import visible
from .markup import counted, notice, sampled
from .queries import Mood
from .reading import PLAIN, Reading
from .topic_editing import BACKFILLED, Edited, Preview, Progress

Wanted = Callable[[], list[tuple[str, str]]]
"""The definitions as they are to be."""
_EXAMPLES: Final = 6
_GRAMMAR: Final = 'word "a phrase" "two words"~3 #tag @mention lang:en has:images OR -not ( )'


def listed(edited: Edited, moods: Mapping[str, Mood], reading: Reading = PLAIN) -> str:
    """The topics of the file with what they gathered in a day, then those that are in results alone."""
    if edited.error:
        return notice("The topics cannot be read", [edited.error], tone="alarm")
    rows = [
        _row(name, f"<code>{visible(query)}</code>", moods.get(name), reading) for name, query in edited.definitions
    ]
    known = edited.queries
    rows += [
        _row(name, "<code>not in the file any more, or of another feed</code>", mood, reading)
        for name, mood in moods.items()
        if name not in known and name != "all"
    ]
    note = ", as shipped: the first edit makes your own of it" if edited.is_shipped else ""
    where = f"{visible(edited.path.name)}{note} · volume and mood of the last 24 h"
    return f'<section class="ms-block"><h3>What is watched</h3><p>{where}</p>{"".join(rows)}</section>'


def _row(name: str, query: str, mood: Mood | None, reading: Reading) -> str:
    volume = "no post yet"
    if mood is not None and mood.net is not None:
        posts = sampled(mood.counters, reading) or counted(mood.counters.posts, "post", reading)
        volume = f"{posts}, {reading.signed(mood.net.mean)}"
    return f'<div class="ms-topic-row"><b dir="auto">{visible(name)}</b>{query}<span>{volume}</span></div>'


def grammar() -> str:
    return f'<p class="ms-key">{escape(_GRAMMAR)}</p>'


def reading_only() -> str:
    return '<p class="ms-key">You can try queries here; saving them is for editors.</p>'


def nothing_tried() -> str:
    return '<p class="ms-found">Write a query: what it finds among retained posts shows here before it is saved.</p>'


def tried(found: Preview, reading: Reading = PLAIN) -> str:
    """How much matches, and what could not be told."""
    share = reading.percent(len(found.matching), found.read)
    said = (
        f'<p class="ms-found"><b>{reading.number(len(found.matching))}</b> of the newest {reading.number(found.read)} '
        f"retained posts match ({share})</p>"
    )
    if not found.untold:
        return said
    asked = escape(", ".join(found.untold))
    return f'{said}<p class="ms-key">{asked} cannot be told for posts already scored: there it matches none.</p>'


def examples(found: Preview, reading: Reading = PLAIN) -> str:
    rows = "".join(evidence.quote(post, reading) for post in found.matching[:_EXAMPLES])
    return f'<ul class="ms-quotes">{rows}</ul>' if rows else ""


def about_backfill(edited: Edited, reading: Reading = PLAIN) -> str:
    return (
        '<h2 class="ms-section">Apply to what is kept</h2><p class="ms-found">New posts follow the file by themselves. '
        f"This moves posts already scored, the newest {reading.number(BACKFILLED)} at most, into the "
        f"{len(edited.definitions)} topics above; doing it twice moves nothing. Topics that ask for authors, links or "
        "replies keep what they have.</p>"
    )


def going(progress: Progress, reading: Reading = PLAIN) -> str:
    return f"{reading.number(progress.looked_at)} posts looked at, {reading.number(progress.moved)} moved"


def backfilled(progress: Progress, reading: Reading = PLAIN) -> str:
    rest = "" if progress.is_done else " Older posts were left as they are."
    return (
        f'<p class="ms-found" role="status"><b>{reading.number(progress.moved)}</b> '
        f"of {reading.number(progress.looked_at)} posts moved.{rest}</p>"
    )


def stopped(reason: str) -> str:
    return notice("The backfill stopped", [reason, "What was moved stays moved; starting again goes on."], tone="alarm")
