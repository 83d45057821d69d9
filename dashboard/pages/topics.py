"""Page `Topics`: the user's topics and what they gather; edited, tried on retained posts, saved, applied to them."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import streamlit as st

from dashboard import (
    access,
    choices,
    connection,
    corrections,
    filters,
    frame_words,
    markup,
    preview_chart,
    retained,
    states,
)
from dashboard import topic_editing as editing
from dashboard import topic_words as words
from dashboard.errors import DashboardError
from dashboard.filters import Bar, View
from dashboard.queries import Outline, Snapshot
from dashboard.reading import Reading
from dashboard.states import REFRESH_S
from dashboard.topic_editing import Edited
from dashboard.translation import translated
from inference_worker.contract import Results
from ingest.topics.definitions import BadTopics, compile_topics

SETTINGS = connection.settings()
NEW: Final = ""
EDITED: Final = "topics edited"


def page(view: View, outline: Outline) -> None:
    edited = editing.opened(SETTINGS.topics_path, kind=outline.kind)
    is_editor = access.person().is_editor
    watched(view, edited)
    snapshot = latest(view, has_banner=False)
    if snapshot is None:
        return
    editor(edited, snapshot, view.reading, is_editor=is_editor)
    if is_editor and edited.definitions:
        backfill(edited, view, snapshot)


@st.fragment(run_every=5 * REFRESH_S)
def watched(view: View, edited: Edited) -> None:
    """The topics and what they gather, which goes on."""
    snapshot = latest(view)
    if snapshot is not None:
        st.html(markup.header(snapshot, view.reading, title="Topics"))
        st.html(words.listed(edited, snapshot.moods, view.reading))


def latest(view: View, *, has_banner: bool = True) -> Snapshot | None:
    """The last 24 hours, of which every topic is told."""
    return states.fresh("topics", view, lambda: connection.snapshot(view.namespace, "24h", ()), has_banner=has_banner)


def editor(edited: Edited, snapshot: Snapshot, reading: Reading, *, is_editor: bool) -> None:
    """One topic, tried while it is written; saved by those who may."""
    names = [NEW, *edited.queries]
    asked = st.query_params.get("topic", NEW)
    key = choices.recalled("topics which", asked if asked in names else NEW)
    if st.session_state[key] not in names:
        st.session_state[key] = NEW
    st.html('<h2 class="ms-section">Edit and try</h2>' if is_editor else '<h2 class="ms-section">Try a query</h2>')
    left, right = st.columns([2, 3], gap="large")
    with left:
        which = str(st.selectbox("Topic", names, key=key, format_func=lambda name: name or "New topic"))
        version = f"{which} {edited.version[:8]}"
        name = st.text_input("Name", which, key=f"name of {version}", max_chars=60, disabled=not is_editor)
        query = st.text_area(
            "Query", edited.queries.get(which, ""), key=f"query of {version}", max_chars=1024, height=120
        )
        st.html(words.grammar())
        if is_editor:
            with st.container(horizontal=True):
                st.button("Save", type="primary", on_click=_save, args=(edited, which or None, name, query))
                if which:
                    st.button("Delete", on_click=_delete, args=(edited, which), icon=":material/delete:")
        else:
            st.html(words.reading_only())
    choices.remember(("topic",), {"topic": which} if which else {})
    with right:
        preview(query, snapshot, reading)


def preview(query: str, snapshot: Snapshot, reading: Reading) -> None:
    """What the query finds among the newest retained posts."""
    if not query.strip():
        st.html(words.nothing_tried())
        return
    try:
        posts = retained.stretch(snapshot.namespace, (), None, None).posts
        found = editing.preview(query, posts)
    except BadTopics as error:
        st.html(frame_words.caret(error.problem, query, error.column))
        return
    except DashboardError as error:
        states.explain(error)
        return
    st.html(words.tried(found, reading))
    if found.by_hour:
        st.vega_lite_chart(preview_chart.hours(found.by_hour, reading), key="hours", alt="Posts per hour that match")
    if found.matching:
        st.html(words.examples(found, reading))


def _save(edited: Edited, old: str | None, name: str, query: str) -> None:
    _write(edited, lambda: editing.changed(edited.definitions, old, name, query), f"{name} is saved")


def _delete(edited: Edited, name: str) -> None:
    _write(edited, lambda: editing.without(edited.definitions, name), f"{name} is deleted")


def _write(edited: Edited, wanted: words.Wanted, done: str) -> None:
    """Asks again who it is: the page may be older than the role."""
    try:
        if not access.person().is_editor:
            raise corrections.NotAllowed("editing topics")
        editing.save(edited, wanted())
    except (BadTopics, DashboardError) as error:
        st.toast(filters.inert(str(error)), icon=":material/block:", duration="long")
        return
    st.session_state.pop("topics which", None)
    st.toast(filters.inert(f"{done}: ingest reads it within 2 s"), icon=":material/check:")


def backfill(edited: Edited, view: View, snapshot: Snapshot) -> None:
    """Applies the file to what is retained, on request."""
    st.html(words.about_backfill(edited, view.reading))
    drop = st.checkbox("Also take posts out of topics that are no longer in the file", key="topics drop")
    if not st.button("Apply to retained posts", icon=":material/history:"):
        return
    if not access.person().is_editor:
        states.explain(corrections.NotAllowed("a backfill"))
        return
    bar = st.progress(0.0)
    try:
        start = connection.feed(view.namespace).first_post_at()
        end = snapshot.clock + timedelta(seconds=1)
        results, topics = Results(connection.client(), view.namespace), compile_topics(edited.definitions)
        progress = None
        with translated(view.namespace, SETTINGS.redis_address):
            for progress in editing.backfill(results, topics, start, end, drop_unknown=drop):
                share = (end - progress.reached) / (end - start) if end > start else 1.0
                bar.progress(min(share, 1.0), text=words.going(progress, view.reading))
    except (DashboardError, RuntimeError) as error:
        st.html(words.stopped(str(error)))
        return
    bar.empty()
    retained.forget(view.namespace)
    if progress is not None:
        st.html(words.backfilled(progress, view.reading))


states.frame(page, Bar(window=False, topics=False))
