"""Numbers in words, and names that stay names."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from dashboard import markup, tiles
from dashboard.cards import safe_link, shortened
from dashboard.estimates import Estimate
from dashboard.filters import inert
from dashboard.queries import Change, Mood
from dashboard.reading import PLAIN, Reading, duration
from dashboard.windows import between
from inference_worker.contract import Counters
from tests.dashboard.seeding import NOW, prediction, worker_state

HOSTILE = "<img src=x onerror=alert(1)>"
MOOD = Mood(
    topic="tea",
    counters=Counters(posts=40, positive=20, neutral=15, negative=5, abstained=4),
    net=Estimate(0.31, 0.2, 0.42),
    before=Change(posts=30, net=Estimate(-0.12, -0.3, 0.06)),
    same=Change(posts=0, net=None),
    spark=(0.5, None, -0.25),
)


@pytest.mark.parametrize(("value", "text"), [(0.314, "+0.31"), (-0.2, "−0.20"), (-0.004, "0.00"), (0.0, "0.00")])
def test_signs_are_true_and_absent_at_zero(value: float, text: str) -> None:
    assert PLAIN.signed(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-3, "0 s"), (99, "99 s"), (100, "1 min"), (7200, "2 h"), (200_000, "2 d")]
)
def test_durations_are_one_unit(seconds: int, text: str) -> None:
    assert duration(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(("part", "text"), [(0, "0 %"), (3, "0.3 %"), (120, "12 %"), (1000, "100 %")])
def test_rare_shares_do_not_read_as_none(part: int, text: str) -> None:
    assert PLAIN.percent(part, 1000) == text


def test_tile_says_mood_interval_change_shares_and_coverage() -> None:
    tile = tiles.tiles([MOOD], "1h")
    for text in (
        "tea",
        "+0.31",
        "leans positive",
        "+0.20 to +0.42",
        "−0.12",
        "the difference may be chance",
        "vs the hour before",
        "no posts in the same hour yesterday",
    ):
        assert text in tile
    assert "positive 50 %, neutral 38 %, negative 12 %" in tile
    assert "<b>40</b> posts" in tile and "abstained 10 %" in tile


def test_a_window_that_still_fills_is_compared_by_the_time_it_has_had() -> None:
    steady = replace(MOOD, counters=Counters(posts=57), before=Change(posts=60, net=None))
    assert ">−5 %</small>" in tiles.tiles([steady], "1h")
    assert ">0 %</small>" in tiles.tiles([steady], "1h", filled=0.95)
    assert "%</small>" not in tiles.tiles([steady], "1h", filled=None)


def test_alerts_are_said_and_escaped() -> None:
    html = tiles.alerts([tiles.Said("volume", HOSTILE, '"><b>')], "alerts")
    assert '<li class="ms-volume"><a href="&quot;&gt;&lt;b&gt;" target="_self">&lt;img' in html
    assert tiles.alerts([], "alerts") == ""


def test_tile_without_posts_says_so() -> None:
    empty = replace(MOOD, counters=Counters(), net=None, before=Change(posts=0, net=None), spark=())
    assert "No post in this window" in tiles.tiles([empty], "1h")


def test_names_are_escaped_wherever_they_stand() -> None:
    post = prediction(1, NOW, source=HOSTILE, topics=(HOSTILE,), warnings=(HOSTILE,))
    for html in (
        tiles.tiles([replace(MOOD, topic=HOSTILE)], "1h"),
        markup.course_topic(HOSTILE),
        markup.card_chips(post),
        markup.notice(HOSTILE, [HOSTILE], [HOSTILE]),
    ):
        assert "<img" not in html
        assert "&lt;img" in html


def test_missing_modality_says_so() -> None:
    views = markup.card_views(prediction(1, NOW, text="", text_probabilities=None))
    assert "no text" in views and "no picture" in views
    views = markup.card_views(prediction(1, NOW, images=1))
    assert "picture not scored" in views


def test_disagreement_and_hand_label_are_flagged() -> None:
    chips = markup.card_chips(prediction(1, NOW, image_probabilities=(0.1, 0.1, 0.8), label="negative"))
    assert "text and picture disagree" in chips and "hand label: negative" in chips


@pytest.mark.parametrize("url", ["https://example.org/a?b=1#c", "http://example.org"])
def test_plain_links_are_kept(url: str) -> None:
    assert safe_link(url) == url


@pytest.mark.parametrize(
    "url",
    [
        None,
        "",
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "vbscript:x",
        "//example.org/a",
        "https://",
        "https://user:pass@example.org/",
        "https://exa mple.org",
        "https://example.org/\nx",
        "https://[::1",
        "https://example.org/" + "a" * 3000,
    ],
)
def test_other_links_are_dropped(url: str | None) -> None:
    assert safe_link(url) is None


def test_long_texts_are_shortened() -> None:
    assert shortened("a" * 500) == "a" * 399 + "…"
    assert shortened("short") == "short"


def test_labels_of_widgets_show_markdown_as_it_is() -> None:
    assert inert("C# **x** :red[y] [z](u) $1$") == r"C\# \*\*x\*\* \:red\[y\] \[z\]\(u\) \$1\$"


@pytest.mark.parametrize(("zone", "says"), [("Asia/Tokyo", "per day"), ("Asia/Kolkata", "per day, of UTC's days")])
def test_days_that_are_not_the_readers_are_told(zone: str, says: str) -> None:
    view = between(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 3, 10, tzinfo=UTC), zone)
    assert markup.per_bin(view, Reading(zone=zone)) == says


def test_a_sample_is_told_beside_the_numbers_it_makes() -> None:
    sampled = Counters(posts=12_340, positive=12_340, shed=7_760)
    tile = tiles.tiles([replace(MOOD, counters=sampled, before=Change(posts=10_050, net=None))], "1h")
    assert "<b>12.3k scored of 20.1k · 61 % sample</b>" in tile
    assert "+100 %" in tile  # volume grows by what came, not by what was scored of it
    assert "12.3k scored of 20.1k · 61 % sample: the rest came while the workers were behind" in markup.sampling(
        sampled
    )
    assert markup.sampling(Counters(posts=5)) == ""
    nothing = replace(MOOD, counters=Counters(shed=3), net=None)
    assert "3 posts in this window, none scored" in tiles.tiles([nothing], "1h")


def test_how_far_the_workers_are_behind_is_told_once_it_is_felt() -> None:
    first, second = worker_state("a"), worker_state("b")
    late = msgspec.structs.replace(second, behind_s=42.0, lag=2340, sample=0.25)
    told = tiles.backlog([msgspec.structs.replace(first, behind_s=9.0, lag=0), late])
    assert "Behind: 2,340 records wait, the oldest for 42 s; 25 % of the posts are scored now" in told
    assert tiles.backlog([msgspec.structs.replace(first, behind_s=9.0)]) == tiles.backlog([]) == ""
