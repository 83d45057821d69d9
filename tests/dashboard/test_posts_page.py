"""Page `Posts` as Streamlit runs it: found, shown, corrected; without posts, store or good intentions."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from redis import Redis
from streamlit.testing.v1 import AppTest

from dashboard import retained, search, states
from dashboard.errors import StoreUnavailable
from inference_worker.amendments import corrections, relabel
from inference_worker.contract import Prediction, Results
from tests.dashboard.opening import open_page, run
from tests.dashboard.seeding import NOW, Seed, Server, feed, prediction
from tests.inference_worker.test_store import dump

PICTURE = "data:image/jpeg;base64,"


@pytest.fixture
def page(server: Server, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    return open_page("posts", server.url, monkeypatch)


def now() -> datetime:
    return datetime.now(NOW.tzinfo)


def texts(html: str) -> list[str]:
    return [re.sub("<[^>]*>", "", found) for found in re.findall(r'<p class="ms-text"[^>]*>(.*?)</p>', html, re.S)]


def judgement(page: AppTest) -> Any:
    """The control of the first card that takes a person's word."""
    return next(group for group in page.get("button_group") if group.label == "Correct me")


def card(number: int, **chosen: object) -> Prediction:
    return prediction(number, now() - timedelta(minutes=number), **chosen)


def test_newest_posts_come_first_with_all_the_model_made_of_them(page: AppTest, seed: Seed) -> None:
    post = card(
        1,
        text="late <again>",
        token_map=((0, 4, 255), (5, 12, 10)),
        lang="en",
        author="a1b2c3",
        url="https://example.org/1",
        image_probabilities=(0.1, 0.1, 0.8),
        images=1,
        alt=("a tram",),
        image_map=bytes(range(49)),
        image_map_shape=(7, 7),
    )
    seed([post, card(2)])
    html = run(page)
    assert texts(html) == ["late &lt;again&gt;", "post 2"]
    assert '<mark class="ms-m6">late</mark>' in html
    for words in ("text and picture disagree", "language en", "scored in 200 ms", "author a1b2", "a tram", PICTURE):
        assert words in html
    assert "<b>2</b> of 2 posts match" in html
    assert [button.proto.url for button in page.get("link_button")] == ["https://example.org/1"]


def test_a_link_holds_the_search(page: AppTest, seed: Seed) -> None:
    seed([card(1, text="tram late"), card(2, text="tram on time", fused=(0.1, 0.1, 0.8)), card(3, text="coffee")])
    page.query_params["words"] = "tram -coffee"
    page.query_params["class"] = ["positive", "no such class"]
    page.query_params["confidence"] = "60-80"
    assert texts(run(page)) == ["tram late"]
    assert page.text_input(key="posts words").value == "tram -coffee"


def test_a_choice_enters_the_link(page: AppTest, seed: Seed) -> None:
    seed([card(1, text="tram late"), card(2, text="coffee")])
    run(page)
    page.text_input(key="posts words").set_value('"tram late"')
    page.text_input(key="posts To in UTC").set_value("2030-01-01 12:00")
    assert texts(run(page)) == ["tram late"]
    assert page.query_params["words"] in ('"tram late"', ['"tram late"'])
    assert page.query_params["to"] in ("2030-01-01T12:00:00Z", ["2030-01-01T12:00:00Z"])


def test_words_that_cannot_be_read_are_told_with_their_column(page: AppTest, seed: Seed) -> None:
    seed([card(1)])
    page.query_params["words"] = "tram (late"
    html = run(page)
    assert "Column 11: a closing parenthesis is missing." in html


def test_an_impossible_time_is_told(page: AppTest, seed: Seed) -> None:
    seed([card(1)])
    page.query_params["from"] = "<b>yesterday</b>"
    html = run(page)
    assert "write it as 2026-05-04 12:30" in html
    assert "<b>yesterday" not in html


