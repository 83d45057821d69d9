"""Results in Redis → one snapshot of a namespace, as plain values and DataFrames; at most 12 round trips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from inference_worker.contract import (
    ALL,
    FIXED_POINT,
    LABELS,
    SPAN_S,
    Counters,
    Meta,
    NewerResults,
    Prediction,
    Results,
    UnknownNamespace,
    WorkerState,
    check_namespace,
)

from .errors import DashboardError, InvalidView, NoResults, StoreUnavailable, UnreadableResults
from .estimates import Estimate, difference, intervals, net_sentiment
from .windows import ALL_TIME, Frame, frame

TOPICS_READ: Final = 40
"""More topics than this are read only when they are asked for."""
POSTS_SHOWN: Final = 12
_LOOKBACK_SPANS: Final = 240
"""Day hashes searched for the first post: 21 years, older than any archive of posts."""


@dataclass(frozen=True, kw_only=True)
class Mood:
    """One topic in the window. change: against the stretch before, where there are posts to compare with."""

    topic: str
    counters: Counters
    net: Estimate | None
    posts_before: int | None
    change: Estimate | None
    spark: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """All the live page shows. clock: the namespace's own time; read_at: the wall's.

    series: a row per topic and bin (columns of `_series`); pictures: JPEG per post id, of `posts` only.
    """

    namespace: str
    meta: Meta
    clock: datetime
    read_at: datetime
    frame: Frame
    topics: tuple[str, ...]
    moods: dict[str, Mood]
    series: pd.DataFrame
    posts: tuple[Prediction, ...]
    pictures: dict[str, bytes]
    counts: dict[str, int]
    workers: tuple[WorkerState, ...]

    @property
    def is_replay(self) -> bool:
        return self.meta.kind == "replay"

    @property
    def age(self) -> timedelta:
        """How long ago the clock's last post was written, by the wall."""
        return max(self.read_at - self.clock, timedelta(0))

    @property
    def total(self) -> Counters:
        """All posts of the window."""
        return self.moods[ALL].counters


@dataclass(frozen=True, kw_only=True)
class Outline:
    """What the page's filters need to know before anything is counted."""

    kind: str
    topics: tuple[str, ...] = field(default=())


def outline(redis: Redis, namespace: str, *, address: str) -> Outline:
    """Kind and topics of a namespace. Raises DashboardError."""
    with _translated(namespace, address):
        results = Results(redis, namespace)
        return Outline(kind=results.meta().kind, topics=tuple(results.topics()))


def first_post_at(redis: Redis, namespace: str, *, address: str) -> datetime:
    """Start of the earliest hour (long archives: day) with a post. Raises DashboardError."""
    with _translated(namespace, address):
        results = Results(redis, namespace)
        clock = results.watermark()
        if clock is None:
            raise NoResults(namespace)
        longest = timedelta(seconds=SPAN_S["day"] * _LOOKBACK_SPANS)
        days = results.rollups([ALL], "day", clock - longest, _after(clock))[ALL]
        first = min(days, default=clock)
        if clock - first > timedelta(days=10):
            return first
        hours = results.rollups([ALL], "hour", first, _after(clock))[ALL]
        earliest = min(hours, default=clock)
        if clock - earliest > timedelta(hours=12):
            return earliest
        return min(results.rollups([ALL], "minute", earliest, _after(clock))[ALL], default=clock)


def snapshot(
    redis: Redis,
    namespace: str,
    *,
    window: str,
    selected: Sequence[str] = (),
    first: datetime | None = None,
    address: str,
    now: datetime | None = None,
) -> Snapshot:
    """Read all of the live page at once. Raises DashboardError.

    selected: topics asked for, none means all of them; first: what `first_post_at` said, needed by window `all`.
    """
    with _translated(namespace, address):
        results = Results(redis, namespace)
        meta, clock = results.meta(), results.watermark()
        if clock is None:
            raise NoResults(namespace)
        view = frame(window, clock, first if window == ALL_TIME else None)
        topics = tuple(results.topics())
        read = list(dict.fromkeys([ALL, *selected, *topics[:TOPICS_READ]]))
        buckets = results.rollups(read, view.bins.level, view.before or view.start, view.end)
        posts = tuple(_latest(results, selected))
        return Snapshot(
            namespace=namespace,
            meta=meta,
            clock=clock,
            read_at=now or datetime.now(UTC),
            frame=view,
            topics=topics,
            moods={topic: _mood(topic, buckets[topic], view) for topic in read},
            series=pd.concat([_series(topic, buckets[topic], view) for topic in read], ignore_index=True),
            posts=posts,
            pictures=_pictures(results, posts),
            counts=results.counters(),
            workers=tuple(results.workers()),
        )


