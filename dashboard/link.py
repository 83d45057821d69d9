"""The link holds the whole view, in plain words, and the way from page to page keeps it."""

from __future__ import annotations

from typing import Final

import streamlit as st

from .reading import UTC_NAME, Reading

VIEW: Final = ("namespace", "window", "topics", "from", "to")
READING: Final = ("zone", "numbers")
_HELD, _PAGE = "link", "page of link"


def carry(page: str) -> None:
    """Give the link of a page just come to what the last page's said; a link that says itself what to show is left."""
    link = st.query_params
    if st.session_state.get(_PAGE, page) != page:
        held: dict[str, list[str]] = st.session_state.get(_HELD, {})
        names = READING if any(name in link for name in VIEW) else VIEW + READING
        for name in names:
            if name not in link and name in held:
                link[name] = held[name]
    st.session_state[_PAGE] = page
    st.session_state[_HELD] = said()


def said() -> dict[str, list[str]]:
    """What the link says of view and reading."""
    return {name: st.query_params.get_all(name) for name in VIEW + READING if name in st.query_params}


def put(name: str, chosen: str | list[str], usual: str | tuple[str, ...] = ()) -> None:
    """Write a choice into the link; the usual one needs no word."""
    if not chosen or chosen == usual:
        st.query_params.pop(name, None)
    else:
        st.query_params[name] = chosen


def reading() -> Reading:
    """How the link's reader writes numbers and times. Raises InvalidView."""
    return Reading(zone=st.query_params.get("zone", UTC_NAME), numbers=st.query_params.get("numbers", "en"))
