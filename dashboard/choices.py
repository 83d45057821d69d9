"""Choices of a page that live in its link: read from it when the page opens, written to it when they change."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import TypeVar

import streamlit as st

from . import link

Chosen = TypeVar("Chosen")


def recalled(key: str, asked: Chosen) -> str:
    """Key of a widget that begins with what the link asks for."""
    if key not in st.session_state:
        st.session_state[key] = asked
    return key


def recalled_of(key: str, asked: tuple[str, ...], known: Container[str]) -> str:
    """The same of a widget of several choices; what is no longer among them goes."""
    chosen = st.session_state.get(key, asked)
    st.session_state[key] = [choice for choice in chosen or () if choice in known]
    return key


def remember(names: tuple[str, ...], params: Mapping[str, str | list[str]]) -> None:
    """Write the choices into the link; what is not among `params` is usual and needs no word."""
    for name in names:
        wanted = params.get(name, [])
        wanted = [wanted] if isinstance(wanted, str) else wanted
        if wanted != st.query_params.get_all(name):
            link.put(name, wanted)
