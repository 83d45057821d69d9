"""The bar of filters: what is chosen lives in the link, so a link opens the same view."""

from __future__ import annotations

import re
from typing import NamedTuple

import streamlit as st

from inference_worker.contract import ALL, check_namespace

from .markup import topic_title
from .queries import Outline
from .windows import DEFAULTS, LABELS, WINDOWS

_PILLS_AT_MOST = 12
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~:$&^=@])")


class View(NamedTuple):
    """What the page is asked to show; no topic means all of them."""

    namespace: str
    window: str
    topics: tuple[str, ...]


def namespace_choice(default: str) -> str:
    """Name of the namespace to show, from the link or typed."""
    with st.popover("Feed", icon=":material/swap_horiz:", type="tertiary"):
        typed = st.text_input(
            "Namespace", default, key="namespace", bind="query-params", max_chars=63, help="A replay is one of its own."
        )
    return (typed or default).strip()


def view_choice(namespace: str, outline: Outline) -> View:
    """Window and topics, as far as the namespace has them."""
    window = st.segmented_control(
        "Window",
        list(WINDOWS),
        default=DEFAULTS.get(outline.kind, "1h"),
        format_func=LABELS.__getitem__,
        key="window",
        required=True,
        label_visibility="collapsed",
        bind="query-params",
    )
    return View(check_namespace(namespace), str(window), _topics(outline.topics))


def _topics(known: tuple[str, ...]) -> tuple[str, ...]:
    if len(known) < 2:
        return ()
    if len(known) <= _PILLS_AT_MOST:
        chosen = st.pills(
            "Topics",
            known,
            selection_mode="multi",
            format_func=lambda topic: inert(topic_title(topic)),
            key="topics",
            label_visibility="collapsed",
            bind="query-params",
        )
    else:
        chosen = st.multiselect(
            "Topics",
            known,
            format_func=topic_title,
            key="topics",
            placeholder="All topics",
            label_visibility="collapsed",
            bind="query-params",
        )
    return tuple(sorted(chosen or (), key=lambda topic: (topic != ALL, topic)))


def inert(text: str) -> str:
    """Text → Markdown that shows it as it is; labels of some widgets are Markdown."""
    return _MARKDOWN.sub(r"\\\1", text)
