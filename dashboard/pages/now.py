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
    course(snapshot, topics)
    st.subheader("Latest posts", anchor=False)
    cards.posts(snapshot)


def busiest(snapshot: Snapshot) -> list[str]:
    """All posts first, then the topics by posts in the window."""
    others = [mood for mood in snapshot.moods.values() if mood.topic != ALL]
    return [ALL, *(mood.topic for mood in sorted(others, key=lambda mood: (-mood.counters.posts, mood.topic)))]


def course(snapshot: Snapshot, topics: list[str]) -> None:
    """How the mood and the volume got here."""
    colors = charts.topic_colors(snapshot.topics)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        st.subheader(f"Mood {snapshot.frame.bin_label}", anchor=False)
        drawn = charts.trend(snapshot.series, topics[: charts.LINES_SHOWN], colors)
        st.altair_chart(drawn, key="trend", alt="Net sentiment over time, with its 95 % interval")
    with right:
        st.subheader(f"Volume {snapshot.frame.bin_label}", anchor=False)
        drawn = charts.volume(snapshot.series, topics[0])
        st.altair_chart(drawn, key="volume", alt="Posts over time, stacked by class")


page()
