"""The pictures that move the mood: posts with pictures of the window, the same meme grouped by perceptual hash."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt

from inference_worker.contract import ALL, FIXED_POINT, Counters, Prediction

from .feeds import Feed
from .queries import binned, frame_of, total
from .translation import translated

SAME_MEME_BITS: Final = 31
"""PDQ hashes of 256 bits at most this far apart are one picture, says the hash's own paper."""
MEMES_SHOWN: Final = 6
_POSTS_READ: Final = 1500
_PICTURED_AT_MOST: Final = 600
_HASH_BYTES: Final = 32


@dataclass(frozen=True, kw_only=True)
class Meme:
    """One picture in its many copies. moved: by how much the window's net sentiment would change without its posts."""

    posts: int
    score: float
    moved: float
    topic: str
    post: Prediction
    image: int
    is_sensitive: bool


@dataclass(frozen=True, kw_only=True)
class Wall:
    """The memes that moved the mood most, and what they were taken from. pictures: JPEG per (post id, image)."""

    memes: tuple[Meme, ...]
    pictures: dict[tuple[str, int], bytes]
    pictured: int
    since: datetime | None


def wall(feed: Feed, *, window: str, selected: Sequence[str] = ()) -> Wall:
    """Of the newest retained posts of the window. Raises DashboardError."""
    topics = [ALL] if not selected or ALL in selected else list(selected)
    view = frame_of(feed, window)
    # Of several topics, what moves all posts: their own counters would count a post in two of them twice.
    base = topics[0] if len(topics) == 1 else ALL
    (bins,) = binned(feed, [base], view, [view.start])
    counters = Counters(*total(bins[base]))
    found: dict[str, Prediction] = {}
    with translated(feed.namespace, feed.address):
        for topic in topics:
            posts = feed.open().posts(topic, view.start, view.end, limit=_POSTS_READ // len(topics))
            found |= {post.id: post for post in posts}
    pictured = [post for post in found.values() if any(len(bits) == _HASH_BYTES for bits in post.image_hashes)]
    pictured = sorted(pictured, key=lambda post: post.created_at, reverse=True)[:_PICTURED_AT_MOST]
    memes = grouped(pictured, counters)[:MEMES_SHOWN]
    return Wall(
        memes=tuple(memes),
        pictures=feed.pictures([(meme.post.id, meme.image) for meme in memes]),
        pictured=len(pictured),
        since=pictured[-1].created_at if pictured else None,
    )


def grouped(posts: Sequence[Prediction], window: Counters) -> list[Meme]:
    """Posts, newest first → memes, those that moved the mood of the window's posts most first."""
    owned = [
        (number, index, bits)
        for number, post in enumerate(posts)
        for index, bits in enumerate(post.image_hashes)
        if len(bits) == _HASH_BYTES
    ]
    if not owned:
        return []
    groups: dict[int, list[int]] = {}
    for place, leader in enumerate(leaders(np.frombuffer(b"".join(bits for *_, bits in owned), np.uint64))):
        groups.setdefault(leader, []).append(place)
    memes = []
    for leader, places in groups.items():
        number, index, _ = owned[leader]
        of_group = [posts[of] for of in dict.fromkeys(owned[place][0] for place in places)]
        memes.append(_meme(of_group, posts[number], index, window))
    return sorted(memes, key=lambda meme: (-abs(meme.moved), -meme.posts, meme.post.id))


def leaders(words: npt.NDArray[np.uint64]) -> list[int]:
    """For each hash (four words of 64 bits) the place of the first hash it is a copy of: itself, if of none.

    Copies are sought around leaders only, so that a chain of ever less alike pictures does not become one meme.
    """
    hashes = words.reshape(-1, 4)
    found = np.full(len(hashes), -1)
    for place in range(len(hashes)):
        if found[place] < 0:
            bits = np.bitwise_count(hashes ^ hashes[place]).sum(axis=1)
            found[(bits <= SAME_MEME_BITS) & (found < 0)] = place
    return [int(place) for place in found]


def _meme(posts: Sequence[Prediction], shown: Prediction, image: int, window: Counters) -> Meme:
    scores = sum(post.score for post in posts)
    rest = window.posts - len(posts)
    mean = window.score_sum / FIXED_POINT / max(window.posts, 1)
    without = (window.score_sum / FIXED_POINT - scores) / rest if rest > 0 else 0.0
    topics = Counter(topic for post in posts for topic in post.topics if topic != ALL)
    return Meme(
        posts=len(posts),
        score=scores / len(posts),
        moved=mean - without,
        topic=topics.most_common(1)[0][0] if topics else ALL,
        post=shown,
        image=image,
        is_sensitive=any(post.sensitive for post in posts),
    )
