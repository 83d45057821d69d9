"""Page `Posts`: the posts behind the numbers, searched, each with what the model made of it, and corrected by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import streamlit as st

from dashboard import (
    access,
    cards,
    choices,
    connection,
    corrections,
    evidence,
    filters,
    frame_words,
    markup,
    retained,
    states,
)
from dashboard.errors import DashboardError, InvalidView, StoreUnavailable
from dashboard.filters import Bar, View
from dashboard.markup import Heading, counted
from dashboard.queries import Outline
from dashboard.reading import Reading
from dashboard.search import FLAG_TITLES, FLAGS, MODALITIES, PAGE, PARAMS, Search, Stretch, moment, search_of, typed
from dashboard.states import REFRESH_S
from dashboard.translation import translated
from inference_worker.amendments import NotRetained
from inference_worker.contract import LABELS, Prediction, Results
from ingest.contract import Label
from ingest.topics.definitions import BadTopics

SETTINGS = connection.settings()
TRENDS: Final = Path(__file__).with_name("trends.py")


def page(view: View, outline: Outline) -> None:
    if post_id := st.query_params.get("post"):
        one(view, post_id)
        return
    try:
        asked = search(view)
    except InvalidView as error:
        states.explain(error)
        return
    choices.remember(PARAMS, asked.params)
    back_to_trends()
    live(view, asked, outline)
    exports(view)


def back_to_trends() -> None:
    """The way back to the view a point was chosen in: the browser's own Back finds the point's minutes there."""
    view: dict[str, list[str]] | None = st.session_state.get(states.CAME_FROM)
    if view is not None:
        asked = [(name, value) for name, values in view.items() for value in values]
        st.page_link(TRENDS, label="Back to Trends", icon=":material/arrow_back:", query_params=asked)


def search(view: View) -> Search:
    """The second bar of filters. Raises InvalidView for a time that is none."""
    zone = view.reading.zone
    asked = search_of(view.namespace, st.query_params.get_all)
    with st.container(key="search", horizontal=True, vertical_alignment="bottom"):
        words = st.text_input(
            "Words",
            key=choices.recalled("posts words", asked.words),
            placeholder='Words, "a phrase", #tag, OR, -not',
            label_visibility="collapsed",
            max_chars=1024,
            icon=":material/search:",
        )
        labels = st.pills(
            "Class",
            LABELS,
            selection_mode="multi",
            key=choices.recalled_of("posts class", asked.labels, LABELS),
            label_visibility="collapsed",
        )
        with st.popover("More filters", icon=":material/tune:"):
            confidence: tuple[int, int] = st.slider(  # type: ignore[assignment]  # two ends, as the link's two
                "Confidence, percent", 0, 100, key=choices.recalled("posts confidence", asked.confidence)
            )
            modality = st.segmented_control(
                "Scored on",
                MODALITIES,
                format_func={"text": "text alone", "image": "picture alone", "both": "both"}.__getitem__,
                key=choices.recalled("posts modality", asked.modality or None),
            )
            only = st.pills(
                "Only posts that",
                list(FLAGS),
                selection_mode="multi",
                format_func=FLAG_TITLES.__getitem__,
                key=choices.recalled_of("posts only", asked.only, FLAGS),
            )
            left, right = st.columns(2)
            lang = left.text_input("Language", key=choices.recalled("posts lang", asked.lang), placeholder="en")
            source = right.text_input(
                "Source", key=choices.recalled("posts source", asked.source), placeholder="bluesky"
            )
            start, end = (
                column.text_input(
                    f"{name} ({zone})",
                    key=choices.recalled(f"posts {name} in {zone}", typed(at, zone)),
                    max_chars=40,
                    placeholder="2026-05-04 12:30",
                )
                for column, name, at in ((left, "From", asked.start), (right, "To", asked.end))
            )
    return Search(
        namespace=view.namespace,
        topics=view.topics,
        labels=tuple(label for label in LABELS if label in (labels or ())),
        confidence=(confidence[0], confidence[1]),
        modality=modality or "",
        only=tuple(only or ()),
        lang=lang.strip(),
        source=source.strip(),
        words=words.strip(),
        start=moment(start, zone),
        end=moment(end, zone),
    )


class Found(NamedTuple):
    """What the page shows: of which feed, what was looked at, and what answers."""

    heading: Heading
    of_range: Stretch
    posts: list[Prediction]


@st.fragment(run_every=REFRESH_S)
def live(view: View, asked: Search, known: Outline) -> None:
    """What answers the search, newest first; held still, it stays as it was."""
    try:
        found = states.fresh("posts", view, lambda: read(asked), asked=asked)
    except BadTopics as error:
        st.html(frame_words.caret(error.problem, asked.words, error.column))
        return
    if found is None:
        return
    states.follow(view.namespace, known)
    st.html(markup.header(found.heading, view.reading, title="Posts"))
    with st.container(key="view", horizontal=True, vertical_alignment="center"):
        st.html(frame_words.found(found.of_range, len(found.posts), view.reading))
        is_held = st.toggle("Hold still", key="posts hold", help="Keep these posts while you read them.")
        is_hot = st.toggle("Heat over pictures", key="posts heat", help="Where in the picture the model looked.")
    of_range, posts = _held(is_held, asked, found.of_range, found.posts)
    if not posts:
        st.html(frame_words.nothing(of_range, view.reading))
        return
    st.html(evidence.legend())
    number = _page(asked, len(posts))
    shown = posts[number * PAGE : (number + 1) * PAGE]
    if is_held:
        shown = _still(view.namespace, shown)
    grid(view, shown, of_range.clock, of_range.kind, is_hot=is_hot)
    _pager(number, len(posts), view.reading)


def read(asked: Search) -> Found:
    """Raises DashboardError, BadTopics."""
    head = connection.head(asked.namespace)
    of_range, posts = retained.found(asked)
    return Found(Heading(asked.namespace, head.meta, of_range.clock), of_range, posts)


def _held(is_held: bool, asked: Search, of_range: Stretch, posts: list[Prediction]) -> tuple[Stretch, list[Prediction]]:
    """What is there now or, while the reader holds it, what was there when that began."""
    if not is_held:
        st.session_state.pop("posts held", None)
        return of_range, posts
    kept = st.session_state.setdefault("posts held", (asked, of_range, posts))
    if kept[0] != asked:
        kept = st.session_state["posts held"] = (asked, of_range, posts)
    return kept[1], kept[2]


def _still(namespace: str, shown: list[Prediction]) -> list[Prediction]:
    """Held posts as they are now, but for those deleted meanwhile; while the store is away, as they were last."""
    try:
        now = {post.id: post for post in retained.still(namespace, shown)}
    except DashboardError:
        return shown
    asked, of_range, posts = st.session_state["posts held"]
    ids = {post.id for post in shown}
    kept = [now.get(post.id, post) for post in posts if post.id in now or post.id not in ids]
    st.session_state["posts held"] = (asked, of_range, kept)
    return list(now.values())


def grid(view: View, posts: list[Prediction], clock: datetime, kind: str, *, is_hot: bool) -> None:
    """The posts as cards, in as many columns as fit."""
    person = access.person()
    now = clock if kind == "replay" else datetime.now(UTC)
    jpegs = pictures(view.namespace, posts)
    with st.container(key="evidence"):
        for slot, post in enumerate(posts):
            with st.container(key=f"card-{slot}", border=True, gap="small"):
                cards.evidence(post, jpegs.get(post.id), now, view.reading, is_replay=kind == "replay", is_hot=is_hot)
                with st.container(key=f"tools-{slot}", horizontal=True, gap="small", vertical_alignment="center"):
                    if person.is_editor:
                        correct(view.namespace, post)
                    if st.button("Open", key=f"open-{cards.mark(post.id)}", type="tertiary"):
                        st.query_params["post"] = post.id
                        st.rerun()  # the whole page: this list is a fragment of it
                    if address := cards.safe_link(post.url):
                        st.link_button("Source", address, type="tertiary", icon=":material/open_in_new:")


def pictures(namespace: str, posts: list[Prediction]) -> dict[str, bytes]:
    """Those of the posts shown; while the store is away, those still known here."""
    try:
        jpegs = retained.pictures(namespace, posts)
    except StoreUnavailable:
        kept: dict[str, bytes] = st.session_state.get("posts pictures", {})
        return kept
    st.session_state["posts pictures"] = jpegs
    return jpegs


def correct(namespace: str, post: Prediction) -> None:
    """Correct me: the class a person gives the post; choosing it again takes it back."""
    key = f"correct-{cards.mark(post.id)}"
    if st.session_state.get(key) != post.correction:  # a value set sends the control back, and a click with it
        st.session_state[key] = post.correction
    st.segmented_control(
        "Correct me",
        LABELS,
        key=key,
        on_change=_correct,
        args=(namespace, post.id, key),
        label_visibility="collapsed",
        help="Wrong? Say what it is. Choose it again to take it back.",
    )


def _correct(namespace: str, post_id: str, key: str) -> None:
    label: Label | None = st.session_state[key]
    try:
        with translated(namespace, SETTINGS.redis_address):
            results = Results(connection.client(), namespace)
            done = corrections.correct(results, access.person(), post_id, label, at=datetime.now(UTC))
    except (NotRetained, DashboardError) as error:
        st.toast(filters.inert(str(error)), icon=":material/block:")
        return
    retained.forget(namespace)
    st.toast(
        f"Counts as {done.label}" if done.label else "Taken back: counts as the model said", icon=":material/check:"
    )


def _back() -> None:
    st.query_params.pop("post", None)


def _page(asked: Search, count: int) -> int:
    """Number of the page turned to; another search begins with its first."""
    if st.session_state.get("posts searched") != asked:
        st.session_state["posts searched"] = asked
        _turn(0)
    last = (count - 1) // PAGE
    return min(max(int(st.session_state.get("posts page", 0)), 0), last)


def _pager(number: int, count: int, reading: Reading) -> None:
    last = (count - 1) // PAGE
    if not last:
        return
    with st.container(key="pager", horizontal=True, vertical_alignment="center"):
        st.button("Newer", disabled=number == 0, on_click=_turn, args=(number - 1,), icon=":material/chevron_left:")
        st.text(f"{number * PAGE + 1}-{min((number + 1) * PAGE, count)} of {reading.number(count)}")
        st.button("Older", disabled=number == last, on_click=_turn, args=(number + 1,), icon=":material/chevron_right:")


def _turn(number: int) -> None:
    st.session_state["posts page"] = number


def one(view: View, post_id: str) -> None:
    """A single post, whole, with what people said of it."""
    st.button("All posts", icon=":material/arrow_back:", type="tertiary", on_click=_back)
    try:
        post = retained.post(view.namespace, post_id)
        steps = retained.steps_of_post(view.namespace, post_id)
    except DashboardError as error:
        states.explain(error)
        return
    if post is None:
        st.html(frame_words.gone(post_id))
        return
    st.html(evidence.legend())
    is_hot = st.toggle("Heat over pictures", key="posts heat", value=True)
    with st.container(key="card-whole", border=True, gap="small"):
        jpeg = pictures(view.namespace, [post]).get(post.id)
        cards.evidence(post, jpeg, datetime.now(UTC), view.reading, is_replay=True, is_hot=is_hot, whole=True)
        with st.container(key="tools-whole", horizontal=True, gap="small", vertical_alignment="center"):
            if access.person().is_editor:
                correct(view.namespace, post)
            if address := cards.safe_link(post.url):
                st.link_button("Source", address, type="tertiary", icon=":material/open_in_new:")
    if steps:
        st.html(frame_words.history(steps, view.reading))


def exports(view: View) -> None:
    """What people corrected, as a list and as training data."""
    try:
        steps = retained.steps(view.namespace)
    except DashboardError:
        return  # said above
    if not steps:
        return
    name = f"{view.namespace}-corrections"
    with st.expander(f"Corrections: {counted(len(steps), 'step')}", icon=":material/edit_note:"):
        st.html(frame_words.history(steps[::-1][:50], view.reading))
        count = len(corrections.standing(steps))
        st.text(f"{counted(count, 'post')} counted as what a person said. As training data:")
        with st.container(horizontal=True):
            _file("Archive", lambda: corrections.as_archive(retained.corrected(view.namespace)), f"{name}.jsonl.zst")
            _file("Parquet", lambda: corrections.as_parquet(retained.corrected(view.namespace)), f"{name}.parquet")
            _file("CSV", lambda: corrections.as_csv(retained.corrected(view.namespace)).encode(), f"{name}.csv")


def _file(label: str, made: Callable[[], bytes], name: str) -> None:
    """A button; the file is made once it is pressed."""
    st.download_button(label, made, file_name=name, on_click="ignore")


states.frame(page, Bar(window=False))
