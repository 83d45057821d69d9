"""Page `Why` as Streamlit runs it: with a change, without one, without posts or store."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from streamlit.testing.v1 import AppTest

from tests.dashboard.opening import open_page, run
from tests.dashboard.seeding import NOW, Seed, Server, prediction


@pytest.fixture
def page(server: Server, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    return open_page("why", server.url, monkeypatch)


def swing(now: datetime) -> list:
    """Two hours: coffee, then 60 posts on a broken tram."""
    good = [
        prediction(n, now - timedelta(minutes=115 - n * 0.5), text="nice coffee today", fused=(0.8, 0.1, 0.1))
        for n in range(80)
    ]
    bad = [
        prediction(
            100 + n,
            now - timedelta(minutes=30 - n * 0.4),
            text=f"the tram broke down again #line9 😡 {n}",
            fused=(0.05, 0.1, 0.85),
            author=f"{n % 6:04x}",
            images=1,
            image_hashes=(bytes(32),),
        )
        for n in range(60)
    ]
    return [*good, *bad]


def test_a_swing_is_told_in_sentences(page: AppTest, seed: Seed) -> None:
    seed(swing(datetime.now(NOW.tzinfo)))
    html = run(page)
    assert "The mood fell" in html
    assert "Net sentiment of All posts is −0.80, against +0.70 before: a difference of −1.50" in html
    assert "60 posts were scored, 80 before (0.8 times as many)." in html
    assert "“#line9” (100 %, 0 % before)" in html
    assert "One picture is in 100 % of the posts read, 0 % before." in html
    assert "The 3 most active of 6 authors wrote 50 % of the posts read whose author is known" in html
    assert "60 and 80 posts read, which is all of them." in html
    assert "😡" in html and "author 0003" in html


def test_a_link_names_its_own_ranges(page: AppTest, seed: Seed) -> None:
    seed(swing(NOW), shards=1)
    page.query_params["from"] = "2026-05-04T10:35:00Z"
    page.query_params["to"] = "2026-05-04T11:00:00Z"
    page.query_params["base_from"] = "2026-05-04T12:00:00Z"
    page.query_params["base_to"] = "2026-05-04T12:30:00Z"
    html = run(page)
    assert "The mood rose" in html
    assert "4 May 2026, 10:35 UTC to 4 May 2026, 11:00 UTC" in html
    assert page.query_params["base_to"] in ("2026-05-04T12:30:00Z", ["2026-05-04T12:30:00Z"])


def test_a_range_that_is_none_is_told(page: AppTest, seed: Seed) -> None:
    seed(swing(NOW))
    page.query_params["from"] = "2026-05-04T10:35:00Z"
    page.query_params["to"] = "2026-05-04T10:00:00Z"
    assert "turn them round" in run(page)
    page.query_params["to"] = "2026-05-04T11:00:00Z"
    page.query_params["base_to"] = "2026-05-04T09:00:00Z"
    page.query_params["base_from"] = "2026-05-04T09:30:00Z"
    assert "give the range to compare with as two times, the earlier first" in run(page)


def test_nothing_to_compare_is_told(page: AppTest, seed: Seed) -> None:
    seed([prediction(1, datetime.now(NOW.tzinfo))])
    html = run(page)
    assert "Nothing to compare with yet" in html
    assert "There is no post on All posts in the window before" in html
    assert "ms-figures" not in html


def test_a_whole_feed_is_held_against_its_first_half(page: AppTest, seed: Seed) -> None:
    seed(swing(NOW), kind="replay")
    html = run(page)
    assert "against its first half" in html
    assert "The mood fell" in html


def test_numbers_and_times_follow_the_link(page: AppTest, seed: Seed) -> None:
    seed(swing(NOW))
    page.query_params.update({"zone": "Europe/Berlin", "numbers": "de"})
    html = run(page)
    assert "4 May 2026, 14:23 CEST" in html
    assert "Net sentiment of All posts is −0,80, against +0,70 before" in html


def test_nothing_scored_yet(page: AppTest) -> None:
    assert "No post has been scored yet" in run(page)


def test_store_gone(page: AppTest, seed: Seed, server: Server) -> None:
    seed([prediction(1, datetime.now(NOW.tzinfo))])
    run(page)
    server.stop()
    html = run(page)
    assert "this is the last picture" in html and "ms-header" in html