def _latest(results: Results, selected: Sequence[str]) -> list[Prediction]:
    """Newest posts of the topics selected; of all posts if none is, or `all` is one of them."""
    topics = () if ALL in selected else selected
    return results.tail(*topics, limit=POSTS_SHOWN)


def _pictures(results: Results, posts: Sequence[Prediction]) -> dict[str, bytes]:
    pictured = [post for post in posts if post.images]
    found = results.thumbnails([(post.id, post.strongest_image) for post in pictured])
    return {post.id: jpeg for post, jpeg in zip(pictured, found, strict=True) if jpeg}


def _mood(topic: str, buckets: dict[datetime, Counters], view: Frame) -> Mood:
    bins = _binned(buckets, view.start, view)
    counters = Counters(*(int(value) for value in bins.sum(axis=0)))
    net = net_sentiment(counters)
    spark = tuple(
        float(score / posts / FIXED_POINT) if posts else None for posts, score in _coarse(bins, 24)[:, [_POSTS, _SCORE]]
    )
    if view.before is None:
        return Mood(topic=topic, counters=counters, net=net, posts_before=None, change=None, spark=spark)
    before = Counters(*(int(value) for value in _binned(buckets, view.before, view).sum(axis=0)))
    net_before = net_sentiment(before)
    change = difference(net, net_before) if net and net_before else None
    return Mood(topic=topic, counters=counters, net=net, posts_before=before.posts, change=change, spark=spark)


def _series(topic: str, buckets: dict[datetime, Counters], view: Frame) -> pd.DataFrame:
    """Columns topic, at, until, posts, positive, neutral, negative, net, low, high (NaN without posts), complete."""
    bins = _binned(buckets, view.start, view)
    net, low, high = intervals(bins[:, _POSTS], bins[:, _SCORE], bins[:, _SQUARE])
    starts = pd.DatetimeIndex(view.starts)
    counts = {name: bins[:, Counters._fields.index(name)].astype(np.int32) for name in ("posts", *LABELS)}
    # Small types: every refresh carries them to every viewer.
    scores = {"net": net.astype(np.float32), "low": low.astype(np.float32), "high": high.astype(np.float32)}
    return pd.DataFrame(
        {
            "topic": topic,
            "at": starts,
            "until": starts + pd.Timedelta(seconds=view.bins.width_s),
            **counts,
            **scores,
            "complete": np.arange(view.count) < view.count - 1,
        }
    )


_POSTS, _SCORE, _SQUARE = (Counters._fields.index(name) for name in ("posts", "score_sum", "score_square_sum"))
Sums = npt.NDArray[np.int64]


def _binned(buckets: dict[datetime, Counters], start: datetime, view: Frame) -> Sums:
    """Counters added up per bin of the stretch that begins at `start`: (bins, fields)."""
    sums = np.zeros((view.count, len(Counters._fields)), dtype=np.int64)
    for at, counters in buckets.items():
        number = int((at - start).total_seconds()) // view.bins.width_s
        if 0 <= number < view.count:
            sums[number] += counters
    return sums


def _coarse(bins: Sums, at_most: int) -> Sums:
    """The same sums in at most so many rows."""
    edges = np.unique(np.linspace(0, len(bins), min(at_most, len(bins)), endpoint=False, dtype=np.int64))
    return np.asarray(np.add.reduceat(bins, edges, axis=0))


def _after(clock: datetime) -> datetime:
    return clock + timedelta(seconds=1)


@contextmanager
def _translated(namespace: str, address: str) -> Iterator[None]:
    """Errors of Redis, of the contract and of decoding → DashboardError, once, here."""
    try:
        check_namespace(namespace)
    except ValueError as error:
        raise InvalidView(str(error)) from error
    try:
        yield
    except DashboardError:
        raise
    except UnknownNamespace as error:
        raise NoResults(namespace) from error
    except NewerResults as error:
        raise UnreadableResults(str(error)) from error
    except msgspec.MsgspecError as error:
        raise UnreadableResults(f"namespace {namespace!r} holds a value that is none of ours: {error}") from error
    except (RedisConnectionError, RedisTimeoutError, OSError) as error:
        raise StoreUnavailable(address, _reason(error)) from error
    except ResponseError as error:
        raise UnreadableResults(f"Redis at {address} refuses a read of {namespace!r}: {error}") from error
    except RedisError as error:
        raise StoreUnavailable(address, _reason(error)) from error


def _reason(error: Exception) -> str:
    """The error's kind in words; its own message may carry addresses and credentials."""
    causes = (error, error.__cause__, error.__context__)
    if any(isinstance(cause, (RedisTimeoutError, TimeoutError)) for cause in causes):
        return "timed out"
    said = [cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror]
    return said[0].lower() if said else "connection lost" if isinstance(error, RedisConnectionError) else str(error)
