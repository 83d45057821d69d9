"""Page `Now`: the mood of this moment, how it got here, how sure that is, and the posts and pictures behind it."""

from __future__ import annotations

import streamlit as st

from dashboard import alert_strip, cards, connection, export, markup, states, tiles, wall
from dashboard.filters import View
from dashboard.queries import Outline, Snapshot
from dashboard.states import REFRESH_S


def page(view: View, outline: Outline) -> None:
    live(view, outline)
    wall.pictures(view)
    latest(view)


@st.fragment(run_every=REFRESH_S)
def live(view: View, outline: Outline) -> None:
    """All that moves."""
    snapshot = states.latest(view)
    if snapshot is None:
        return
    states.follow(view.namespace, outline)
    st.html(tiles.now(snapshot, view.reading, alert_strip.drawn(view)))
    course(snapshot, view)


@st.fragment(run_every=REFRESH_S)
def latest(view: View) -> None:
    """The posts that came last."""
    snapshot = states.latest(view, has_banner=False)
    if snapshot is not None:
        cards.posts(cards.held(snapshot), view.reading)


def course(snapshot: Snapshot, view: View) -> None:
    """How mood and volume got here: a row per topic, on one scale of mood and one of time."""
    reading = view.reading
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.html(markup.course_head(markup.per_bin(snapshot.frame, reading), reading))
        export.csv(lambda: snapshot.series, f"{snapshot.namespace}-now", key="csv-now")
    for row, drawn in enumerate(connection.courses(snapshot, reading)):
        name = markup.topic_title(drawn.topic)
        left, right = st.columns([3, 2], gap="medium")
        with left:
            st.html(markup.course_topic(name))
            st.vega_lite_chart(drawn.trend, key=f"trend-{row}", alt=f"Net sentiment over time: {name}")
        with right:
            st.html(markup.course_topic(f"{name} · volume"))
            st.vega_lite_chart(drawn.volume, key=f"volume-{row}", alt=f"Posts over time by class: {name}")


states.frame(page)
