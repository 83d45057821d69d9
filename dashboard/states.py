"""The page without fresh results: nothing scored yet, Redis gone, results of another version. Each says what to do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn, TypeVar

import streamlit as st

from . import connection, filters, link, markup
from .errors import DashboardError, InvalidView, NoResults, StoreRefuses, StoreUnavailable
from .filters import WHOLE_BAR, Bar, View
from .queries import Outline, Snapshot
from .reading import PLAIN, Reading, iso

Picture = TypeVar("Picture")
_LAST: Final = "last pictures"
CAME_FROM: Final = "trends left"
"""Where the session keeps the link of Trends as it was when a point of it led to the posts."""
POSTS: Final = Path(__file__).parent / "pages" / "posts.py"
REFRESH_S: Final = connection.settings().refresh_s


def frame(live: Callable[[View, Outline], None], bar: Bar = WHOLE_BAR) -> None:
    """A page: the bar of filters, and below it what `live` shows of the view or why there is nothing to show."""
    with st.container(key="filters", horizontal=True, vertical_alignment="center"):
        namespace = filters.namespace_choice(connection.settings().namespace)
        outline = known_outline(namespace)
        view: View | None = None
        problem = outline if isinstance(outline, DashboardError) else None
        if isinstance(outline, Outline):
            try:
                view = filters.view_choice(namespace, outline, bar)
            except InvalidView as error:
                problem = error
    if view is not None and isinstance(outline, Outline):
        live(view, outline)
    elif isinstance(problem, InvalidView):
        explain(problem)
    elif problem is not None:
        _wait(namespace, problem)


@st.fragment(run_every=REFRESH_S)
def _wait(namespace: str, error: DashboardError) -> None:
    """Nothing to show yet: says why, and looks again."""
    outline = known_outline(namespace)
    if not isinstance(outline, DashboardError):
        st.rerun()
    explain(outline if isinstance(outline, DashboardError) else error)


def known_outline(namespace: str) -> Outline | DashboardError:
    """The namespace's outline; while Redis is gone, the one of the last picture."""
    try:
        outline = connection.outline(namespace)
    except StoreUnavailable as error:
        last = _last("outline", namespace)
        return last if isinstance(last, Outline) else error
    except DashboardError as error:
        return error
    _keep("outline", namespace, outline)
    return outline


def latest(view: View, *, has_banner: bool = True) -> Snapshot | None:
    """A fresh snapshot of the page Now, or the last one; see `fresh`."""
    return fresh(
        "now",
        view,
        lambda: connection.snapshot(view.namespace, view.window, view.topics, view.reading.zone),
        has_banner=has_banner,
    )


def fresh(
    page: str, view: View, read: Callable[[], Picture], *, has_banner: bool = True, asked: object = None
) -> Picture | None:
    """What `read` says or, while Redis is gone, the last it said, greyed under a banner; None once said why not.

    has_banner: False where another part of the page says why; asked: what the page was asked for beside the view.
    """
    # Always there, so that all below keeps its place when it fills.
    banner = st.container(key="banner") if has_banner else None
    of = (view._replace(reading=PLAIN), asked)
    try:
        picture = read()
    except DashboardError as error:
        found: tuple[Picture, datetime] | None = _last(page, of)  # type: ignore[assignment]
        if found is None or not isinstance(error, StoreUnavailable):
            if has_banner:
                explain(error)
            return None
        last, read_at = found
        if banner is not None:
            banner.html(_stale_banner(error, read_at, view.reading))
        return last
    _keep(page, of, (picture, datetime.now(UTC)))
    return picture


def follow(namespace: str, known: Outline) -> None:
    """Runs the whole page again once the namespace has other topics than its bar of filters offers.

    The bar asks the same place, so it is never behind what is seen here, and one run is enough.
    """
    try:
        outline = connection.outline(namespace)
    except DashboardError:
        return  # said by the picture
    if (outline.kind, outline.topics) != (known.kind, known.topics):
        st.rerun()


def open_posts(view: View, topic: str, start: datetime, end: datetime) -> NoReturn:
    """Go to the posts of a topic and time; the link says it all, and can be given on."""
    st.session_state[CAME_FROM] = link.said()
    asked = {"namespace": view.namespace, "topics": topic, "from": iso(start), "to": iso(end)}
    st.switch_page(POSTS, query_params=asked)


def explain(error: DashboardError) -> None:
    """The whole page's one message."""
    st.html(_message(error))


def _keep(page: str, of: object, picture: object) -> None:
    st.session_state.setdefault(_LAST, {})[page] = (of, picture)


def _last(page: str, of: object) -> object | None:
    """The last picture of a page, if it is of what is asked for now."""
    kept_of, picture = st.session_state.get(_LAST, {}).get(page, (None, None))
    return picture if kept_of == of else None


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
        case StoreRefuses():
            return markup.notice(
                "The store refuses this page", [f"{error}.", "This page tries again by itself."], tone="alarm"
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


def _stale_banner(error: DashboardError, read_at: datetime, reading: Reading = PLAIN) -> str:
    return markup.notice(
        "The store does not answer: this is the last picture",
        [
            f"Read at {reading.at(read_at):%H:%M:%S} {reading.zone_label(read_at)}; nothing on it moves until Redis is "
            f"back. {error}.",
            "The page tries again by itself.",
        ],
        tone="frozen",
    )
