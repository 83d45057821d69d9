"""The pages Trends and Health as Streamlit runs them, and the way between pages."""

from __future__ import annotations

import ast
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboard import connection, filters
from dashboard.filters import Bar, View
from dashboard.queries import Outline
from tests.dashboard.seeding import NOW, Seed, Server, feed, prediction, worker_state

APP = Path(__file__).parents[2] / "dashboard" / "app.py"
PAGES = ("pages/now.py", "pages/trends.py", "pages/health.py")
HOSTILE = (
    "<script>alert(1)</script>",
    "**b** [x](javascript:alert(1)) :red[y]",
    '"><img src=x onerror=alert(1)>',
    "$\\href{javascript:alert(1)}{x}$",
)


@pytest.fixture
def page(server: Server, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """The app, not yet run."""
    monkeypatch.setenv("MOODSTREAM_REDIS", server.url)
    monkeypatch.delenv("MOODSTREAM_NAMESPACE", raising=False)
    monkeypatch.delenv("MOODSTREAM_INGEST_HEALTH", raising=False)
    return AppTest.from_file(str(APP), default_timeout=25)


def run(page: AppTest, name: str) -> str:
    """Go to a page and run it without any error shown; all of its HTML."""
    st.cache_data.clear()
    st.cache_resource.clear()
    link = dict(page.query_params)
    page.run()
    if name != PAGES[0]:
        page.query_params.update(link)
        page.switch_page(name).run()
    assert not page.exception
    return "".join(element.proto.body for element in page.get("html"))


def live_feed(count: int = 300) -> list:
    return feed(count, until=datetime.now(UTC))


def huge_feed() -> list:
    """20 topics over 24 hours."""
    now = datetime.now(UTC)
    return [
        prediction(number, now - timedelta(minutes=1.2 * number), topics=(f"topic {number % 20:02d}",))
        for number in range(1200)
    ]


def test_trends_compares_topics_and_offers_exports(page: AppTest, seed: Seed) -> None:
    seed(live_feed(), worker=worker_state())
    html = run(page, "pages/trends.py")
    for title in ("Mood", "Volume", "Classes", "Share of voice", "Text against image", "Doubt"):
        assert f"<h2>{title} <small>" in html
    assert len(page.get("vega_lite_chart")) == 6
    assert {button.label for button in page.get("download_button")} == {"CSV", "SVG", "PNG"}


def test_trends_shows_the_range_of_its_link(page: AppTest, seed: Seed) -> None:
    seed(feed(300))
    page.query_params["from"] = "2026-05-04T09:00:00Z"
    page.query_params["to"] = "2026-05-04T12:00:00Z"
    assert "net sentiment per 5 minutes" in run(page, "pages/trends.py")


@pytest.mark.parametrize(
    ("start", "end", "says"),
    [
        ("yesterday", "2026-05-04T12:00:00Z", "is no time"),
        ("2026-05-04T12:00:00Z", "2026-05-04T09:00:00Z", "turn them round"),
        ("1900-01-01T00:00:00Z", "2026-05-04T09:00:00Z", "at most 21 years"),
    ],
)
def test_impossible_ranges_are_told(page: AppTest, seed: Seed, start: str, end: str, says: str) -> None:
    seed(feed(30))
    page.query_params["from"], page.query_params["to"] = start, end
    html = run(page, "pages/trends.py")
    assert "There is no such view" in html
    assert says in html


def test_a_link_inside_the_app_wins_over_what_was_chosen_before(page: AppTest, seed: Seed) -> None:
    seed(live_feed())
    run(page, "pages/trends.py")
    topics = next(group for group in page.get("button_group") if group.label == "Topics")
    topics.set_value(["Line 9 tram"]).run()
    assert page.query_params["topics"] in ("Line 9 tram", ["Line 9 tram"])
    page.query_params["topics"] = "Bluebird Coffee"
    page.query_params["window"] = "6h"
    page.run()
    assert not page.exception
    chosen = {group.label: group.value for group in page.get("button_group")}
    assert (chosen["Topics"], chosen["Window"]) == (["Bluebird Coffee"], "6h")
    assert page.query_params["topics"] in ("Bluebird Coffee", ["Bluebird Coffee"])


def test_topics_newer_than_the_picture_cost_one_run_at_most(
    page: AppTest, seed: Seed, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed(live_feed())
    run(page, "pages/trends.py")
    seed([prediction(9999, datetime.now(UTC), topics=("new",))], first_offset=9999)
    runs: list[View] = []
    choose = filters.view_choice

    def counted(namespace: str, outline: Outline, bar: Bar) -> View:
        runs.append(choose(namespace, outline, bar))
        return runs[-1]

    monkeypatch.setattr("dashboard.filters.view_choice", counted)
    connection.forget("live")
    page.run()
    assert not page.exception
    assert len(runs) <= 2
    assert "new" in next(group for group in page.get("button_group") if group.label == "Topics").options


def test_health_shows_workers_letters_and_the_model_card(page: AppTest, seed: Seed) -> None:
    seed(live_feed(), dead_letters=3, worker=worker_state())
    html = run(page, "pages/health.py")
    for words in ("worker-1", "p50 180 ms · p95 420 ms · p99 900 ms", "Engine busy", "Padding wasted"):
        assert words in html
    letters = page.dataframe[0].value
    assert list(letters["Error"]) == ["not a Moodstream record"] * 3
    assert sorted(place.split(":")[1] for place in letters["Place"]) == ["0", "1", "2"]
    assert list(letters["Worker"]) == list(letters["Sent again"]) == [""] * 3
    assert [element.value for element in page.markdown if element.value.startswith("#")]


def test_health_asks_ingest_where_it_is_told_to(page: AppTest, seed: Seed, monkeypatch: pytest.MonkeyPatch) -> None:
    seed(live_feed(30))
    assert "No ingest process is known here" in run(page, "pages/health.py")
    monkeypatch.setenv("MOODSTREAM_INGEST_HEALTH", "127.0.0.1:9")
    html = run(page, "pages/health.py")
    assert "nobody listens there" in html


@pytest.mark.parametrize("name", PAGES)
def test_empty_namespace_says_what_to_do(page: AppTest, name: str) -> None:
    assert "No post has been scored yet" in run(page, name)


@pytest.mark.parametrize("name", PAGES)
def test_store_never_there_says_what_to_do(page: AppTest, server: Server, name: str) -> None:
    server.stop()
    assert "The store does not answer" in run(page, name)


@pytest.mark.parametrize("name", PAGES[1:])
def test_store_that_goes_leaves_the_last_picture(page: AppTest, server: Server, seed: Seed, name: str) -> None:
    seed(live_feed(), worker=worker_state())
    run(page, name)
    server.stop()
    st.cache_resource.clear()
    page.run()
    html = "".join(element.proto.body for element in page.get("html"))
    assert not page.exception
    assert "this is the last picture" in html
    assert "ms-header" in html


@pytest.mark.parametrize("name", PAGES)
def test_twenty_topics_fit(page: AppTest, seed: Seed, name: str) -> None:
    seed(huge_feed())
    page.query_params["window"] = "24h"
    html = run(page, name)
    assert "ms-header" in html
    assert html.count('class="ms-topic"') == (8 if name == PAGES[0] else 0)


@pytest.mark.parametrize(("name", "says"), [("pages/now.py", "8 of 51 topics"), ("pages/trends.py", "8 of 51 topics")])
def test_what_is_not_shown_of_many_topics_is_counted(page: AppTest, seed: Seed, name: str, says: str) -> None:
    now = datetime.now(UTC)
    names = [f"topic {number:02d}" for number in range(50)]
    seed([prediction(number, now, topics=(topic,)) for number, topic in enumerate((*names, *names[-3:]))])
    html = run(page, name)
    assert says in html
    assert "topic 49" in html if name == "pages/now.py" else "topic 49" in page.get("vega_lite_chart")[0].proto.spec
    page.query_params["topics"] = ["topic 00"]
    assert "topics, the busiest" not in run(page, name)


@pytest.mark.parametrize("name", PAGES)
def test_hostile_names_stay_words(page: AppTest, seed: Seed, name: str) -> None:
    now = datetime.now(UTC)
    posts = [prediction(number, now, topics=(text,), images=1) for number, text in enumerate(HOSTILE)]
    state = worker_state(HOSTILE[2])
    seed(posts, source=HOSTILE[0], dead_letters=1, worker=state)
    html = run(page, name)
    assert "&lt;script&gt;" in html
    own = re.sub('<img src="data:image/jpeg;base64,[A-Za-z0-9+/=]+" alt="[^"<>]*">', "", html)
    for tag in ("<script", "<img", "onerror=alert(1)>"):
        assert tag not in own.replace(quote(HOSTILE[2]), "")


def test_numbers_and_times_follow_the_link(page: AppTest, seed: Seed) -> None:
    seed(feed(1500, until=NOW), kind="replay")
    page.query_params.update({"zone": "Europe/Berlin", "numbers": "de"})
    html = run(page, "pages/now.py")
    assert "4 May 2026, 14:30 CEST" in html
    assert "<b>1.500</b> posts" in html


def test_unknown_zone_is_told(page: AppTest, seed: Seed) -> None:
    seed(feed(30))
    page.query_params["zone"] = "Mars/Olympus"
    assert "is no IANA time zone" in run(page, "pages/now.py")


@pytest.mark.parametrize("path", sorted(APP.parent.glob("pages/*.py")), ids=lambda path: path.stem)
def test_no_page_has_a_bare_string_streamlit_would_show(path: Path) -> None:
    first, *others = ast.parse(path.read_text()).body
    assert isinstance(first, ast.Expr)
    assert not [one for one in others if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant)]
