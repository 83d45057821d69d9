"""The way from page to page keeps what the link says."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest


def frame() -> None:
    import streamlit as st

    from dashboard import link

    link.carry(st.session_state["at"])


@pytest.fixture
def visit() -> AppTest:
    """A session that has seen the page Now."""
    visit = AppTest.from_function(frame)
    visit.session_state["at"] = "Now"
    visit.query_params.update({"namespace": "other", "window": "6h", "topics": ["tea", "rain"], "zone": "Asia/Tokyo"})
    return visit.run()


def go(visit: AppTest, page: str, **link: str) -> dict[str, object]:
    visit.session_state["at"] = page
    visit.query_params.clear()
    visit.query_params.update(link)
    visit.run()
    assert not visit.exception
    return {name: visit.query_params[name] for name in sorted(visit.query_params)}


def test_another_page_shows_the_same_view(visit: AppTest) -> None:
    link = go(visit, "Trends")
    assert sorted(link) == ["namespace", "topics", "window", "zone"]
    assert link["topics"] == ["tea", "rain"]


def test_a_link_that_says_what_to_show_is_left(visit: AppTest) -> None:
    link = go(visit, "Posts", topics="cats")
    assert sorted(link) == ["topics", "zone"]
    assert link["topics"] in ("cats", ["cats"])


def test_what_is_taken_out_of_the_link_stays_out(visit: AppTest) -> None:
    assert go(visit, "Now") == {}
    assert go(visit, "Trends") == {}
