"""What a namespace holds → one snapshot of the page Now, as plain values and DataFrames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import pandas as pd

from inference_worker.contract import ALL, FIXED_POINT, LABELS, Counters, Meta, Prediction, WorkerState

from .errors import NoResults
from .estimates import Estimate, difference, intervals
from .feeds import Feed, Sums
from .reading import UTC_NAME
from .windows import ALL_TIME, Frame, frame

POSTS_SHOWN: Final = 6
ROWS_SHOWN: Final = 4
"""Topics whose course is drawn."""
_SPARKS: Final = 24
_SCORES: Final = tuple(Counters._fields.index(name) for name in ("posts", "score_sum", "score_square_sum"))


@dataclass(frozen=True, kw_only=True)
class Change:
    """A mood against another stretch of time: its posts, scored or not, and how far the mood lies above it if both have
    scored ones."""

    posts: int
    net: Estimate | None


@dataclass(frozen=True, kw_only=True)
class Mood:
    """One topic in the window. before, same: against the stretches of `Frame`, None where there is none."""

    topic: str
    counters: Counters
    net: Estimate | None
    before: Change | None = None
    same: Change | None = None
    spark: tuple[float | None, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """All the page shows. clock: the namespace's own time; read_at: the wall's. Shared by viewers: not to be changed.

    shown: the topics selected or, if none is, those read by posts in the window, `all` first;
    left_out: topics beside them that would be shown if there were not too many;
    series: a row per topic and bin of the first ROWS_SHOWN of them (columns of `course`);
    pictures: JPEG per post id, of `posts` only; covers_before: the feed was there for all of the stretch before.
    """

    namespace: str
    meta: Meta
    clock: datetime
    read_at: datetime
    frame: Frame
    topics: tuple[str, ...]
    shown: tuple[str, ...]
    left_out: int
    moods: dict[str, Mood]
    series: pd.DataFrame
    posts: tuple[Prediction, ...]
    pictures: dict[str, bytes]
    counts: dict[str, int]
    covers_before: bool
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
    topics: tuple[str, ...] = ()
    clock: datetime | None = None


def outline(feed: Feed) -> Outline:
    """Kind, topics and clock of a namespace; its kind alone before the first post. Raises DashboardError."""
    try:
        head = feed.head()
    except NoResults:
        return Outline(kind=feed.meta().kind)
    return Outline(kind=head.meta.kind, topics=head.topics, clock=head.clock)


def frame_of(feed: Feed, window: str, zone: str = UTC_NAME) -> Frame:
    """The window as it lies on the namespace's clock. Raises DashboardError."""
    return frame(window, feed.head().clock, feed.first_post_at() if window == ALL_TIME else None, zone)


def snapshot(
    feed: Feed, *, window: str, selected: Sequence[str] = (), zone: str = UTC_NAME, now: datetime | None = None
) -> Snapshot:
    """All of the live page at once. Raises DashboardError.

    selected: topics asked for, none means all of them; zone: whose days the bins begin with.
    """
    head = feed.head()
    view = frame_of(feed, window, zone)
    read = list(dict.fromkeys([ALL, *selected, *feed.busiest()]))
    starts = [start for start in (view.start, view.before, view.same) if start]
    bins = dict(zip(starts, binned(feed, read, view, starts), strict=True))
    moods = _moods(read, view, bins)
    shown = tuple(selected) or tuple(sorted(moods, key=lambda name: (name != ALL, -moods[name].counters.volume, name)))
    posts = feed.latest(selected, POSTS_SHOWN)
    return Snapshot(
        namespace=feed.namespace,
        meta=head.meta,
        clock=head.clock,
        read_at=now or datetime.now(UTC),
        frame=view,
        topics=head.topics,
        shown=shown,
        left_out=0 if selected else len(set(head.topics).difference(shown)),
        moods=moods,
        series=course({topic: bins[view.start][topic] for topic in shown[:ROWS_SHOWN]}, view, head.clock),
        posts=posts,
        pictures={
            post_id: jpeg
            for (post_id, _), jpeg in feed.pictures(
                [(post.id, post.strongest_image) for post in posts if post.images]
            ).items()
        },
        counts=head.counts,
        covers_before=view.before is not None and _begins_early(bins[view.before][ALL]),
        workers=head.workers,
    )


