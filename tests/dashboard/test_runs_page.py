"""The page Runs as Streamlit runs it: without runs, with some, broken and hostile ones, and two side by side."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import streamlit as st
from msgspec.structs import replace
from streamlit.testing.v1 import AppTest

from dashboard.report.render import write_report
from dashboard.runs import JUDGEMENT_FILE, PAUSE_FILE, RUN_FILE, locked
from tests.dashboard.report.folders import BEGAN, judged, posts, unlabelled, write_folder

PAGE = Path(__file__).parents[2] / "dashboard" / "pages" / "runs.py"
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOODSTREAM_RUNS", str(tmp_path))
    st.cache_resource.clear()
    return tmp_path


@pytest.fixture
def page(runs: Path) -> AppTest:
    return AppTest.from_file(str(PAGE), default_timeout=25)


def run(page: AppTest) -> str:
    """Run without any error shown; all HTML of the page."""
    page.run()
    assert not page.exception
    return "".join(element.proto.body for element in page.get("html"))


def test_without_runs_the_page_says_how_to_make_one(page: AppTest) -> None:
    html = run(page)
    assert "No replay yet" in html
    assert "<code>moodstream replay FILE</code>" in html


def test_a_judged_run_is_told_in_words_figures_and_charts(page: AppTest, runs: Path) -> None:
    predictions = posts(300)
    write_report(write_folder(runs / "airline", predictions, judged(predictions)))
    html = run(page)
    assert "300 posts, written from 16 February 2015 to 24 February 2015" in html
    assert "bag of words" in html
    assert '<span class="ms-state ms-done">done</span>' in html
    assert len(page.get("vega_lite_chart")) == 6
    assert [button.proto.label for button in page.get("download_button")] == ["Report", "Summary", "Predictions"]
    assert page.query_params["run"] == "airline"


def test_a_run_without_labels_shows_its_mood_alone(page: AppTest, runs: Path) -> None:
    predictions = posts(300)
    write_folder(runs / "unlabelled", predictions, unlabelled(predictions))
    html = run(page)
    assert "None of them carries a label" in html
    assert len(page.get("vega_lite_chart")) == 2


def test_a_running_replay_shows_how_far_it_is_and_whether_it_pauses(page: AppTest, runs: Path) -> None:
    folder = write_folder(runs / "now", [], None, status="running", settled=250, expected=1000)
    with locked(folder):
        html = run(page)
        assert '<span class="ms-state ms-running">running</span>' in html
        assert 'style="width:25.0%"' in html
        assert "Not judged yet" in html
        (folder / PAUSE_FILE).touch()
        assert '<span class="ms-state ms-paused">paused</span>' in run(page)
    (folder / PAUSE_FILE).unlink()
    assert '<span class="ms-state ms-interrupted">interrupted</span>' in run(page)


def test_what_cannot_be_read_is_passed_over_and_counted(page: AppTest, runs: Path) -> None:
    predictions = posts(60)
    write_folder(runs / "good", predictions, judged(predictions))
    for name in ("broken", "worse"):
        write_folder(runs / name, [], None)
        (runs / name / RUN_FILE).write_bytes(b"{")
    folder = write_folder(runs / "unjudged", [], None, started_at=BEGAN - timedelta(days=1))
    (folder / JUDGEMENT_FILE).write_bytes(b"[]")
    html = run(page)
    assert "2 folders passed over" in html
    assert "unjudged" in html


def test_only_broken_runs_are_counted_on_the_empty_page(page: AppTest, runs: Path) -> None:
    write_folder(runs / "broken", [], None)
    (runs / "broken" / RUN_FILE).write_bytes(b"{")
    assert "1 folder passed over" in run(page)


def test_the_link_chooses_the_runs_and_follows_the_choice(page: AppTest, runs: Path) -> None:
    predictions = posts(60)
    for number, name in enumerate(("first", "second", "third")):
        write_folder(runs / name, predictions, judged(predictions), started_at=BEGAN + timedelta(days=number))
    page.query_params["run"] = "first"
    page.query_params["against"] = "nowhere"
    run(page)
    assert page.selectbox[0].value == "first"
    assert page.selectbox[1].value is None
    page.selectbox[0].select("second")
    run(page)
    assert page.query_params["run"] == "second"


def test_hostile_names_are_only_read(page: AppTest, runs: Path) -> None:
    write_folder(runs / "hostile", [], None, archive=HOSTILE, model=HOSTILE, error=HOSTILE, status="failed")
    html = run(page)
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;script&gt;document.title" in html


def test_a_judgement_written_anew_is_shown_anew(page: AppTest, runs: Path) -> None:
    predictions = posts(60)
    write_folder(runs / "airline", predictions, unlabelled(predictions))
    assert "None of them carries a label" in run(page)
    write_folder(runs / "airline", predictions, judged(predictions))
    assert "All carry a label" in run(page)


def test_two_runs_stand_side_by_side_with_the_posts_they_disagree_on(page: AppTest, runs: Path) -> None:
    predictions = posts(300)
    other = [
        replace(one, predicted="neutral", text=f"{HOSTILE} {one.text}") if number % 3 == 0 else one
        for number, one in enumerate(predictions)
    ]
    write_folder(runs / "old", other, judged(other))
    write_folder(runs / "new", predictions, judged(predictions))
    page.query_params["run"] = "old"
    page.query_params["against"] = "new"
    html = run(page)
    assert "On the 300 labelled posts both scored, new is the better one, by" in html
    assert "McNemar’s test" in html
    assert len(page.get("vega_lite_chart")) == 2
    assert html.count('class="ms-card-head"') == 24
    assert any(element.value.startswith(HOSTILE) for element in page.text)
    assert "<script" not in html


def test_runs_without_a_post_in_common_are_told_apart(page: AppTest, runs: Path) -> None:
    write_folder(runs / "one", posts(60), None)
    write_folder(runs / "other", [replace(one, id=f"x:{one.id}") for one in posts(60)], None)
    page.query_params["run"] = "one"
    page.query_params["against"] = "other"
    assert "share no labelled post" in run(page)


def test_a_run_without_predictions_cannot_be_compared_yet(page: AppTest, runs: Path) -> None:
    for name in ("one", "other"):
        write_folder(runs / name, posts(60), None)
    (runs / "other" / "predictions.parquet").unlink()
    page.query_params["run"] = "one"
    page.query_params["against"] = "other"
    assert "other has no predictions.parquet" in run(page)
