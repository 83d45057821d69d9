"""The page without fresh results: nothing scored yet, Redis gone, results of another version. Each says what to do."""

from __future__ import annotations

import streamlit as st

from . import connection, markup
from .errors import DashboardError, InvalidView, NoResults, StoreUnavailable
from .filters import View
from .queries import Outline, Snapshot

_LAST = "last_snapshot"


def known_outline(namespace: str) -> Outline | DashboardError:
    """The namespace's outline; while Redis is gone, the one of the last picture."""
    try:
        return connection.outline(namespace)
    except StoreUnavailable as error:
        last = _last(namespace)
        return Outline(kind=last.meta.kind, topics=last.topics) if last else error
    except DashboardError as error:
        return error


def latest(view: View) -> Snapshot | None:
    """A fresh snapshot, or the last one under a banner; None once the page has said why there is none."""
    banner = st.container(key="banner")  # always there, so that all below keeps its place when it fills
    try:
        snapshot = connection.snapshot(*view)
    except DashboardError as error:
        last = _last(view.namespace) if isinstance(error, StoreUnavailable) else None
        if last is None:
            explain(error)
            return None
        banner.html(_stale_banner(error, last))
        return last
    st.session_state[_LAST] = snapshot
    return snapshot


def explain(error: DashboardError) -> None:
    """The whole page's one message."""
    st.html(_message(error))


def _last(namespace: str) -> Snapshot | None:
    last = st.session_state.get(_LAST)
    return last if isinstance(last, Snapshot) and last.namespace == namespace else None


def _message(error: DashboardError) -> str:
    match error:
        case NoResults(namespace=namespace):
            return markup.notice(
                "No post has been scored yet",
                [
                    f"Namespace “{namespace}” is empty. This page fills by itself as soon as a feed and a worker run.",
                    "Everything on this machine, the bundled sample feed first; or an archive, as a feed of its own:",
                ],
                ["moodstream up", f"moodstream replay FILE --namespace {namespace}"],
            )
        case StoreUnavailable(address=address, reason=reason):
            return markup.notice(
                "The store does not answer",
                [
                    f"Redis at {address}: {reason}. This page tries again by itself.",
                    "Start everything on this machine, or point MOODSTREAM_REDIS at a Redis that runs:",
                ],
                ["moodstream up", "MOODSTREAM_REDIS=redis://HOST:6379/0 moodstream dashboard"],
                tone="alarm",
            )
        case InvalidView():
            return markup.notice("There is no such view", [str(error)], tone="alarm")
        case _:
            return markup.notice("These results cannot be read", [str(error)], tone="alarm")


def _stale_banner(error: DashboardError, last: Snapshot) -> str:
    return markup.notice(
        "The store does not answer: this is the last picture",
        [
            f"Read at {last.read_at:%H:%M:%S} UTC; nothing on it moves until Redis is back. {error}.",
            "The page tries again by itself.",
        ],
        tone="alarm",
    )
