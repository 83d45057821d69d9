"""What a namespace holds → sentiment and volume over any range, topics compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import pandas as pd

from inference_worker.contract import ALL, FIXED_POINT, LABELS, Counters, Meta

from .alerts.history import Alert
from .feeds import Feed
from .markup import topic_title
from .queries import binned, course, frame_of, total
from .reading import UTC_NAME
from .windows import Frame, between

COMPARED: Final = 8
"""As many topics as colours can be told apart."""
ALERTS_MARKED: Final = 12
MODALITIES: Final = ("fused", "text", "image")
_FIELD: Final = {name: place for place, name in enumerate(Counters._fields)}


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened at a time, marked in the charts. kind: `model` or `alert`."""

    at: datetime
    kind: str
    label: str


@dataclass(frozen=True, kw_only=True)
class Trends:
    """All the page shows. Shared by viewers: not to be changed.

    compared: `all` and the busiest topics, or those selected; left_out: so many are not, though asked for or known;
    lead: the one whose classes and modalities are shown;
    series: as `queries.course`, of the topics compared; totals: the range's counters by topic;
    modalities: columns at, modality, net of `lead`; rates: columns at, rate, share of `lead`.
    """

    namespace: str
    meta: Meta
    clock: datetime
    frame: Frame
    topics: tuple[str, ...]
    compared: tuple[str, ...]
    left_out: int
    lead: str
    series: pd.DataFrame
    totals: dict[str, Counters]
    modalities: pd.DataFrame
    rates: pd.DataFrame
    events: tuple[Event, ...]

    @property
    def is_replay(self) -> bool:
        return self.meta.kind == "replay"


def trends(
    feed: Feed,
    *,
    window: str,
    selected: Sequence[str] = (),
    start: datetime | None = None,
    end: datetime | None = None,
    zone: str = UTC_NAME,
) -> Trends:
    """A window of the clock or, with `start` and `end`, a range of its own. Raises DashboardError.

    zone: whose days the bins begin with.
    """
    head = feed.head()
    view = between(start, end, zone) if start and end else frame_of(feed, window, zone)
    read = list(dict.fromkeys([ALL, *selected, *feed.busiest()]))
    (bins,) = binned(feed, read, view, [view.start])
    totals = {topic: total(sums) for topic, sums in bins.items()}
    busiest = sorted(totals, key=lambda topic: (topic != ALL, -totals[topic].volume, topic))
    compared = tuple(selected or busiest)[:COMPARED]
    lead = compared[0]
    starts = pd.DatetimeIndex(view.starts)
    return Trends(
        namespace=feed.namespace,
        meta=head.meta,
        clock=head.clock,
        frame=view,
        topics=head.topics,
        compared=compared,
        left_out=len(set(selected or head.topics).difference(compared)),
        lead=lead,
        series=course({topic: bins[topic] for topic in compared}, view, head.clock),
        totals=totals,
        modalities=_modalities(bins[lead], starts),
        rates=_rates(bins[lead], starts),
        events=_model_changes(feed, view),
    )


def _ratio(sums: np.ndarray, part: str, whole: str) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((sums[:, _FIELD[part]] / sums[:, _FIELD[whole]]), dtype=np.float32)


def _modalities(sums: np.ndarray, starts: pd.DatetimeIndex) -> pd.DataFrame:
    """What the fused model, the texts alone and the pictures alone say, per bin."""
    parts = (("score_sum", "posts"), ("text_score_sum", "with_text"), ("image_score_sum", "with_image"))
    return pd.concat(
        [
            pd.DataFrame({"at": starts, "modality": name, "net": _ratio(sums, *fields) / FIXED_POINT})
            for name, fields in zip(MODALITIES, parts, strict=True)
        ],
        ignore_index=True,
    )


def _rates(sums: np.ndarray, starts: pd.DatetimeIndex) -> pd.DataFrame:
    """Shares per bin: abstained and foreign of all posts, disagreeing of those with both text and picture judged.

    A post has a judged text, a judged picture or both; the rollups count each alone, so both is what exceeds the posts.
    """
    with_both = sums[:, _FIELD["with_text"]] + sums[:, _FIELD["with_image"]] - sums[:, _FIELD["posts"]]
    with np.errstate(divide="ignore", invalid="ignore"):
        disagreeing = np.where(with_both > 0, sums[:, _FIELD["disagreements"]] / with_both, np.nan)
    rates = {
        "abstained": _ratio(sums, "abstained", "posts"),
        "text and picture disagree": disagreeing.astype(np.float32),
    }
    return pd.concat(
        [pd.DataFrame({"at": starts, "rate": name, "share": share}) for name, share in rates.items()],
        ignore_index=True,
    )


def _model_changes(feed: Feed, view: Frame) -> tuple[Event, ...]:
    """When a worker with another model came, as far as those alive now tell; the first of each model in the range."""
    if feed.head().meta.kind == "replay":
        return ()  # its clock is not the workers'
    first: dict[str, datetime] = {}
    for worker in sorted(feed.head().workers, key=lambda worker: worker.started_at):
        first.setdefault(worker.model, worker.started_at)
    return tuple(
        Event(at=at, kind="model", label=f"model {model}")
        for model, at in first.items()
        if view.start <= at < view.end and at - view.start > timedelta(seconds=view.bins.width_s)
    )


def with_alerts(found: Trends, opened: Sequence[Alert]) -> Trends:
    """The same with the alerts marked that opened on the topics compared, the strongest where there are many."""
    here = [alert for alert in opened if alert.topic in (*found.compared, ALL)]
    strongest = sorted(here, key=lambda alert: -alert.strength)[:ALERTS_MARKED]
    marks = [
        Event(at=alert.opened_at, kind="alert", label=f"{alert.rule}: {topic_title(alert.topic)}")
        for alert in strongest
    ]
    return replace(found, events=tuple(sorted((*found.events, *marks), key=lambda event: event.at)))


def share_of_voice(found: Trends) -> pd.DataFrame:
    """Columns topic, posts (scored or not), scored, share, *classes: of the topics compared, but for `all`, which holds
    them all."""
    rows = [(topic, found.totals[topic]) for topic in found.compared if topic != ALL] or [
        (topic, counters) for topic, counters in found.totals.items() if topic == ALL
    ]
    whole = sum(counters.volume for _, counters in rows)
    return pd.DataFrame(
        [
            {
                "topic": topic,
                "posts": counters.volume,
                "scored": counters.posts,
                "share": counters.volume / whole if whole else 0.0,
                "net": counters.net_sentiment,
                **{label: getattr(counters, label) for label in LABELS},
            }
            for topic, counters in rows
        ]
    )
