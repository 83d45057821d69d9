"""Reasons hold what the numbers say: words beyond chance, pictures together, a change that adds up."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from dashboard import telling
from dashboard.reasons import Side, grouped, kitagawa, log_odds, reasons, summed, tokens
from inference_worker.contract import Prediction
from tests.dashboard.seeding import NOW, feed, prediction

GOOD, BAD = (0.9, 0.1, 0.0), (0.0, 0.1, 0.9)


def posts(texts: list[str], first: int = 0, **chosen: object) -> tuple[Prediction, ...]:
    return tuple(prediction(first + n, NOW, text=text, **chosen) for n, text in enumerate(texts))


def side(of: tuple[Prediction, ...]) -> Side:
    return Side(of, summed(of))


def test_log_odds_are_those_of_the_paper() -> None:
    here, there = np.array([30.0, 70.0]), np.array([10.0, 90.0])
    prior = 2.0 * np.array([40, 160]) / 200
    delta = np.log((30 + prior[0]) / (102 - 30 - prior[0])) - np.log((10 + prior[0]) / (102 - 10 - prior[0]))
    expected = delta / np.sqrt(1 / (30 + prior[0]) + 1 / (10 + prior[0]))
    assert log_odds(here, there)[0] == pytest.approx(expected)


def test_tokens_are_words_pairs_hashtags_and_emoji() -> None:
    assert tokens("The tram broke, @ann! https://t.co/x #Line9 👍🏽") == [
        "tram",
        "broke",
        "tram broke",
        "#line9",
        "👍🏽",
    ]


def test_a_word_of_one_window_is_beyond_chance_and_a_common_one_is_not() -> None:
    now = posts([f"delay on tram number{n}" for n in range(60)], fused=BAD)
    before = posts([f"coffee on tram number{n}" for n in range(60)], 100, fused=GOOD)
    found = {term.text: term for term in reasons(side(now), side(before)).terms}
    assert found["delay"].is_clear and found["delay"].z > 0 and found["delay"].now == 60
    assert found["coffee"].is_clear and found["coffee"].z < 0 and found["coffee"].net == pytest.approx(0.9)
    assert "tram" not in found or not found["tram"].is_clear
    assert len(found["delay"].examples) == 3


def test_words_of_a_shuffled_feed_are_within_chance() -> None:
    whole = feed(800)
    rng = np.random.default_rng(3)
    order = rng.permutation(800)
    found = reasons(*(side(tuple(whole[n] for n in half)) for half in np.split(order, 2)))
    assert not [term.text for term in found.terms if term.is_clear]
    assert "within chance" in telling.sentences(found, "x")[0]


def test_near_copies_of_a_picture_are_one_group() -> None:
    near, far = bytes([0b111]) + bytes(31), bytes([255] * 4) + bytes(28)
    assert grouped([bytes(32), near, far, bytes(32)]) == [0, 0, 2, 0]


def test_who_and_how_add_up_to_the_change() -> None:
    now = posts(["a"] * 60, fused=GOOD, source="one") + posts(["b"] * 30, 100, fused=BAD, source="two")
    before = posts(["a"] * 30, 200, fused=GOOD, source="one") + posts(["b"] * 60, 300, fused=BAD, source="two")
    part = kitagawa("source", now, before, lambda post: post.source)
    assert part is not None
    change = sum(post.score for post in now) / 90 - sum(post.score for post in before) / 90
    assert part.who + part.how == pytest.approx(change)
    assert part.how == pytest.approx(0.0)


def test_groups_too_small_to_tell_are_not_parted() -> None:
    now, before = posts(["a"] * 60, source="one"), posts(["b"] * 60, 100, source="two")
    assert kitagawa("source", now, before, lambda post: post.source) is None


def test_a_change_of_few_authors_is_told() -> None:
    calm = posts(["fine"] * 50, fused=GOOD, author="c0ffee")
    loud = posts(["awful"] * 40, 100, fused=BAD, author="badbad")
    now = calm[:5] + tuple(prediction(900 + n, NOW, fused=GOOD, author=f"{n:04x}") for n in range(5)) + loud
    said = telling.sentences(reasons(side(now), side(calm)), "x")
    assert any("most active of" in sentence for sentence in said)


def test_windows_read_unlike_are_compared_by_shares() -> None:
    tram = {"images": 1, "image_hashes": (bytes(32),)}
    now = posts(["tram"] * 40, **tram) + posts(["calm"] * 60, 100)
    before = posts(["tram"] * 400, 1000, **tram) + posts(["calm"] * 1600, 2000)
    said = " ".join(telling.sentences(reasons(side(now), side(before)), "x"))
    assert "Written in a larger share of the posts read than before: “tram” (40 %, 20 % before)." in said
    assert "One picture is in 40 % of the posts read, 20 % before." in said


def test_pictures_are_ranked_by_how_far_their_share_moved() -> None:
    first, second = ({"images": 1, "image_hashes": (bytes([fill]) * 32,)} for fill in (0, 255))
    now = posts(["a"] * 10, **first) + posts(["c"] * 2, 50)
    before = posts(["a"] * 100, 100, **first) + posts(["b"] * 200, 1000, **second) + posts(["c"] * 100, 2000)
    found = reasons(side(now), side(before)).pictures
    assert [(group.now, group.before) for group in found] == [(10, 100), (0, 200)]


def test_unread_posts_are_told() -> None:
    now, before = posts(["a"] * 5), posts(["b"] * 5, 10)
    more = summed(posts(["c"] * 9, 50))
    found = reasons(Side(now, more), side(before))
    assert telling.basis(found).endswith("5 and 5 posts read; 4 were not read or are no longer kept.")


def test_two_thousand_against_two_thousand_takes_a_moment_only() -> None:
    import time

    whole = feed(4000, span=timedelta(hours=2))
    began = time.process_time()
    reasons(side(tuple(whole[2000:])), side(tuple(whole[:2000])))
    assert time.process_time() - began < 3
