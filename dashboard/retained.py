"""The pages' way to retained posts: each range read once for all viewers, and kept for a few seconds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import streamlit as st

from inference_worker.amendments import Correction, corrections, steps_of
from inference_worker.contract import Prediction, Results

from . import connection, highlights, search
from .corrections import Corrected
from .corrections import corrected as corrections_kept
from .reasons import Reasons, Side
from .reasons import reasons as compared
from .search import Search, Stretch
from .translation import translated

FRESH_S: Final = 3
Span = tuple[datetime, datetime]
"""From, and up to."""
# What is kept is shared, not copied: predictions cannot be changed.


def stretch(namespace: str, topics: tuple[str, ...], start: datetime | None, end: datetime | None) -> Stretch:
    """The newest retained posts of a range. Raises DashboardError."""
    return _stretch(connection.settings().redis_url, namespace, topics, start, end)


def found(asked: Search) -> tuple[Stretch, list[Prediction]]:
    """What was read and what of it answers the search. Raises DashboardError, BadTopics."""
    of_range = stretch(asked.namespace, asked.topics, asked.start, asked.end)
    return of_range, search.matching(of_range.posts, asked)


def reasons(namespace: str, topic: str, now: Span, before: Span) -> Reasons:
    """What may explain the change between two windows of a topic. Raises DashboardError."""
    return _reasons(connection.settings().redis_url, namespace, topic, now, before)


def post(namespace: str, post_id: str) -> Prediction | None:
    """One post, while it is retained. Raises DashboardError."""
    with translated(namespace, connection.settings().redis_address):
        return Results(connection.client(), namespace).prediction(post_id)


def still(namespace: str, posts: Sequence[Prediction]) -> list[Prediction]:
    """The posts as they are now, but for those gone meanwhile. Raises DashboardError."""
    with translated(namespace, connection.settings().redis_address):
        return Results(connection.client(), namespace).predictions(post.id for post in posts)


def steps(namespace: str) -> Sequence[Correction]:
    """All that people said of posts, oldest first. Raises DashboardError."""
    return _steps(connection.settings().redis_url, namespace)


def steps_of_post(namespace: str, post_id: str) -> list[Correction]:
    """All that people said of one post, oldest first. Raises DashboardError."""
    with translated(namespace, connection.settings().redis_address):
        return steps_of(Results(connection.client(), namespace), post_id)


def corrected(namespace: str) -> list[Corrected]:
    """The posts whose correction stands, with their pictures. Raises DashboardError."""
    with translated(namespace, connection.settings().redis_address):
        results = Results(connection.client(), namespace)
        return corrections_kept(results, corrections(results))


def pictures(namespace: str, posts: Sequence[Prediction]) -> dict[str, bytes]:
    """JPEG of each post's strongest picture, by post id. Raises DashboardError."""
    wanted = tuple((post.id, post.strongest_image) for post in posts if post.images)
    return _pictures(connection.settings().redis_url, namespace, wanted) if wanted else {}


@st.cache_data(ttl=300, max_entries=512, show_spinner=False)
def heated(jpeg: bytes, image_map: bytes, shape: tuple[int, int]) -> bytes | None:
    """The picture under its heat map."""
    return highlights.heated(jpeg, image_map, shape)


def forget(namespace: str) -> None:
    """Read anew: somebody changed something here."""
    connection.forget(namespace)
    _stretch.clear()
    _reasons.clear()
    _steps.clear()


@st.cache_resource(ttl=FRESH_S, max_entries=16, show_spinner=False)
def _steps(redis_url: str, namespace: str) -> tuple[Correction, ...]:
    with translated(namespace, connection.settings().redis_address):
        return tuple(corrections(Results(connection.client(), namespace)))


@st.cache_resource(ttl=FRESH_S, max_entries=24, show_spinner=False)
def _stretch(
    redis_url: str, namespace: str, topics: tuple[str, ...], start: datetime | None, end: datetime | None
) -> Stretch:
    return search.read(
        connection.client(),
        namespace,
        topics,
        start,
        end,
        first=connection.feed(namespace).first_post_at(),
        address=connection.settings().redis_address,
    )


@st.cache_resource(ttl=10, max_entries=16, show_spinner=False)
def _reasons(redis_url: str, namespace: str, topic: str, now: Span, before: Span) -> Reasons:
    here, there = (_stretch(redis_url, namespace, (topic,), *span) for span in (now, before))
    return compared(Side(here.posts, here.counters), Side(there.posts, there.counters))


@st.cache_data(ttl=15, max_entries=128, show_spinner=False)
def _pictures(redis_url: str, namespace: str, wanted: tuple[tuple[str, int], ...]) -> dict[str, bytes]:
    with translated(namespace, connection.settings().redis_address):
        jpegs = Results(connection.client(), namespace).thumbnails(wanted)
    return {post_id: jpeg for (post_id, _), jpeg in zip(wanted, jpegs, strict=True) if jpeg}
