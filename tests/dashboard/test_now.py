"""The page as Streamlit runs it: with data, without, without a store, with hostile posts."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from html import escape, unescape
from pathlib import Path

import pytest
import streamlit as st
from redis import Redis
from streamlit.testing.v1 import AppTest

from inference_worker.contract import Results
from tests.dashboard.seeding import NOW, TOPICS, Seed, Server, feed, prediction, worker_state

APP = Path(__file__).parents[2] / "dashboard" / "app.py"
HOSTILE = (
    "<script>document.title='owned'</script><img src=x onerror=alert(1)>",
    "**bold** [click](javascript:alert(1)) ![x](https://tracker.example/x.png)",
    ":red[alarm] $\\href{javascript:alert(1)}{x}$ :material/warning:",
    '"></div><iframe srcdoc="<script>alert(1)</script>">',
)


@pytest.fixture
def page(server: Server, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """The app, not yet run."""
    monkeypatch.setenv("MOODSTREAM_REDIS", server.url)
    monkeypatch.delenv("MOODSTREAM_NAMESPACE", raising=False)
    st.cache_data.clear()
    st.cache_resource.clear()
    return AppTest.from_file(str(APP), default_timeout=25)


def run(page: AppTest) -> str:
    """Run without any error shown; all HTML of the page."""
    st.cache_data.clear()
    st.cache_resource.clear()
    page.run()
    assert not page.exception
    return "".join(element.proto.body for element in page.get("html"))


def words(html: str) -> list[str]:
    """Texts of the posts shown, as a reader sees them; an element within one would be left as it is."""
    return [unescape(text) for text in re.findall(r'<p class="ms-text" dir="auto">(.*?)</p>', html, re.DOTALL)]


def live_feed(count: int = 300) -> list:
    now = datetime.now(NOW.tzinfo)
    return feed(count, until=now)


def test_page_shows_mood_certainty_charts_and_posts(page: AppTest, seed: Seed) -> None:
    seed(live_feed(), kind="sample", dead_letters=2, duplicates=3, worker=worker_state())
    html = run(page)
    assert "Sample feed: written and drawn by the project, not live data" in html
    for topic in ("All posts", *TOPICS):
        assert f'<h3 class="ms-topic">{topic}</h3>' in html
    for fact in (
        "300 posts; none sampled out",
        "Duplicates</dt><dd>3",
        "Dead letters</dt><dd>2",
        "Latency</dt><dd>180 ms",
    ):
        assert fact in html
    assert len(page.get("vega_lite_chart")) == 8
    assert len(words(html)) >= 4
    assert '<a class="ms-link" href="https://' in html
    assert html.count('class="ms-views"') == 6


def test_replay_opens_on_all_of_its_own_time(page: AppTest, seed: Seed) -> None:
    seed(
        feed(300, until=datetime(2015, 2, 24, 19, 21, tzinfo=NOW.tzinfo), span=timedelta(days=7)),
        "airline",
        kind="replay",
    )
    page.query_params["namespace"] = "airline"
    html = run(page)
    assert "Replay: an archived feed" in html
    assert "24 Feb 2015" in html
    assert "300 posts; none sampled out" in html
    assert page.get("button_group")[0].value == "all"


def test_link_holds_the_view(page: AppTest, seed: Seed) -> None:
    seed(live_feed())
    page.query_params["window"] = "6h"
    page.query_params["topics"] = ["Line 9 tram", "no such topic"]
    html = run(page)
    assert "per 5 minutes" in html
    assert html.count('class="ms-topic"') == 1
    assert 'class="ms-topic">Line 9 tram' in html


def test_choice_enters_the_link(page: AppTest, seed: Seed) -> None:
    seed(live_feed())
    run(page)
    window, topics = page.get("button_group")[:2]
    window.set_value("24h")
    topics.set_value(["Line 9 tram"])
    assert "per hour" in run(page)
    assert page.query_params["window"] == "24h"
    assert page.query_params["topics"] in ("Line 9 tram", ["Line 9 tram"])


def test_empty_namespace_says_what_to_do(page: AppTest) -> None:
    html = run(page)
    assert "No post has been scored yet" in html
    assert "<code>moodstream up</code>" in html


def test_page_fills_when_the_first_post_comes(page: AppTest, seed: Seed) -> None:
    run(page)
    seed(live_feed())
    assert "ms-tile" in run(page)


def test_impossible_namespace_is_told_inert(page: AppTest) -> None:
    page.query_params["namespace"] = "<b>x</b>"
    html = run(page)
    assert "There is no such view" in html
    assert "<b>x</b>" not in html


def test_store_never_there_says_what_to_do(page: AppTest, server: Server) -> None:
    server.stop()
    html = run(page)
    assert "The store does not answer" in html
    assert "MOODSTREAM_REDIS" in html


def test_store_that_goes_leaves_the_last_picture_and_comes_back(page: AppTest, server: Server, seed: Seed) -> None:
    seed(live_feed())
    run(page)
    server.stop()
    html = run(page)
    assert "this is the last picture" in html
    assert "ms-tile" in html and 'class="ms-views"' in html
    server.start()
    seed(live_feed())
    html = run(page)
    assert "last picture" not in html
    assert "ms-tile" in html


def test_hostile_posts_are_shown_as_they_are(page: AppTest, seed: Seed) -> None:
    now = datetime.now(NOW.tzinfo)
    posts = [
        prediction(
            number, now, text=text, topics=(text,), url="javascript:alert(1)", alt=(text,), images=1, warnings=(text,)
        )
        for number, text in enumerate(HOSTILE)
    ]
    seed(posts, source=HOSTILE[0])
    html = run(page)
    assert {text for text in words(html)} == set(HOSTILE)
    assert all(f'<p class="ms-text" dir="auto">{escape(text)}</p>' in html for text in HOSTILE)
    assert "<a " not in html
    for tag in ("<script", "<iframe", "onerror=alert(1)>"):
        assert tag not in html
    assert re.sub('<img src="data:image/jpeg;base64,[A-Za-z0-9+/=]+" alt="[^"<>]*">', "", html).count("<img") == 0
    assert not [element for element in page.markdown if "alert" in element.value]


def test_sensitive_picture_waits_until_it_is_asked_for(page: AppTest, seed: Seed) -> None:
    seed([prediction(1, datetime.now(NOW.tzinfo), images=1, sensitive=True)])
    assert "ms-frosted" in run(page)
    assert "data:image/jpeg" not in run(page)
    next(button for button in page.button if button.label == "Show picture").click()
    html = run(page)
    assert "ms-frosted" not in html
    assert html.count('<img src="data:image/jpeg') == 1


def test_posts_hold_still_while_they_are_read_but_for_one_deleted(page: AppTest, seed: Seed, redis: Redis) -> None:
    now = datetime.now(NOW.tzinfo)
    seed([prediction(1, now - timedelta(seconds=5), text="the first")])
    run(page)
    page.toggle[0].set_value(True)
    run(page)
    seed([prediction(2, now, text="the second")], first_offset=10)
    assert words(run(page)) == ["the first"]
    redis.delete(Results(redis, "live").keys_of("sample:1").post("sample:1"))
    assert words(run(page)) == []
    page.toggle[0].set_value(False)
    assert words(run(page)) == ["the second"]


def test_dead_worker_is_noticed(page: AppTest, seed: Seed) -> None:
    seed(live_feed())
    assert "start one: <code>moodstream worker</code>" in run(page)
