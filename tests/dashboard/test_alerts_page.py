"""Page Alerts as Streamlit runs it: with alerts, without, without a store, with hostile names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import streamlit as st
from redis import Redis
from streamlit.testing.v1 import AppTest

from dashboard.alerts.history import active_alerts, muted
from dashboard.alerts.rules import RulesFile
from dashboard.alerts.service import Watch
from dashboard.alerts.settings import AlertSettings
from tests.dashboard.alerts.feeds import steady
from tests.dashboard.seeding import Seed, Server

APP = Path(__file__).parents[2] / "dashboard" / "app.py"
HOSTILE = "<img src=x onerror=alert(1)> **b** [x](javascript:y)"


@pytest.fixture
def page(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AppTest:
    monkeypatch.setenv("MOODSTREAM_REDIS", server.url)
    monkeypatch.setenv("MOODSTREAM_ALERTS", str(tmp_path / "alerts.toml"))
    monkeypatch.delenv("MOODSTREAM_NAMESPACE", raising=False)
    monkeypatch.setattr("dashboard.access.listens_on", lambda: "127.0.0.1")
    st.cache_data.clear()
    st.cache_resource.clear()
    app = AppTest.from_file(str(APP), default_timeout=25)
    app.query_params["namespace"] = "run"
    app.switch_page("pages/alerts.py")
    return app


def run(page: AppTest) -> str:
    st.cache_data.clear()
    page.run()
    assert not page.exception
    return "".join(element.proto.body for element in page.get("html"))


def evaluated(redis: Redis, server: Server) -> None:
    path = Path("no-such-rules.toml")
    settings = AlertSettings(redis_url=server.url, namespace="run", rules=path)
    watch = Watch(redis, settings, RulesFile(path), frozenset({"log"}))
    while watch.step():
        pass


def test_page_shows_active_alerts_history_and_what_rules_see(
    page: AppTest, seed: Seed, redis: Redis, server: Server
) -> None:
    seed(steady(1000, 1.5, burst=(950, 1000, 6)), "run", kind="replay")
    evaluated(redis, server)
    html = run(page)
    assert "1 active" in html
    assert 'class="ms-alert ms-active ms-up"' in html
    assert "No data yet for same hour yesterday and same hour last week" in html
    assert "Sentiment shift" in html
    link = page.get("page_link")[0].proto
    assert link.label == "Show in Trends" and "namespace=run&topics=tram" in link.query_string


def test_hostile_topic_names_stay_text(page: AppTest, seed: Seed, redis: Redis, server: Server) -> None:
    seed(steady(1000, 1.5, topic=HOSTILE, burst=(950, 1000, 6)), "run", kind="replay")
    evaluated(redis, server)
    html = run(page)
    assert "<img src=x" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html


def test_page_without_evaluation_says_what_to_start(page: AppTest, seed: Seed) -> None:
    seed(steady(30, 1), "run", kind="replay")
    html = run(page)
    assert "No minute has been evaluated yet" in html
    assert "<code>MOODSTREAM_NAMESPACE=run moodstream alerts</code>" in html


def test_page_of_an_empty_namespace_says_so(page: AppTest) -> None:
    assert "No post has been scored yet" in run(page)


def test_page_without_a_store_says_so(page: AppTest, server: Server) -> None:
    server.stop()
    assert "The store does not answer" in run(page)


def test_store_gone_leaves_the_last_picture(page: AppTest, seed: Seed, redis: Redis, server: Server) -> None:
    seed(steady(1000, 1.5, burst=(950, 1000, 6)), "run", kind="replay")
    evaluated(redis, server)
    run(page)
    server.stop()
    st.cache_resource.clear()
    html = run(page)
    assert "this is the last picture" in html and "1 active" in html


def test_numbers_and_times_follow_the_link(page: AppTest, seed: Seed, redis: Redis, server: Server) -> None:
    seed(steady(1000, 1.5, burst=(950, 1000, 6)), "run", kind="replay")
    evaluated(redis, server)
    page.query_params.update({"zone": "Asia/Tokyo", "numbers": "de"})
    html = run(page)
    assert "evaluated up to 3 Mar 2026, 01:39 JST" in html
    assert re.search(r"<b>\d+,\d</b> the hours before", html) or re.search(r"anomaly strength <b>\d+,\d</b>", html)


def test_now_and_trends_show_the_alert_too(page: AppTest, seed: Seed, redis: Redis, server: Server) -> None:
    seed(steady(1000, 1.5, burst=(950, 1000, 6)), "run", kind="replay")
    evaluated(redis, server)
    page.query_params["zone"] = "Asia/Tokyo"
    page.switch_page("pages/now.py")
    html = run(page)
    assert 'href="trends?namespace=run&amp;topics=tram' in html and "&amp;zone=Asia%2FTokyo" in html
    assert 'href="alerts?namespace=run&amp;zone=Asia%2FTokyo"' in html
    page.switch_page("pages/trends.py")
    run(page)
    assert "Volume spike: tram" in page.get("vega_lite_chart")[0].proto.spec


def test_page_exposed_to_others_offers_no_change(
    page: AppTest, seed: Seed, redis: Redis, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.access.listens_on", lambda: "0.0.0.0")
    seed(steady(1000, 1.5, burst=(950, 1000, 6)), "run", kind="replay")
    evaluated(redis, server)
    run(page)
    assert not page.text_area
    assert not [button for button in page.button if button.label == "I see to it"]


def test_an_editor_acknowledges_and_mutes(page: AppTest, seed: Seed, redis: Redis, server: Server) -> None:
    seed(steady(1000, 1.5, burst=(950, 1000, 6)), "run", kind="replay")
    evaluated(redis, server)
    run(page)
    next(button for button in page.button if button.label == "I see to it").click()
    assert "seen by local" in run(page)
    next(button for button in page.button if button.label == "1 h").click()
    run(page)
    assert active_alerts(redis, "run")[0].acknowledged_by == "local"
    assert list(muted(redis, "run")) == ["Volume spike\x1ftram"]


def test_an_editor_tries_rules_and_saves_them(page: AppTest, seed: Seed, tmp_path: Path) -> None:
    seed(steady(1000, 1.5, burst=(950, 1000, 6)), "run", kind="replay")
    run(page)
    page.text_area[0].set_value('[[rule]]\nname = "mine"\nkind = "volume"\nwindows_min = [15]\n')
    next(button for button in page.button if button.label.startswith("Would have fired")).click()
    assert "1 alert in the last 7 days" in run(page)
    next(button for button in page.button if button.label == "Save").click()
    assert "Saved" in run(page)
    assert 'name = "mine"' in (tmp_path / "alerts.toml").read_text()


def test_the_second_editor_is_told_of_the_first(page: AppTest, seed: Seed, tmp_path: Path) -> None:
    theirs, mine = (f'[[rule]]\nname = "{name}"\nkind = "volume"\n' for name in ("theirs", "mine"))
    path = tmp_path / "alerts.toml"
    seed(steady(30, 1), "run", kind="replay")
    run(page)
    page.text_area[0].set_value(mine)
    run(page)
    path.write_text(theirs)
    page.button(key="save-rules").click()
    assert "alerts.toml was saved by somebody else meanwhile" in run(page)
    assert path.read_text() == theirs
    page.button(key="take-rules").click()
    run(page)
    assert page.text_area[0].value == theirs
    page.text_area[0].set_value(mine)
    page.button(key="save-rules").click()
    assert "Saved" in run(page)
    assert path.read_text() == mine


def test_who_lost_the_right_since_the_button_was_drawn_saves_nothing(
    page: AppTest, seed: Seed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed(steady(30, 1), "run", kind="replay")
    run(page)
    page.text_area[0].set_value('[[rule]]\nname = "mine"\nkind = "volume"\nwindows_min = [15]\n')
    run(page)
    next(button for button in page.button if button.label == "Save").click()
    monkeypatch.setattr("dashboard.access.listens_on", lambda: "0.0.0.0")
    run(page)
    assert not (tmp_path / "alerts.toml").exists()


def test_rules_that_cannot_be_used_are_refused(page: AppTest, seed: Seed, tmp_path: Path) -> None:
    seed(steady(30, 1), "run", kind="replay")
    run(page)
    page.text_area[0].set_value('[[rule]]\nname = "mine"\nkind = "magic"\n')
    assert "These rules cannot be used" in run(page)
    assert not (tmp_path / "alerts.toml").exists()
