"""The pages' way to results: one client per process, one `Feed` per namespace, one answer per view and second.

`cache_resource` hands the same frozen object to all viewers; `cache_data` would pickle it for each of them.
"""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import Final

import streamlit as st
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from inference_worker.contract import DeadLetter
from inference_worker.redis_access import connect

from . import charts, memes, model_card, queries, sources, trends
from .alerts import history
from .alerts.history import Alert
from .charts import Course
from .feeds import Feed, Head
from .memes import Wall
from .queries import Outline, Snapshot
from .reading import UTC_NAME, Reading
from .settings import Settings
from .sources import SourceReport
from .translation import translated
from .trends import Trends
from .windows import zone_of

_TIMEOUT_S: Final = 2.0
_SHARED_S: Final = max(1.0, Settings.from_env().refresh_s / 2)
"""A picture this old is still shown to the next viewer: old by at most half the pace at which pages refresh."""

_LETTERS_SHOWN: Final = 100


def settings() -> Settings:
    return Settings.from_env()


@st.cache_resource(show_spinner=False)
def _client(redis_url: str) -> Redis:
    """Connects on first use; one retry, so that a restarted Redis is found again without an error shown."""
    return connect(
        redis_url,
        socket_timeout=_TIMEOUT_S,
        socket_connect_timeout=_TIMEOUT_S,
        retry=Retry(NoBackoff(), 1),
        max_connections=64,
    )


@st.cache_resource(show_spinner=False, max_entries=32)
def _feed(redis_url: str, namespace: str) -> Feed:
    return Feed(_client(redis_url), namespace, address=settings().redis_address)


def client() -> Redis:
    return _client(settings().redis_url)


def feed(namespace: str) -> Feed:
    """What this process holds of a namespace."""
    return _feed(settings().redis_url, namespace)


def forget(namespace: str) -> None:
    """Show a change made on purpose (a correction, an undo) at once, not when its hour's turn comes."""
    feed(namespace).forget()
    _snapshot.clear()
    _trends.clear()


def outline(namespace: str) -> Outline:
    """Kind, topics and clock of a namespace. Raises DashboardError."""
    return queries.outline(feed(namespace))


def head(namespace: str) -> Head:
    """Clock, counts and workers of a namespace, at most a second old. Raises DashboardError."""
    return feed(namespace).head()


def snapshot(namespace: str, window: str, selected: tuple[str, ...], zone: str = UTC_NAME) -> Snapshot:
    """What the page Now shows, at most `_SHARED_S` old. Raises DashboardError. zone: whose days bins begin with."""
    return _snapshot(settings().redis_url, namespace, window, selected, zone_of(window, zone))


def courses(of: Snapshot, reading: Reading) -> tuple[Course, ...]:
    """The charts of a snapshot, drawn once for all who see it and read alike."""
    return _courses(of.namespace, of.frame.window, of.shown[: queries.ROWS_SHOWN], of.read_at, reading, of)


def trend(
    namespace: str,
    window: str,
    selected: tuple[str, ...],
    start: datetime | None,
    end: datetime | None,
    zone: str = UTC_NAME,
) -> Trends:
    """What the page Trends shows, at most two seconds old. Raises DashboardError. zone: as of `snapshot`."""
    zone = zone if start and end else zone_of(window, zone)
    return _trends(settings().redis_url, namespace, window, selected, start, end, zone)


def wall(namespace: str, window: str, selected: tuple[str, ...]) -> Wall:
    """The pictures that move the mood, at most 10 s old. Raises DashboardError."""
    return _wall(settings().redis_url, namespace, window, selected)


def active_alerts(namespace: str) -> tuple[Alert, ...]:
    """Alerts that are on, strongest first, at most a second old. Raises DashboardError."""
    return _active_alerts(settings().redis_url, namespace)


def dead_letters(namespace: str) -> dict[str, DeadLetter]:
    """The newest dead letters, by their places. Raises DashboardError."""
    return _dead_letters(settings().redis_url, namespace)


def source_reports() -> tuple[SourceReport, ...]:
    """What each ingest process says of itself, at most 2 s old."""
    return _source_reports(settings().ingest_health)


def card_of_model() -> str:
    """The model card of the model this installation runs, as Markdown; empty if there is none."""
    return _card(str(settings().model))


@st.cache_resource(ttl=_SHARED_S, max_entries=64, show_spinner=False)
def _snapshot(redis_url: str, namespace: str, window: str, selected: tuple[str, ...], zone: str) -> Snapshot:
    return queries.snapshot(_feed(redis_url, namespace), window=window, selected=selected, zone=zone)


@st.cache_resource(ttl=_SHARED_S, max_entries=64, show_spinner=False)
def _courses(
    namespace: str, window: str, topics: tuple[str, ...], read_at: datetime, reading: Reading, _of: Snapshot
) -> tuple[Course, ...]:
    """_of: not part of the key, which says which snapshot it is."""
    return charts.courses(_of.series, topics, reading)


@st.cache_resource(ttl=2, max_entries=64, show_spinner=False)
def _trends(
    redis_url: str,
    namespace: str,
    window: str,
    selected: tuple[str, ...],
    start: datetime | None,
    end: datetime | None,
    zone: str,
) -> Trends:
    feed = _feed(redis_url, namespace)
    found = trends.trends(feed, window=window, selected=selected, start=start, end=end, zone=zone)
    with translated(namespace, feed.address):
        opened = history.alerts_between(_client(redis_url), namespace, found.frame.start, found.frame.end)
    return trends.with_alerts(found, opened)


@st.cache_resource(ttl=1, max_entries=16, show_spinner=False)
def _active_alerts(redis_url: str, namespace: str) -> tuple[Alert, ...]:
    with translated(namespace, _feed(redis_url, namespace).address):
        return tuple(history.active_alerts(_client(redis_url), namespace))


@st.cache_resource(ttl=10, max_entries=16, show_spinner=False)
def _wall(redis_url: str, namespace: str, window: str, selected: tuple[str, ...]) -> Wall:
    return memes.wall(_feed(redis_url, namespace), window=window, selected=selected)


@st.cache_resource(ttl=2, max_entries=16, show_spinner=False)
def _dead_letters(redis_url: str, namespace: str) -> dict[str, DeadLetter]:
    feed = _feed(redis_url, namespace)
    with translated(namespace, feed.address):
        return dict(islice(feed.open().dead_letters_by_place().items(), _LETTERS_SHOWN))


@st.cache_resource(ttl=2, max_entries=4, show_spinner=False)
def _source_reports(addresses: tuple[str, ...]) -> tuple[SourceReport, ...]:
    return tuple(sources.ask(address) for address in addresses)


@st.cache_data(ttl=60, max_entries=4, show_spinner=False)
def _card(model: str) -> str:
    return model_card.read(model)
