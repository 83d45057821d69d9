"""A page of the dashboard for AppTest, as `python -m dashboard` would serve it on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

APP = Path(__file__).parents[2] / "dashboard" / "app.py"


def open_page(name: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, *, listens_on: str = "127.0.0.1") -> AppTest:
    """The page alone, not yet run; `now`: the whole app, which opens with it."""
    monkeypatch.setenv("MOODSTREAM_REDIS", redis_url)
    for variable in ("MOODSTREAM_NAMESPACE", "MOODSTREAM_AUTH", "MOODSTREAM_EDITORS", "MOODSTREAM_TOPICS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("dashboard.access.listens_on", lambda: listens_on)
    st.cache_data.clear()
    st.cache_resource.clear()
    app = AppTest.from_file(str(APP), default_timeout=25)
    if name != "now":
        app.switch_page(f"pages/{name}.py")
    return app


def run(page: AppTest) -> str:
    """Run without any error shown; all HTML of the page."""
    st.cache_data.clear()
    st.cache_resource.clear()
    page.run()
    assert not page.exception
    return "".join(element.proto.body for element in page.get("html"))
