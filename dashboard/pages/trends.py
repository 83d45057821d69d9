"""Page `Trends`: how mood and volume went over any stretch of time, topic against topic, and the way to the posts."""

from __future__ import annotations

import streamlit as st

from dashboard import charts, connection, export, markup, states, trend_charts
from dashboard.filters import Bar, View
from dashboard.queries import Outline
from dashboard.reading import Reading
from dashboard.states import REFRESH_S
from dashboard.trends import Trends, share_of_voice


def page(view: View, outline: Outline) -> None:
    st.session_state.pop(states.CAME_FROM, None)
    live(view, outline)


@st.fragment(run_every=2 * REFRESH_S)
def live(view: View, outline: Outline) -> None:
    found = states.fresh(
        "trends",
        view,
        lambda: connection.trend(view.namespace, view.window, view.topics, view.start, view.end, view.reading.zone),
    )
    if found is None:
        return
    states.follow(view.namespace, outline)
    st.html(
        markup.header(found, view.reading, title="Trends") + markup.sampling(found.totals[found.lead], view.reading)
    )
    mood(found, view)
    left, right = st.columns(2, gap="large")
    with left:
        parts(found, view)
        voice(found, view.reading)
    with right:
        modalities(found, view.reading)
        rates(found, view.reading)


def mood(found: Trends, view: View) -> None:
    """The topics compared: mood above, volume below, on one scale of time; a click leads to the posts."""
    limit = charts.trend_limit(found.series, found.compared)
    drawn = trend_charts.compared(found.series, found.compared, limit, found.events, view.reading)
    per = markup.per_bin(found.frame, view.reading)
    head = markup.section("Mood", f"net sentiment {per}; click a point for its posts")
    st.html(head + markup.left_out(len(found.compared), found.left_out))
    clicked("mood", drawn, "Net sentiment over time, by topic", view)
    takes(found, drawn, "mood")
    drawn = trend_charts.volumes(found.series, found.compared, found.events, view.reading)
    st.html(markup.section("Volume", f"posts {per}"))
    clicked("volume", drawn, "Posts over time, by topic", view)


def parts(found: Trends, view: View) -> None:
    name = markup.topic_title(found.lead)
    st.html(markup.section("Classes", f"{name}: shares {markup.per_bin(found.frame, view.reading)}"))
    drawn = trend_charts.classes(found.series, found.lead, view.reading, shares=True)
    clicked("classes", drawn, f"Shares of the classes over time: {name}", view)


def voice(found: Trends, reading: Reading) -> None:
    rows = share_of_voice(found)
    st.html(markup.section("Share of voice", "of the posts of the topics compared, parted by class"))
    st.vega_lite_chart(trend_charts.voice(rows, reading), key="voice", alt="Share of voice by topic and class")


def modalities(found: Trends, reading: Reading) -> None:
    name = markup.topic_title(found.lead)
    st.html(markup.section("Text against image", f"{name}: what each says alone, and both fused"))
    limit = charts.trend_limit(found.modalities.assign(topic=found.lead), [found.lead])
    drawn = trend_charts.modalities(found.modalities, limit, reading)
    st.vega_lite_chart(drawn, key="modalities", alt=f"Net sentiment of text, image and both over time: {name}")


def rates(found: Trends, reading: Reading) -> None:
    name = markup.topic_title(found.lead)
    st.html(markup.section("Doubt", f"{name}: how often the model abstains, and text and picture disagree"))
    drawn = trend_charts.rates(found.rates, reading)
    st.vega_lite_chart(drawn, key="rates", alt=f"Share abstained and share in disagreement over time: {name}")


def clicked(name: str, drawn: charts.Spec, alt: str, view: View) -> None:
    """A chart; a point chosen on it opens the posts of its topic and time."""
    chosen = st.vega_lite_chart(drawn, key=f"chart-{name}", alt=alt, on_select="rerun")
    point = trend_charts.point_of(dict(chosen.selection) if chosen else None)
    opened: set[tuple[str, trend_charts.Point]] = st.session_state.setdefault("opened", set())
    if point is None:
        opened -= {one for one in opened if one[0] == name}
    elif (name, point) not in opened:
        opened.add((name, point))
        states.open_posts(view, point.topic, point.start, point.end)


def takes(found: Trends, drawn: charts.Spec, name: str) -> None:
    """The numbers and the picture, to take along."""
    with st.container(horizontal=True, key="takes"):
        export.csv(lambda: found.series, f"{found.namespace}-trends", key=f"csv-{name}")
        export.chart(drawn, f"{found.namespace}-{name}", key=f"drawing-{name}")


states.frame(page, Bar(range=True))