def test_more_than_a_page_is_turned(page: AppTest, seed: Seed) -> None:
    seed([card(number) for number in range(1, 31)])
    assert len(texts(run(page))) == 12
    next(button for button in page.button if button.label == "Older").click()
    assert texts(run(page))[0] == "post 13"


def test_what_was_left_out_is_told(page: AppTest, seed: Seed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(search.read.__kwdefaults__, "limit", 20)
    seed([card(number) for number in range(1, 31)])
    assert "the newest 20 were looked at, older ones since" in run(page)


def test_one_post_by_its_link(page: AppTest, seed: Seed) -> None:
    seed([card(1), card(2)])
    page.query_params["post"] = "sample:2"
    assert texts(run(page)) == ["post 2"]
    page.query_params["post"] = "sample:<b>3"
    assert "sample:&lt;b&gt;3 is unknown, deleted, or past its retention" in run(page)


def test_held_posts_stay(page: AppTest, seed: Seed) -> None:
    seed([card(2)])
    run(page)
    page.toggle(key="posts hold").set_value(True)
    run(page)
    seed([card(1)], first_offset=9)
    assert texts(run(page)) == ["post 2"]
    page.toggle(key="posts hold").set_value(False)
    assert texts(run(page)) == ["post 1", "post 2"]


def test_a_held_post_that_is_deleted_goes_and_one_that_is_corrected_says_so(
    page: AppTest, seed: Seed, redis: Redis
) -> None:
    seed([card(1), card(2)])
    run(page)
    page.toggle(key="posts hold").set_value(True)
    run(page)
    results = Results(redis, "live")
    relabel(results, "sample:1", "negative", by="ann", at=now())
    assert "corrected by a person" in run(page)
    relabel(results, "sample:1", None, by="ann", at=now())
    assert "corrected by a person" not in run(page)
    redis.delete(results.keys_of("sample:1").post("sample:1"))
    assert texts(run(page)) == ["post 2"]


def test_a_full_run_with_corrections_makes_no_file(
    page: AppTest, seed: Seed, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed([card(1, images=1)])
    relabel(Results(redis, "live"), "sample:1", "negative", by="ann", at=now())
    made: list[str] = []
    monkeypatch.setattr("dashboard.corrections.corrected", lambda *asked: made.append("rows"))
    monkeypatch.setattr("dashboard.retained.corrections_kept", lambda *asked: made.append("rows"))
    run(page)
    assert {button.label for button in page.get("download_button")} == {"Archive", "Parquet", "CSV"}
    assert made == []


def test_an_export_without_the_store_fails_with_its_address(page: AppTest, seed: Seed, server: Server) -> None:
    seed([card(1)])
    run(page)
    assert retained.corrected("live") == []
    server.stop()
    with pytest.raises(StoreUnavailable, match="127.0.0.1"):
        retained.corrected("live")


def test_sensitive_picture_stays_on_the_server_until_it_is_asked_for(page: AppTest, seed: Seed) -> None:
    seed([card(1, images=1, sensitive=True, image_map=bytes(49), image_map_shape=(7, 7))])
    page.run()
    page.toggle(key="posts heat").set_value(True)
    html = run(page)
    assert "ms-frosted" in html and PICTURE not in html
    next(button for button in page.button if button.label == "Show picture").click()
    html = run(page)
    assert "ms-frosted" not in html and PICTURE in html


def test_an_editor_relabels_and_takes_back_to_the_bit(page: AppTest, seed: Seed, redis: Redis) -> None:
    seed([card(1), card(2)], shards=1)
    before = dump(redis)
    run(page)
    judgement(page).set_value("negative")
    html = run(page)
    assert "corrected by a person" in html and "1 post counted as what a person said" in [
        element.value.partition(".")[0] for element in page.text
    ]
    results = Results(redis, "live")
    (post,) = [post for post in results.posts("all", now() - timedelta(hours=1), now(), limit=9) if post.correction]
    assert (post.correction, results.total().negative) == ("negative", 1)
    assert [(step.by, step.label) for step in corrections(results)] == [("local", "negative")]
    judgement(page).set_value(None)
    html = run(page)
    assert "corrected by a person" not in html
    assert "taken back" in html
    assert dump(redis) == before


def test_a_reader_cannot_relabel(page: AppTest, seed: Seed, monkeypatch: pytest.MonkeyPatch) -> None:
    seed([card(1)])
    monkeypatch.setattr("dashboard.access.listens_on", lambda: "0.0.0.0")
    assert texts(run(page)) == ["post 1"]
    assert not [group for group in page.get("button_group") if group.label == "Correct me"]


def test_an_open_page_of_somebody_who_is_no_longer_an_editor_changes_nothing(
    page: AppTest, seed: Seed, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed([card(1)])
    run(page)
    monkeypatch.setattr("dashboard.access.listens_on", lambda: "0.0.0.0")
    judgement(page).set_value("negative")
    run(page)
    assert "relabelling is for editors" in page.toast[0].value.replace("\\", "")
    assert corrections(Results(redis, "live")) == []


def test_a_full_store_is_searched(page: AppTest, seed: Seed) -> None:
    seed(feed(2500, until=now()))
    page.query_params["only"] = "disagree"
    html = run(page)
    assert len(texts(html)) == 12 and "of 2,000 posts match" in html


def test_nothing_scored_yet(page: AppTest) -> None:
    assert "No post has been scored yet" in run(page)


def test_store_gone_leaves_the_last_picture(page: AppTest, seed: Seed, server: Server) -> None:
    seed([card(1, images=1)])
    run(page)
    server.stop()
    html = run(page)
    assert "The store does not answer: this is the last picture" in html
    assert texts(html) == ["post 1"] and PICTURE in html


def test_store_gone_leaves_no_picture_of_another_topic(page: AppTest, seed: Seed, server: Server) -> None:
    seed([card(1, topics=("tram",)), card(2, topics=("coffee",))])
    page.query_params["topics"] = "tram"
    assert texts(run(page)) == ["post 1"]
    server.stop()
    page.query_params["topics"] = "coffee"
    html = run(page)
    assert texts(html) == [] and "Start everything on this machine" in html
    page.query_params["topics"] = "tram"
    assert texts(run(page)) == ["post 1"]


def test_another_search_begins_with_its_first_page(page: AppTest, seed: Seed) -> None:
    seed([card(number, lang="en") for number in range(1, 31)])
    run(page)
    next(button for button in page.button if button.label == "Older").click()
    assert texts(run(page))[0] == "post 13"
    page.text_input(key="posts lang").set_value("en")
    assert texts(run(page))[0] == "post 1"


def test_a_point_of_trends_leaves_a_way_back_to_what_was_shown_there(page: AppTest, seed: Seed) -> None:
    seed([card(1)])
    run(page)
    assert not page.get("page_link")
    page.session_state[states.CAME_FROM] = {"window": ["6h"], "topics": ["a", "b"]}
    run(page)
    (way,) = page.get("page_link")
    assert (way.proto.label, way.proto.query_string) == ("Back to Trends", "window=6h&topics=a&topics=b")
    page.switch_page("pages/trends.py").run()
    assert states.CAME_FROM not in page.session_state


def test_store_never_there(page: AppTest, server: Server) -> None:
    server.stop()
    assert "Start everything on this machine" in run(page)


def test_numbers_and_times_follow_the_link(page: AppTest, seed: Seed) -> None:
    seed([prediction(n, NOW, reach=1234) for n in range(1, 1201)], kind="replay")
    page.query_params.update({"zone": "Europe/Berlin", "numbers": "de", "from": "2026-05-04T12:00:00Z"})
    html = run(page)
    for words in ("<b>1.200</b> of 1.200 posts match", "4 May 2026, 14:30 CEST", "reach 1.234", "4 May 2026, 14:30<"):
        assert words in html
    assert page.text_input(key="posts From in Europe/Berlin").value == "2026-05-04 14:00"
    assert page.query_params["from"] in ("2026-05-04T12:00:00Z", ["2026-05-04T12:00:00Z"])
