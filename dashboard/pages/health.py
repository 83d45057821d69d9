"""Page `Health`: is every part at work, what was set aside, and which model is it that scores."""

from __future__ import annotations

from datetime import UTC, datetime

import streamlit as st

from dashboard import connection, export, gauges, markup, states
from dashboard.filters import Bar, View
from dashboard.markup import Heading
from dashboard.queries import Outline
from dashboard.states import REFRESH_S


def page(view: View, _: Outline) -> None:
    pulse(view)
    letters(view)
    model()


@st.fragment(run_every=REFRESH_S)
def pulse(view: View) -> None:
    """All that moves."""
    head = states.fresh("health", view, lambda: connection.head(view.namespace))
    if head is None:
        return
    st.html(markup.header(Heading(view.namespace, head.meta, head.clock), view.reading, title="Health"))
    st.html(gauges.facts(head, view.reading))
    st.html(markup.section("Workers", "what each says of itself, of its last minute"))
    is_replay = head.meta.kind == "replay"
    st.html(gauges.workers(head.workers, datetime.now(UTC), view.reading, is_replay=is_replay))
    st.html(markup.section("Sources", "what ingest says of itself"))
    st.html(gauges.sources(connection.source_reports(), view.reading))


@st.fragment(run_every=5 * REFRESH_S)
def letters(view: View) -> None:
    """The records no worker could score."""
    found = states.fresh("letters", view, lambda: connection.dead_letters(view.namespace), has_banner=False)
    if found is None:
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.html(markup.section("Dead letters", "the newest 100; their bytes are in Kafka, <ns>.dead-letters"))
        if found:
            table = gauges.letters(found, view.reading)
            export.csv(lambda: table, f"{view.namespace}-dead-letters", key="csv-letters")
    if not found:
        st.html('<p class="ms-quiet">None: every record could be scored.</p>')
        return
    st.dataframe(gauges.letters(found, view.reading), key="letters", hide_index=True, width="stretch", height="auto")
    st.html('<p class="ms-quiet"><code>moodstream dead-letters retry PLACE</code> sends one to the workers again.</p>')


def model() -> None:
    """The card of the model that runs."""
    card = connection.card_of_model()
    st.html(markup.section("Model", "the card of the model this installation runs"))
    if not card:
        st.html('<p class="ms-quiet">No model card beside the model: MOODSTREAM_MODEL names its directory.</p>')
        return
    with st.expander("Model card", icon=":material/menu_book:"):
        st.markdown(card)


states.frame(page, Bar(window=False, topics=False))
