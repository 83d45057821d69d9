"""Page `Now`: the mood of this moment, how it got here, how sure that is, and the posts behind it."""

from __future__ import annotations

import streamlit as st

from dashboard import cards, charts, connection, filters, markup, states
from dashboard.errors import DashboardError
from dashboard.filters import View
from dashboard.queries import Outline, Snapshot
from inference_worker.contract import ALL

SETTINGS = connection.settings()
TILES_SHOWN = 8
ROWS_SHOWN = 4


def page() -> None:
    with st.container(key="filters", horizontal=True, vertical_alignment="center"):
        namespace = filters.namespace_choice(SETTINGS.namespace)
        outline = states.known_outline(namespace)
        view = None if isinstance(outline, DashboardError) else filters.view_choice(namespace, outline)
    if isinstance(outline, DashboardError):
        wait(namespace, outline)
    elif view is not None:
        live(view, outline)


@st.fragment(run_every=SETTINGS.refresh_s)
def wait(namespace: str, error: DashboardError) -> None:
    """Nothing to show yet: says why, and looks again."""
    outline = states.known_outline(namespace)
    if not isinstance(outline, DashboardError):
        st.rerun()
    states.explain(outline if isinstance(outline, DashboardError) else error)


@st.fragment(run_every=SETTINGS.refresh_s)
def live(view: View, outline: Outline) -> None:
    """All that moves."""
    snapshot = states.latest(view)
    if snapshot is None:
        return
    if (snapshot.meta.kind, snapshot.topics) != (outline.kind, outline.topics):
        st.rerun()
    st.html(markup.header(snapshot))
    topics = list(view.topics) or busiest(snapshot)
    st.html(markup.tiles([snapshot.moods[topic] for topic in topics[:TILES_SHOWN]], snapshot.frame.window))
    st.html(markup.confidence(snapshot))
    course(snapshot, topics[:ROWS_SHOWN])
    cards.posts(cards.held(snapshot))


def busiest(snapshot: Snapshot) -> list[str]:
    """All posts first, then the topics by posts in the window."""
    others = [mood for mood in snapshot.moods.values() if mood.topic != ALL]
    return [ALL, *(mood.topic for mood in sorted(others, key=lambda mood: (-mood.counters.posts, mood.topic)))]


def course(snapshot: Snapshot, topics: list[str]) -> None:
    """How mood and volume got here: a row per topic, on one scale of mood and one of time."""
    st.html(markup.course_head(snapshot.frame.bin_label))
    limit = charts.trend_limit(snapshot.series, topics)
    for row, topic in enumerate(topics):
        name = markup.topic_title(topic)
        left, right = st.columns([3, 2], gap="medium")
        with left:
            st.html(markup.course_topic(name))
            drawn = charts.trend(snapshot.series, topic, limit)
            st.vega_lite_chart(drawn, key=f"trend-{row}", alt=f"Net sentiment over time: {name}")
        with right:
            st.html(markup.course_topic(f"{name} · volume"))
            drawn = charts.volume(snapshot.series, topic)
            st.vega_lite_chart(drawn, key=f"volume-{row}", alt=f"Posts over time by class: {name}")


page()
