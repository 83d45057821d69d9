"""Page `Why`: what goes with a change between two windows of a topic, in sentences, figures and posts."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import streamlit as st

from dashboard import choices, connection, filters, frame_words, link, markup, retained, states, telling
from dashboard.errors import InvalidView
from dashboard.filters import Bar, View
from dashboard.markup import Heading, topic_title
from dashboard.queries import Outline
from dashboard.reading import iso
from dashboard.reasons import Reasons
from dashboard.search import floor, level_of, moment, typed
from dashboard.states import REFRESH_S
from dashboard.windows import ALL_TIME, BEFORE, frame
from inference_worker.contract import ALL

Span = tuple[datetime, datetime]
BASE = ("base_from", "base_to")


class Picture(NamedTuple):
    """All the page shows: two windows of a topic, what parts them, and the pictures of it."""

    heading: Heading
    now: Span
    against: str
    found: Reasons
    jpegs: dict[str, bytes]


def page(view: View, outline: Outline) -> None:
    try:
        ranges = own_ranges(view)
    except InvalidView as error:
        states.explain(error)
        return
    topic = next(iter(view.topics), ALL)
    if len(view.topics) > 1:
        st.caption(f"One topic at a time: {filters.inert(topic_title(topic))}, the first of those chosen.")
    live(view, topic, ranges, outline)


def own_ranges(view: View) -> tuple[Span, Span] | None:
    """A range of the link's, and what it is held against: as typed, or the stretch as long before.

    Raises InvalidView.
    """
    if view.start is None or view.end is None:
        return None
    zone = view.reading.zone
    asked = [moment(st.query_params.get(name, "")) for name in BASE]
    with st.container(key="ranges", horizontal=True):
        said = [
            st.text_input(
                f"{title} ({zone})",
                key=choices.recalled(f"why {title} in {zone}", typed(at, zone)),
                max_chars=40,
                placeholder="as long, just before",
            )
            for title, at in zip(("Against, from", "Against, to"), asked, strict=True)
        ]
    start, end = (moment(one, zone) for one in said)
    for name, at in zip(BASE, (start, end), strict=True):
        link.put(name, iso(at) if at else "")
    end = end or view.start
    start = start or end - (view.end - view.start)
    if start >= end:
        raise InvalidView("give the range to compare with as two times, the earlier first")
    return (view.start, view.end), (start, end)


@st.fragment(run_every=max(REFRESH_S, 5.0))
def live(view: View, topic: str, ranges: tuple[Span, Span] | None, known: Outline) -> None:
    picture = states.fresh("why", view, lambda: read(view, topic, ranges), asked=ranges)
    if picture is None:
        return
    states.follow(view.namespace, known)
    found, reading = picture.found, view.reading
    st.html(markup.header(picture.heading, reading, title="Why"))
    st.html(frame_words.against(topic_title(topic), picture.now, picture.against, reading))
    st.html(telling.story(found, topic_title(topic), reading))
    if not found.is_comparable:
        return
    st.html(telling.figures(found, reading))
    left, right = st.columns(2, gap="medium")
    with left:
        note = "share of the posts read that hold it, against the time before; dark is more, pale is less"
        for title, kind in (("Words", "word"), ("Hashtags", "hashtag"), ("Emoji", "emoji")):
            st.html(telling.term_block(title, note, found.of_kind(kind), found.read, reading))
    with right:
        strongest = sorted(found.terms, key=lambda term: -abs(term.z))
        st.html(telling.example_block([term for term in strongest if term.kind != "emoji"][:4], reading))
        if found.pictures:
            st.html(telling.wall(found.pictures, picture.jpegs, found.read, reading))
        if found.reach.top:
            st.html(telling.author_block(found.reach, reading))
        if found.parts:
            st.html(telling.part_block(found.parts, reading))


def read(view: View, topic: str, ranges: tuple[Span, Span] | None) -> Picture:
    """Raises DashboardError."""
    head = connection.head(view.namespace)
    now, before = ranges or placed(view, head.clock)
    if ranges is None and view.window == ALL_TIME:
        against = "its first half"
    elif ranges is None:
        against = BEFORE[view.window]
    else:
        against = " to ".join(map(view.reading.clock_time, before))
    found = retained.reasons(view.namespace, topic, now, before)
    shown = [group.example for group in found.pictures if not group.example.sensitive]
    return Picture(
        heading=Heading(view.namespace, head.meta, head.clock),
        now=now,
        against=against,
        found=found,
        jpegs=retained.pictures(view.namespace, shown),
    )


def placed(view: View, clock: datetime) -> tuple[Span, Span]:
    """The window that ends with the clock, and the one before; of the whole feed, its halves."""
    if view.window == ALL_TIME:
        first = connection.feed(view.namespace).first_post_at()
        half = (clock - first) / 2
        middle = floor(first + half, level_of(half))
        return (middle, frame(view.window, clock, first).end), (first, middle)
    window = frame(view.window, clock)
    assert window.before is not None
    return (window.start, window.end), (window.before, window.start)


states.frame(page, Bar(range=True))
