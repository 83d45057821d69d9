"""Page `Runs`: the replays there are, one of them in detail, and two side by side."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboard import cards, connection, markup, runs_view
from dashboard.charts import Spec
from dashboard.evaluation.comparison import Comparison, NothingShared, compare
from dashboard.evaluation.feed import BadPredictions
from dashboard.evaluation.judgement import Judgement
from dashboard.report import comparison, figures, words
from dashboard.report.outcome import BadResult, Outcome, read_outcome
from dashboard.runs import (
    PREDICTIONS_FILE,
    REPORT_FILE,
    RESULT_FILE,
    SUMMARY_FILE,
    Entry,
    Listing,
    changed_ns,
    listing,
)

SETTINGS = connection.settings()
RUNS = SETTINGS.runs
DOWNLOADS = (
    (REPORT_FILE, "Report", "text/html", ":material/description:"),
    (SUMMARY_FILE, "Summary", "text/markdown", ":material/notes:"),
    (PREDICTIONS_FILE, "Predictions", "application/vnd.apache.parquet", ":material/table_rows:"),
)


def page() -> None:
    st.html(Path(runs_view.__file__).with_name("runs.css"))
    found = listing(RUNS, limit=runs_view.RUNS_SHOWN)
    if not found.entries:
        st.html(no_runs(found.broken))
        return
    chosen, against = choice(found)
    overview(chosen.name, against.name if against else None)
    if against is not None:
        side_by_side(chosen, against)
    else:
        detail(chosen)


def no_runs(broken: int) -> str:
    passed = [f"{words.counted(broken, 'folder')} passed over: no readable run.json."] if broken else []
    return markup.notice(
        "No replay yet",
        [
            f"This page shows the replays kept in {RUNS} (MOODSTREAM_RUNS).",
            "A replay sends an archived feed through the live pipeline and says how right the model was:",
            *passed,
        ],
        ["moodstream replay FILE"],
    )


def choice(found: Listing) -> tuple[Entry, Entry | None]:
    """The run looked at and the one it is held against; both stand in the link."""
    names = [entry.name for entry in found.entries]
    link = st.query_params
    with st.container(key="filters", horizontal=True, vertical_alignment="center"):
        first = found.find(link.get("run")) or found.entries[0]
        name = st.selectbox("Run", names, index=names.index(first.name), width=320)
        others = [one for one in names if one != name]
        second = link.get("against")
        place = others.index(second) if second in others else None
        other = st.selectbox("Against", others, index=place, placeholder="another run", width=320)
    link["run"] = name
    if other:
        link["against"] = other
    else:
        link.pop("against", None)
    return found.find(name) or first, found.find(other)


@st.fragment(run_every=SETTINGS.refresh_s)
def overview(chosen: str, against: str | None) -> None:
    """The list, as it is now."""
    found = listing(RUNS, limit=runs_view.RUNS_SHOWN)
    rows = [(entry, judged(entry)) for entry in found.entries]
    st.html(runs_view.table(rows, [name for name in (chosen, against) if name], found.broken))


def judged(entry: Entry) -> Judgement | None:
    return _judgement(str(entry.folder), entry.judged_ns, entry)


@st.cache_resource(show_spinner=False, max_entries=256)
def _judgement(folder: str, judged_ns: int, _entry: Entry) -> Judgement | None:
    return runs_view.judgement(_entry)


@st.cache_resource(show_spinner=False, max_entries=16)
def _course(folder: str, changed_ns: int) -> figures.Course | None:
    return figures.course(Path(folder) / PREDICTIONS_FILE) if changed_ns else None


@st.cache_resource(show_spinner=False, max_entries=256)
def _outcome(folder: str, changed_ns: int) -> Outcome:
    try:
        return read_outcome(Path(folder))
    except BadResult:
        return Outcome()


def detail(entry: Entry) -> None:
    """How right, how sure, and when."""
    st.html(runs_view.head(entry))
    judgement = judged(entry)
    if judgement is None:
        st.html(markup.notice("Not judged yet", ["The figures come once the replay is through and was judged."]))
        downloads(entry)
        return
    outcome = _outcome(str(entry.folder), changed_ns(entry.folder / RESULT_FILE))
    st.html(runs_view.story(words.story(judgement, outcome, entry.run)) + runs_view.tiles(judgement))
    downloads(entry)
    if judgement.labelled:
        st.html(runs_view.contenders(judgement))
        curves(judgement)
        sureness(judgement)
    course = _course(str(entry.folder), changed_ns(entry.folder / PREDICTIONS_FILE))
    if course is not None:
        st.html(markup.course_head(course.per))
        left, right = st.columns([3, 2], gap="medium")
        chart(left, "All posts", course.mood, "mood")
        chart(right, "All posts · volume", course.volume, "volume")


@st.cache_resource(show_spinner="Comparing the two", max_entries=16)
def _comparison(first: str, second: str, changed_ns: tuple[int, int]) -> Comparison | str:
    """Or why there is none."""
    try:
        return compare(Path(first) / PREDICTIONS_FILE, Path(second) / PREDICTIONS_FILE)
    except (BadPredictions, NothingShared) as error:
        return str(error)


def side_by_side(first: Entry, second: Entry) -> None:
    """Which of the two is better, and the posts they disagree on."""
    files = [entry.folder / PREDICTIONS_FILE for entry in (first, second)]
    missing = [entry.name for entry, file in zip((first, second), files, strict=True) if not file.is_file()]
    if missing:
        st.html(markup.notice("Not through yet", [f"{missing[0]} has no {PREDICTIONS_FILE}: wait for its end."]))
        return
    changed = changed_ns(files[0]), changed_ns(files[1])
    compared = _comparison(str(first.folder), str(second.folder), changed)
    if isinstance(compared, str):
        st.html(markup.notice("These two cannot be compared", [compared]))
        return
    names = (first.name, second.name)
    st.html(runs_view.compared(compared, names))
    one, two = judged(first), judged(second)
    if one is not None and two is not None:
        st.html(runs_view.curve_key(names, has_flags=False))
        for place, (measure, title) in zip(st.columns(2, gap="medium"), figures.MEASURES.items(), strict=True):
            chart(place, title, comparison.curve_spec(one, two, names, measure), f"both-{measure}")
    st.subheader("Posts they disagree on", anchor=False)
    with st.container(key="posts"):
        for slot, post in enumerate(compared.disagreements[: comparison.POSTS_SHOWN]):
            with st.container(key=f"post-{slot}", border=True, gap="small"):
                st.html(runs_view.disagreement(post, names))
                st.text(cards.shortened(post.text) or "no text")


def downloads(entry: Entry) -> None:
    """What the replay left, to keep or to send on; read only when it is asked for."""
    with st.container(key="downloads", horizontal=True, gap="small"):
        for file, title, mime, icon in DOWNLOADS:
            path = entry.folder / file
            if path.is_file():
                name = f"{entry.name}-{file}"
                st.download_button(
                    title, path.read_bytes, name, mime, key=f"download-{file}", on_click="ignore", icon=icon
                )


def curves(judgement: Judgement) -> None:
    names = figures.curve_names(judgement.curves)
    if not names:
        return
    st.subheader("Over the feed’s own time", anchor=False)
    st.html(runs_view.curve_key(names, bool(judgement.drift.flags)))
    for place, (measure, title) in zip(st.columns(2, gap="medium"), figures.MEASURES.items(), strict=True):
        chart(place, title, figures.prequential(judgement.curves, judgement.drift.flags, measure), f"curve-{measure}")


def sureness(judgement: Judgement) -> None:
    reliability, risk = figures.reliability(judgement.calibration), figures.risk_coverage(judgement)
    st.subheader("How far to trust its confidence", anchor=False)
    left, right = st.columns(2, gap="medium")
    if reliability is not None:
        chart(left, "How sure, how right", reliability.diagram, "reliability")
    chart(right, "Answering less, erring less", risk, "risk")


def chart(place: st.delta_generator.DeltaGenerator, title: str, spec: Spec | None, key: str) -> None:
    if spec is not None:
        place.html(markup.course_topic(title))
        place.vega_lite_chart(spec, key=key, alt=title)


page()
