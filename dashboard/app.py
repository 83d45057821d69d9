"""The dashboard's frame: what all pages share, and the way between them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import streamlit as st

from dashboard import access, brand, link

HERE: Final = Path(__file__).parent
PAGES: Final = HERE / "pages"

st.set_page_config(page_title="Moodstream", page_icon=brand.MARK, layout="wide")
st.logo(brand.WORDMARK, size="large")
st.html(HERE / "style.css")
st.html(HERE / "posts.css")
if not access.gate():
    st.stop()
page = st.navigation(
    [
        st.Page(PAGES / "now.py", title="Now", icon=":material/pulse_alert:", default=True),
        st.Page(PAGES / "trends.py", title="Trends", icon=":material/show_chart:"),
        st.Page(PAGES / "posts.py", title="Posts", icon=":material/forum:"),
        st.Page(PAGES / "why.py", title="Why", icon=":material/psychology_alt:"),
        st.Page(PAGES / "alerts.py", title="Alerts", icon=":material/notifications:"),
        st.Page(PAGES / "runs.py", title="Runs", icon=":material/fact_check:"),
        st.Page(PAGES / "topics.py", title="Topics", icon=":material/sell:"),
        st.Page(PAGES / "health.py", title="Health", icon=":material/ecg_heart:"),
    ],
    position="top",
)
link.carry(page.title)
page.run()
