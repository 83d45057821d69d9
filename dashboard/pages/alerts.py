"""Page `Alerts`: what is going on, what went on, and the rules that decide, with what they see now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import streamlit as st
from redis import Redis

from dashboard import access, choices, connection, filters, markup, states
from dashboard.alerts import cards, history
from dashboard.alerts.errors import BadRules, RulesChanged
from dashboard.alerts.evaluation import backtest
from dashboard.alerts.history import Alert, Check
from dashboard.alerts.rules import SHIPPED, Rule, load_rules, parse_rules, rules_text, save_rules
from dashboard.alerts.settings import rules_path
from dashboard.errors import DashboardError
from dashboard.filters import Bar, View
from dashboard.markup import Heading, counted, notice
from dashboard.queries import Outline
from dashboard.states import REFRESH_S
from dashboard.translation import translated
from inference_worker.contract import Results

SETTINGS = connection.settings()
CSS: Final = Path(__file__).parent.parent / "alerts.css"
READ: Final = 200
MUTES: Final = {"1 h": timedelta(hours=1), "12 h": timedelta(hours=12), "7 days": timedelta(days=7)}
BACKTEST_DAYS: Final = 7
RULES_TEXT, RULES_SEEN = "rules-text", "rules-seen"  # what an editor types, and the file as it was when they began
TRENDS: Final = Path(__file__).with_name("trends.py")


@dataclass(frozen=True)
class Picture:
    """All the page shows, read at once."""

    heading: Heading
    active: tuple[Alert, ...]
    latest: tuple[Alert, ...]
    checks: tuple[Check, ...]
    muted: dict[str, datetime]


def page(view: View, outline: Outline) -> None:
    st.html(CSS)
    rules_asked = rules_choice()
    live(view, rules_asked, outline)
    if access.person().is_editor:
        edit(view)


def rules_choice() -> tuple[str, ...]:
    """Rules to show, from the link; none means all."""
    names = tuple(rule.name for rule in present_rules())
    chosen = st.pills(
        "Rules",
        names,
        selection_mode="multi",
        format_func=filters.inert,
        key=choices.recalled_of("rules shown", tuple(st.query_params.get_all("rules")), names),
        label_visibility="collapsed",
    )
    choices.remember(("rules",), {"rules": list(chosen)} if chosen else {})
    return tuple(chosen)


@st.fragment(run_every=max(REFRESH_S, 2.0))
def live(view: View, rules_asked: tuple[str, ...], known: Outline) -> None:
    """All that moves. While Redis is away, the last picture stays under a banner."""
    picture = states.fresh("alerts", view._replace(topics=()), lambda: read(view.namespace))
    if picture is None:
        return
    states.follow(view.namespace, known)

    def asked(one: Alert | Check) -> bool:
        return (not view.topics or one.topic in view.topics) and (not rules_asked or one.rule in rules_asked)

    reading = view.reading
    active = [one for one in picture.active if asked(one)]
    past = [one for one in picture.latest if asked(one) and not one.is_active]
    evaluated = max((one.at for one in picture.checks), default=None)
    st.html(
        markup.header(picture.heading, reading, title="Alerts")
        + cards.progress(active, picture.heading.clock, evaluated, reading)
    )
    if evaluated is None:
        st.html(
            notice(
                "No minute has been evaluated yet",
                ["The alert service does that, also with no browser open; moodstream up starts it too."],
                [f"MOODSTREAM_NAMESPACE={view.namespace} moodstream alerts"],
            )
        )
    for number, one in enumerate(active):
        with st.container(key=f"alert-{number}", gap="small"):
            st.html(cards.alert(one, reading))
            actions(view, number, one, picture)
    st.html(markup.section("History", "closed alerts, newest first"))
    st.html(cards.history(past, reading) if past else '<p class="ms-quiet">No alert has closed yet.</p>')
    st.html(markup.section("Rules", "and what they see now"))
    shown = [rule for rule in present_rules() if not rules_asked or rule.name in rules_asked]
    st.html(cards.rules(shown, [one for one in picture.checks if asked(one)], picture.muted, reading))


def actions(view: View, number: int, one: Alert, picture: Picture) -> None:
    """The way to the posts for everybody; seen and silent for editors."""
    clock = picture.heading.clock
    with st.container(key=f"act-{number}", horizontal=True, gap="small", vertical_alignment="center"):
        asked = dict(parse_qsl(urlsplit(one.link).query))
        st.page_link(TRENDS, label="Show in Trends", icon=":material/timeline:", query_params=asked)
        who = access.person()
        if not who.is_editor:
            return
        if one.acknowledged_by is None and st.button(
            "I see to it", key=f"ack-{number}", type="tertiary", icon=":material/done:"
        ):
            at = datetime.now(UTC)
            change(view, lambda redis: history.acknowledge(redis, view.namespace, one, by=who.name, at=at))
        until = picture.muted.get(history.mute_field(one.rule, one.topic))
        if until is not None and until > clock:
            if st.button("Unmute", key=f"unmute-{number}", type="tertiary", icon=":material/notifications:"):
                silence(view, one, None)
            return
        with st.popover("Mute", icon=":material/notifications_off:", type="tertiary"):
            for label, span in MUTES.items():
                if st.button(label, key=f"mute-{number}-{label}", width="stretch"):
                    silence(view, one, clock + span)


@st.fragment
def edit(view: View) -> None:
    """The rules as text: checked as they stand, tried on what is retained, then saved."""
    with st.expander("Edit rules", icon=":material/tune:"):
        path = rules_path()
        begin_from(rules_text(path))
        text = st.text_area(
            f"Rules ({path.name})",
            height=380,
            key=RULES_TEXT,
            help="Edits count within seconds. A rule that cannot be used is refused, and nothing changes.",
        )
        try:
            rules = parse_rules(text, "these rules")
        except BadRules as error:
            st.html(notice("These rules cannot be used", [str(error)], tone="alarm"))
            return
        with st.container(horizontal=True, key="edit-actions"):
            try_it = st.button(
                f"Would have fired: last {BACKTEST_DAYS} days", key="backtest", icon=":material/history:"
            )
            save = st.button("Save", key="save-rules", type="primary", icon=":material/save:")
        if save and not access.person().is_editor:  # the right may be gone since the button was drawn
            st.html(notice("Not saved", ["Rules are for editors: log in as one (MOODSTREAM_EDITORS)."], tone="alarm"))
        elif save:
            try:
                save_rules(path, text, st.session_state[RULES_SEEN])
            except (BadRules, RulesChanged) as error:
                st.html(notice("Not saved", [str(error)], tone="alarm"))
                if isinstance(error, RulesChanged):
                    st.button("Take theirs", key="take-rules", on_click=take, args=(path,), icon=":material/sync:")
            else:
                st.session_state[RULES_SEEN] = text
                st.html(
                    notice("Saved", [f"{counted(len(rules), 'rule')}; the alert service reads them within seconds."])
                )
        if try_it:
            preview(view, rules)


def begin_from(current: str) -> None:
    """The rules as they are now, unless an edit of older ones has begun: that stays, and is told of them once saved."""
    if RULES_TEXT not in st.session_state or st.session_state[RULES_TEXT] == st.session_state[RULES_SEEN]:
        st.session_state[RULES_TEXT] = st.session_state[RULES_SEEN] = current


def take(path: Path) -> None:
    """Gives the edit up for what somebody else saved."""
    st.session_state[RULES_TEXT] = st.session_state[RULES_SEEN] = rules_text(path)


def preview(view: View, rules: tuple[Rule, ...]) -> None:
    """What these rules would have said of the days retained."""
    try:
        clock = connection.head(view.namespace).clock
        with translated(view.namespace, SETTINGS.redis_address):
            results = Results(connection.client(), view.namespace)
            found = backtest(results, rules, clock - timedelta(days=BACKTEST_DAYS), clock)
    except DashboardError as error:
        states.explain(error)
        return
    said = f"{counted(len(found), 'alert')} in the last {BACKTEST_DAYS} days"
    st.html(notice(said, ["As these rules would have opened them."]))
    if found:
        st.html(cards.history(found[::-1][:READ], view.reading))


def present_rules() -> tuple[Rule, ...]:
    """The rules in force; those shipped while the file cannot be used."""
    path = rules_path()
    try:
        return load_rules(path if path.is_file() else SHIPPED)
    except BadRules:
        return load_rules(SHIPPED)


def read(namespace: str) -> Picture:
    """Raises DashboardError."""
    head = connection.head(namespace)
    redis = connection.client()
    with translated(namespace, SETTINGS.redis_address):
        return Picture(
            heading=Heading(namespace, head.meta, head.clock),
            active=tuple(history.active_alerts(redis, namespace)),
            latest=tuple(history.latest_alerts(redis, namespace, READ)),
            checks=tuple(history.checks(redis, namespace)),
            muted=history.muted(redis, namespace, head.clock),
        )


def silence(view: View, one: Alert, until: datetime | None) -> None:
    change(view, lambda redis: history.mute(redis, view.namespace, one.rule, one.topic, until))


def change(view: View, write: Callable[[Redis], None]) -> None:
    """One write, then a fresh picture; a person may have lost the right since the button was drawn."""
    if not access.person().is_editor:
        return
    try:
        with translated(view.namespace, SETTINGS.redis_address):
            write(connection.client())
    except DashboardError as error:
        states.explain(error)
        return
    connection.forget(view.namespace)
    st.rerun()


states.frame(page, Bar(window=False))
