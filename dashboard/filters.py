"""The bar of filters: what is chosen lives in the link, so a link opens the same view."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import streamlit as st

from inference_worker.contract import ALL, check_namespace

from . import link
from .errors import InvalidView
from .markup import topic_title
from .queries import Outline
from .reading import NUMBER_LABELS, NUMBERS, PLAIN, UTC_NAME, Reading, iso, moment_of, zones
from .windows import DEFAULTS, LABELS, WINDOWS

_PILLS_AT_MOST = 12
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~:$&^=@])")
_NAMESPACE_CHARACTERS = 63


class View(NamedTuple):
    """What the page is asked to show; no topic means all of them; start and end stand in place of the window."""

    namespace: str
    window: str
    topics: tuple[str, ...]
    reading: Reading = PLAIN
    start: datetime | None = None
    end: datetime | None = None


class Bar(NamedTuple):
    """Which choices a page offers, beside the feed and how it is written; what it leaves out stays in the link."""

    window: bool = True
    topics: bool = True
    range: bool = False


WHOLE_BAR: Final = Bar()


def namespace_choice(default: str) -> str:
    """Name of the namespace to show, from the link or typed."""
    asked = st.query_params.get("namespace", default)
    with st.popover("Feed", icon=":material/swap_horiz:", type="tertiary"):
        typed = st.text_input(
            "Namespace",
            asked,
            key="namespace",
            max_chars=_NAMESPACE_CHARACTERS,
            on_change=_name_namespace,
            args=(default,),
            help="A replay is one of its own.",
        )
    return (typed or default).strip()


def _name_namespace(default: str) -> None:
    link.put("namespace", st.session_state["namespace"].strip(), default)
    for name in ("from", "to"):  # of another clock
        st.query_params.pop(name, None)


def view_choice(namespace: str, outline: Outline, bar: Bar) -> View:
    """Window and topics, as far as the namespace has them, or any stretch of its clock.

    Raises InvalidView for a link that asks for what cannot be.
    """
    reading = link.reading()
    window = _window_choice(namespace, outline) if bar.window else DEFAULTS.get(outline.kind, "1h")
    start, end = _range_choice(namespace, outline, reading) if bar.range else (None, None)
    topics = _topics(namespace, outline.topics) if bar.topics else ()
    _reading_choice(reading)
    return View(check_namespace(namespace), window, topics, reading, start, end)


def _window_choice(namespace: str, outline: Outline) -> str:
    usual = DEFAULTS.get(outline.kind, "1h")
    window = st.segmented_control(
        "Window",
        list(WINDOWS),
        format_func=LABELS.__getitem__,
        key=_recalled("window", namespace, tuple(WINDOWS), usual),
        on_change=_remember_window,
        args=(namespace, usual),
        required=True,
        label_visibility="collapsed",
    )
    return str(window)


def range_of_link() -> tuple[datetime | None, datetime | None]:
    """The link's `from` and `to`; both None unless both are there. Raises InvalidView."""
    said = [st.query_params.get(name, "") for name in ("from", "to")]
    if not all(said):
        return None, None
    start, end = moment_of(said[0], "from"), moment_of(said[1], "to")
    if start >= end:
        raise InvalidView(f"from {said[0]!r} is not before to {said[1]!r}: turn them round")
    return start, end


def _range_choice(namespace: str, outline: Outline, reading: Reading) -> tuple[datetime | None, datetime | None]:
    start, end = range_of_link()
    clock = outline.clock or datetime.now(ZoneInfo(reading.zone))
    zone = ZoneInfo(reading.zone)
    name = f"{reading.at(start):%-d %b %H:%M} – {reading.at(end):%-d %b %H:%M}" if start and end else "From – to"
    with st.popover(name, icon=":material/date_range:", type="secondary" if start else "tertiary"):
        with st.form("range", border=False):
            first = st.datetime_input(
                f"From ({reading.zone})", _naive(start or clock - timedelta(days=1), zone), step=60, key="range from"
            )
            last = st.datetime_input(f"To ({reading.zone})", _naive(end or clock, zone), step=60, key="range to")
            if st.form_submit_button("Show", type="primary") and first and last:
                link.put("from", iso(first.replace(tzinfo=zone)))
                link.put("to", iso(last.replace(tzinfo=zone)))
                st.rerun()
        if start and st.button("Back to the window", type="tertiary"):
            _leave_range()
            st.rerun()
    return start, end


def _naive(at: datetime, zone: ZoneInfo) -> datetime:
    return at.astimezone(zone).replace(tzinfo=None, second=0, microsecond=0)


def _leave_range() -> None:
    for name in ("from", "to"):
        st.query_params.pop(name, None)


def _reading_choice(reading: Reading) -> None:
    """Time zone and language of numbers."""
    with st.popover("Display", icon=":material/tune:", type="tertiary"):
        st.selectbox("Time zone", zones(), index=zones().index(reading.zone), key="zone", on_change=_read_on)
        st.segmented_control(
            "Numbers",
            list(NUMBERS),
            default=reading.numbers,
            format_func=NUMBER_LABELS.__getitem__,
            key="numbers",
            on_change=_read_on,
            required=True,
        )
        st.caption("Light or dark follows your system; the menu at the top right overrides it.")


def _read_on() -> None:
    link.put("zone", st.session_state["zone"], UTC_NAME)
    link.put("numbers", st.session_state["numbers"], "en")


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
    """Key of a widget that shows what the link says, as far as it is known: choices are written there first."""
    key = f"{name} of {namespace}"
    asked = st.query_params.get_all(name)
    if isinstance(usual, str):
        st.session_state[key] = asked[0] if asked and asked[0] in known else usual
    else:
        st.session_state[key] = [choice for choice in asked if choice in known]
    return key


def _remember(name: str, namespace: str, usual: str | tuple[str, ...]) -> None:
    link.put(name, st.session_state[f"{name} of {namespace}"], usual)


def _remember_window(namespace: str, usual: str) -> None:
    """A window chosen leaves the range chosen before."""
    _remember("window", namespace, usual)
    _leave_range()


def inert(text: str) -> str:
    """Text → Markdown that shows it as it is; labels of some widgets are Markdown."""
    return _MARKDOWN.sub(r"\\\1", text)