def binned(feed: Feed, topics: Sequence[str], view: Frame, starts: Sequence[datetime]) -> list[dict[str, Sums]]:
    """Counters per bin and topic, (bins, fields), of the stretches as long as the window that begin at `starts`."""
    edges = view.edges
    found = feed.sums(topics, view.bins.level, starts, view.end - view.start)
    return [{topic: np.add.reduceat(sums, edges, axis=0) for topic, sums in stretch.items()} for stretch in found]


def total(sums: Sums) -> Counters:
    return Counters(*sums.sum(axis=0).tolist())


def _moods(topics: Sequence[str], view: Frame, bins: dict[datetime, dict[str, Sums]]) -> dict[str, Mood]:
    """bins: those of the window and of the stretches it is compared with, by their starts."""
    totals = {start: _totals([stretch[topic] for topic in topics]) for start, stretch in bins.items()}
    return {
        topic: Mood(
            topic=topic,
            counters=counters,
            net=net,
            before=_change(net, *totals[view.before][place]) if view.before else None,
            same=_change(net, *totals[view.same][place]) if view.same else None,
            spark=_spark(bins[view.start][topic]),
        )
        for place, (topic, (counters, net)) in enumerate(zip(topics, totals[view.start], strict=True))
    }


def _totals(stretch: Sequence[Sums]) -> list[tuple[Counters, Estimate | None]]:
    """What each topic's bins add up to, and its net sentiment: all at once, as NumPy is slow on few numbers."""
    sums = np.array([bins.sum(axis=0) for bins in stretch])
    ends = np.stack(intervals(*(sums[:, field] for field in _SCORES)), axis=1).tolist()
    return [
        (counters, Estimate(*end) if counters.posts else None)
        for counters, end in zip((Counters(*row) for row in sums.tolist()), ends, strict=True)
    ]


def _spark(sums: Sums) -> tuple[float | None, ...]:
    """Net sentiment over the window in few steps."""
    return tuple(
        score / posts / FIXED_POINT if posts else None
        for posts, score in _coarse(sums[:, _SCORES[:2]], _SPARKS).tolist()
    )


def _begins_early(sums: Sums) -> bool:
    """Somebody posted in the first fifth of the stretch: the feed was there for all of it, as far as one can tell."""
    return bool(sums[: max(1, len(sums) // 5), _SCORES[0]].any())


def _change(net: Estimate | None, then: Counters, net_then: Estimate | None) -> Change:
    return Change(posts=then.volume, net=difference(net, net_then) if net and net_then else None)


def course(bins: dict[str, Sums], view: Frame, clock: datetime) -> pd.DataFrame:
    """Columns topic, at, until, posts, positive, neutral, negative, volume (with what was shed), net, low, high (NaN
    without posts), complete."""
    sums = np.concatenate(list(bins.values()))
    net, low, high = intervals(*(sums[:, field] for field in _SCORES))
    starts = pd.DatetimeIndex(view.starts)
    untils = pd.DatetimeIndex(view.ends)
    counts = {name: sums[:, Counters._fields.index(name)].astype(np.int32) for name in ("posts", *LABELS)}
    counts["volume"] = counts["posts"] + sums[:, Counters._fields.index("shed")].astype(np.int32)
    # Small types: every refresh carries them to every viewer.
    scores = {"net": net.astype(np.float32), "low": low.astype(np.float32), "high": high.astype(np.float32)}
    return pd.DataFrame(
        {
            "topic": np.repeat(list(bins), view.count),
            "at": starts[np.tile(np.arange(view.count), len(bins))],
            "until": untils[np.tile(np.arange(view.count), len(bins))],
            **counts,
            **scores,
            "complete": np.tile(untils <= clock, len(bins)),
        }
    )


def _coarse(bins: Sums, at_most: int) -> Sums:
    """The same sums in at most so many rows."""
    edges = np.unique(np.linspace(0, len(bins), min(at_most, len(bins)), endpoint=False, dtype=np.int64))
    return np.asarray(np.add.reduceat(bins, edges, axis=0))
