"""Page `Topics` as Streamlit runs it: listed, tried, saved, applied."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from streamlit.testing.v1 import AppTest

from inference_worker.contract import Results
from ingest.topics.definitions import load_topics
from tests.dashboard.opening import open_page, run
from tests.dashboard.seeding import NOW, Seed, Server, prediction

TOPICS = '# mine\n\n[[topic]]\nname = "Tram"\nquery = "tram OR trams"\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(TOPICS)
    return path


@pytest.fixture
def page(server: Server, path: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    page = open_page("topics", server.url, monkeypatch)
    monkeypatch.setenv("MOODSTREAM_TOPICS", str(path))
    return page


def posts() -> list:
    now = datetime.now(NOW.tzinfo)
    texts = ("the tram is late", "coffee", "trams again", "good coffee")
    return [prediction(n, now - timedelta(minutes=n), text=text) for n, text in enumerate(texts)]


def press(page: AppTest, label: str) -> None:
    next(button for button in page.button if button.label == label).click()


def field(page: AppTest, label: str) -> Any:
    return next(found for found in (*page.text_input, *page.text_area) if found.label == label)


def test_topics_are_listed_with_their_volume(page: AppTest, seed: Seed) -> None:
    seed([prediction(1, datetime.now(NOW.tzinfo), topics=("Tram", "Gone"))])
    html = run(page)
    assert "Tram</b><code>tram OR trams</code><span>1 post, +0.60" in html
    assert "Gone</b><code>not in the file any more" in html


def test_a_query_is_tried_before_it_is_saved(page: AppTest, seed: Seed, path: Path) -> None:
    seed(posts())
    run(page)
    field(page, "Query").set_value("coffee -good from:ann")
    html = run(page)
    assert "<b>0</b> of the newest 4 retained posts match" in html
    assert "from: cannot be told for posts already scored" in html
    field(page, "Query").set_value("coffee -good")
    html = run(page)
    assert "<b>1</b> of the newest 4 retained posts match" in html
    assert path.read_text() == TOPICS


def test_a_bad_query_is_told_with_its_column(page: AppTest, seed: Seed) -> None:
    seed(posts())
    run(page)
    field(page, "Query").set_value("coffee )")
    assert "Column 8: unexpected" in run(page)


def test_a_new_topic_is_saved_and_applied(page: AppTest, seed: Seed, path: Path, redis: Redis) -> None:
    seed(posts())
    run(page)
    field(page, "Name").set_value("Coffee")
    field(page, "Query").set_value("coffee")
    run(page)
    press(page, "Save")
    run(page)
    assert load_topics(path).queries == {"Tram": "tram OR trams", "Coffee": "coffee"}
    assert path.read_text().startswith(TOPICS)
    press(page, "Apply to retained posts")
    assert "<b>4</b> of 4 posts moved." in run(page)
    assert Results(redis, "live").total("Coffee").posts == 2
    press(page, "Apply to retained posts")
    assert "<b>0</b> of 4 posts moved." in run(page)


def test_a_topic_is_deleted(page: AppTest, seed: Seed, path: Path) -> None:
    seed(posts())
    page.query_params["topic"] = "Tram"
    run(page)
    press(page, "Delete")
    run(page)
    assert load_topics(path).queries == {}


def test_a_reader_may_only_try(page: AppTest, seed: Seed, monkeypatch: pytest.MonkeyPatch) -> None:
    seed(posts())
    monkeypatch.setattr("dashboard.access.listens_on", lambda: "0.0.0.0")
    assert "saving them is for editors" in run(page)
    assert not [button for button in page.button if button.label in ("Save", "Delete", "Apply to retained posts")]


def test_an_open_page_of_somebody_who_is_no_longer_an_editor_saves_nothing(
    page: AppTest, seed: Seed, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed(posts())
    run(page)
    field(page, "Name").set_value("Coffee")
    field(page, "Query").set_value("coffee")
    run(page)
    monkeypatch.setattr("dashboard.access.listens_on", lambda: "0.0.0.0")
    press(page, "Save")
    run(page)
    assert path.read_text() == TOPICS


def test_a_file_that_cannot_be_read_is_told(page: AppTest, seed: Seed, path: Path) -> None:
    seed(posts())
    path.write_text('[[topic]]\nname = "<b>x</b>"\nquery = "("\n')
    html = run(page)
    assert "The topics cannot be read" in html and "<b>x</b>" not in html


def test_nothing_scored_yet(page: AppTest) -> None:
    assert "No post has been scored yet" in run(page)


def test_store_gone(page: AppTest, server: Server) -> None:
    server.stop()
    assert "The store does not answer" in run(page)


def test_store_gone_leaves_the_last_picture(page: AppTest, seed: Seed, server: Server) -> None:
    seed(posts())
    run(page)
    server.stop()
    html = run(page)
    assert "this is the last picture" in html and "Tram</b><code>" in html
