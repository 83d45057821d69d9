"""Copies of a picture are one meme, and what it moved is what the mood would be without it."""

from __future__ import annotations

import numpy as np
import pytest
from redis import Redis

from dashboard import memes
from dashboard.feeds import Feed
from inference_worker.contract import Counters, Prediction
from tests.dashboard.seeding import NOW, Seed, prediction

CAT, DOG = bytes(32), b"\xff" * 32
GLAD, SAD = (0.9, 0.1, 0.0), (0.0, 0.1, 0.9)


def flipped(bits: bytes, count: int) -> bytes:
    """The hash with so many of its first bits turned round."""
    number = int.from_bytes(bits, "big") ^ ((1 << count) - 1)
    return number.to_bytes(32, "big")


def pictured(number: int, picture: bytes, **chosen: object) -> Prediction:
    return prediction(number, NOW, images=1, image_hashes=(picture,), **chosen)


def counters(posts: list[Prediction]) -> Counters:
    return Counters(*map(sum, zip(*map(Counters.of, posts), strict=True)))


@pytest.mark.parametrize(("apart", "groups"), [(0, 1), (31, 1), (32, 2)])
def test_pictures_at_most_31_bits_apart_are_one(apart: int, groups: int) -> None:
    posts = [pictured(1, CAT), pictured(2, flipped(CAT, apart))]
    assert len(memes.grouped(posts, counters(posts))) == groups


def test_a_chain_of_likenesses_is_not_one_meme() -> None:
    chain = np.frombuffer(CAT + flipped(CAT, 30) + flipped(CAT, 60), np.uint64)
    assert memes.leaders(chain) == [0, 0, 2]


def test_what_a_meme_moved_is_the_mood_without_it() -> None:
    posts = [pictured(number, CAT, fused=SAD, topics=("tea",)) for number in range(2)]
    posts += [pictured(10, DOG, fused=GLAD)]
    window = counters([*posts, prediction(20, NOW, fused=GLAD)])
    first, second = memes.grouped(posts, window)
    assert (first.posts, first.score, first.topic) == (2, -0.9, "tea")
    assert first.moved == pytest.approx(0.0 - 0.9)
    assert (second.posts, second.topic) == (1, "all")
    assert second.moved == pytest.approx(0.0 - (0.9 - 1.8) / 3)


def test_hashes_of_another_kind_are_left_out() -> None:
    posts = [pictured(1, b"short")]
    assert memes.grouped(posts, counters(posts)) == []


def test_wall_holds_the_pictures_of_the_window(redis: Redis, seed: Seed) -> None:
    posts = [pictured(number, CAT if number % 2 else DOG, sensitive=number == 1) for number in range(6)]
    seed([*posts, prediction(10, NOW)])
    wall = memes.wall(Feed(redis, "live", address="the store"), window="1h")
    assert wall.pictured == 6
    assert [meme.posts for meme in wall.memes] == [3, 3]
    assert set(wall.pictures) == {(meme.post.id, meme.image) for meme in wall.memes}
    assert sum(meme.is_sensitive for meme in wall.memes) == 1
