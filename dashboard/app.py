"""The dashboard's frame: what all pages share, and the way between them."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboard import brand

HERE = Path(__file__).parent

st.set_page_config(page_title="Moodstream", page_icon=brand.MARK, layout="wide")
st.logo(brand.WORDMARK, size="large")
st.html(HERE / "style.css")
st.navigation(
    [st.Page(HERE / "pages" / "now.py", title="Now", icon=":material/pulse_alert:", default=True)], position="top"
).run()
