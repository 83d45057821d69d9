"""The pages' way to results: one client per process, one snapshot per view and second for all viewers."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import streamlit as st
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from . import queries
from .queries import Outline, Snapshot
from .settings import Settings
from .windows import ALL_TIME

_TIMEOUT_S: Final = 2.0


def settings() -> Settings:
    return Settings.from_env()


@st.cache_resource(show_spinner=False)
def _client(redis_url: str) -> Redis:
    """Connects on first use; one retry, so that a restarted Redis is found again without an error shown."""
    return Redis.from_url(
        redis_url,
        socket_timeout=_TIMEOUT_S,
        socket_connect_timeout=_TIMEOUT_S,
        retry=Retry(NoBackoff(), 1),
        max_connections=64,
    )


def outline(namespace: str) -> Outline:
    """Kind and topics of a namespace. Raises DashboardError."""
    return _outline(settings().redis_url, namespace)


def snapshot(namespace: str, window: str, selected: tuple[str, ...]) -> Snapshot:
    """What the live page shows, at most a second old. Raises DashboardError."""
    return _snapshot(settings().redis_url, namespace, window, selected)


@st.cache_data(ttl=1, max_entries=64, show_spinner=False)
def _outline(redis_url: str, namespace: str) -> Outline:
    return queries.outline(_client(redis_url), namespace, address=settings().redis_address)


@st.cache_data(ttl=1, max_entries=64, show_spinner=False)
def _snapshot(redis_url: str, namespace: str, window: str, selected: tuple[str, ...]) -> Snapshot:
    return queries.snapshot(
        _client(redis_url),
        namespace,
        window=window,
        selected=selected,
        first=_first_post_at(redis_url, namespace) if window == ALL_TIME else None,
        address=settings().redis_address,
    )


@st.cache_data(ttl=15, max_entries=64, show_spinner=False)
def _first_post_at(redis_url: str, namespace: str) -> datetime:
    """Changes seldom and is a wide search: asked less often than the rest."""
    return queries.first_post_at(_client(redis_url), namespace, address=settings().redis_address)
