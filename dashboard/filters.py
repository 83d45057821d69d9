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
    usual = DEFAULTS.get(outline.kind, "1h")
    window = st.segmented_control(
        "Window",
        list(WINDOWS),
        format_func=LABELS.__getitem__,
        key=_recalled("window", namespace, tuple(WINDOWS), usual),
        on_change=_remember,
        args=("window", namespace, usual),
        required=True,
        label_visibility="collapsed",
    )
    return View(check_namespace(namespace), str(window), _topics(namespace, outline.topics))


def _topics(namespace: str, known: tuple[str, ...]) -> tuple[str, ...]:
    if len(known) < 2:
        return ()
    key = _recalled("topics", namespace, known, ())
    keep = ("topics", namespace, ())
    if len(known) <= _PILLS_AT_MOST:
        chosen = st.pills(
            "Topics",
            known,
            selection_mode="multi",
            format_func=lambda topic: inert(topic_title(topic)),
            key=key,
            on_change=_remember,
            args=keep,
            label_visibility="collapsed",
        )
    else:
        chosen = st.multiselect(
            "Topics",
            known,
            format_func=topic_title,
            key=key,
            on_change=_remember,
            args=keep,
            placeholder="All topics",
            label_visibility="collapsed",
        )
    return tuple(sorted(chosen or (), key=lambda topic: (topic != ALL, topic)))


def _recalled(name: str, namespace: str, known: tuple[str, ...], usual: str | tuple[str, ...]) -> str:
    """Key of a widget whose value is in the session: at first from the link, always among what is known."""
    key = f"{name} of {namespace}"
    asked = st.session_state.get(key, st.query_params.get_all(name))
    if isinstance(usual, str):
        asked = asked if isinstance(asked, str) else next(iter(asked or ()), usual)
        st.session_state[key] = asked if asked in known else usual
    else:
        st.session_state[key] = [choice for choice in asked or () if choice in known]
    return key


def _remember(name: str, namespace: str, usual: str | tuple[str, ...]) -> None:
    """Write a choice into the link, in plain words; the usual one needs none."""
    chosen = st.session_state[f"{name} of {namespace}"]
    if not chosen or chosen == usual:
        st.query_params.pop(name, None)
    else:
        st.query_params[name] = chosen


def inert(text: str) -> str:
    """Text → Markdown that shows it as it is; labels of some widgets are Markdown."""
    return _MARKDOWN.sub(r"\\\1", text)
