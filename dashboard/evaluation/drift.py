"""When the feed, or how right the model is on it, changed for good: ADWIN (Bifet and Gavaldà, SDM 2007) on signals.

Without labels: confidence, the share of each class, abstention, and where the posts' embeddings point to: towards the
mean of the first REFERENCE posts, along the directions those vary most in, and how far from them all. With labels: the
error.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from river.drift import ADWIN
from sklearn.covariance import LedoitWolf

from dashboard.evaluation.feed import Feed
from dashboard.evaluation.judgement import Drift, DriftFlag, Signal, SignalPoint
from dashboard.evaluation.prequential import moment
from inference_worker.contract import LABELS

FALSE_ALARM: Final = 0.05
"""ADWIN's delta of all signals together; each gets its share (Bonferroni)."""
REFERENCE: Final = 500
DIRECTIONS: Final = 4
SIGNAL_POINTS: Final = 300
_BLOCK: Final = 50_000


class _Series(NamedTuple):
    """A signal to watch; rows: number of the post at which each value is known; values in [0, 1]."""

    rows: np.ndarray
    values: np.ndarray
    needs_labels: bool = False


def drift(feed: Feed, *, label_delay_ms: int = 0) -> Drift:
    """Watches the feed in event-time order, as somebody would who saw it live."""
    series = {**_of_predictions(feed), **_of_embeddings(feed), "error": _error(feed, label_delay_ms)}
    delta = FALSE_ALARM / len(series)
    flags = [flag for name, one in series.items() for flag in _flags(name, one, delta, feed)]
    return Drift(
        flags=sorted(flags, key=lambda flag: (flag.row, flag.signal)),
        signals=[_signal(name, one, feed) for name, one in series.items()],
    )


def _of_predictions(feed: Feed) -> dict[str, _Series]:
    rows = np.arange(len(feed))
    return {
        "confidence": _Series(rows, feed.confidence.astype(np.float64)),
        "abstained": _Series(rows, feed.abstained.astype(np.float64)),
        **{label: _Series(rows, (feed.predicted == index).astype(np.float64)) for index, label in enumerate(LABELS)},
    }


def _of_embeddings(feed: Feed) -> dict[str, _Series]:
    """Cosines, moved from [-1, 1] to [0, 1], of the posts that have an embedding; needs more than REFERENCE of them."""
    rows = np.flatnonzero(feed.embeddings.any(axis=1))
    if len(rows) <= REFERENCE:
        return {}
    reference = feed.embeddings[rows[:REFERENCE]].astype(np.float64) / 127
    mean = reference.mean(axis=0)
    _, _, directions = np.linalg.svd(reference - mean, full_matrices=False)
    named = {
        "likeness to the first posts": mean / np.linalg.norm(mean),
        **{f"direction {index + 1}": _upright(directions[index]) for index in range(DIRECTIONS)},
    }
    cosines = {name: _Series(rows, _cosines(feed.embeddings, rows, axis)) for name, axis in named.items()}
    return {**cosines, "distance from the first posts": _Series(rows, _distances(feed.embeddings, rows, reference))}


def _cosines(embeddings: np.ndarray, rows: np.ndarray, axis: np.ndarray) -> np.ndarray:
    # summed column by column: a matrix product may round otherwise elsewhere, and needs every row as a float
    found = np.zeros(len(rows))
    for column, weight in enumerate(axis):
        found += embeddings[rows, column] * (weight / 127)
    return (found + 1) / 2


def _distances(embeddings: np.ndarray, rows: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Mahalanobis distances d² from the reference, as d² / (d² + their median there): in [0, 1], one half is usual.

    It sees what the few directions do not: strangers who talk as the first posts did on average.
    """
    cloud = LedoitWolf().fit(reference)
    usual = float(np.median(cloud.mahalanobis(reference)))
    found = np.empty(len(rows))
    for start in range(0, len(rows), _BLOCK):
        block = embeddings[rows[start : start + _BLOCK]].astype(np.float64) / 127
        found[start : start + _BLOCK] = cloud.mahalanobis(block)
    return found / (found + usual)


def _upright(direction: np.ndarray) -> np.ndarray:
    """A singular vector's sign means nothing: its largest component shall be positive."""
    return direction if direction[np.abs(direction).argmax()] > 0 else -direction


def _error(feed: Feed, label_delay_ms: int) -> _Series:
    labelled = np.flatnonzero(feed.is_labelled)
    if label_delay_ms == 0:
        known_at = labelled
    else:
        known_at = np.searchsorted(feed.created_ms, feed.created_ms[labelled] + label_delay_ms)
    in_time = known_at < len(feed)
    labelled = labelled[in_time]
    return _Series(known_at[in_time], (~feed.is_right[labelled]).astype(np.float64), needs_labels=True)


def _flags(name: str, series: _Series, delta: float, feed: Feed) -> Iterator[DriftFlag]:
    detector = ADWIN(delta=delta)  # type: ignore[no-untyped-call]
    start = 0
    for index, value in enumerate(series.values.tolist()):
        detector.update(value)  # type: ignore[no-untyped-call]
        if detector.drift_detected:
            seen = series.values[start : index + 1]
            change = _change(seen)
            row, since = int(series.rows[index]), int(series.rows[start + change])
            yield DriftFlag(
                signal=name,
                row=row,
                at=moment(feed.created_ms[row]),
                since_row=since,
                since=moment(feed.created_ms[since]),
                before=float(seen[:change].mean()),
                after=float(seen[change:].mean()),
            )
            start += change


def _change(values: np.ndarray) -> int:
    """Where the mean most likely changed: the largest cumulative sum of what differs from it (Page, 1955)."""
    return int(np.abs(np.cumsum(values - values.mean())[:-1]).argmax()) + 1


def _signal(name: str, series: _Series, feed: Feed) -> Signal:
    """Means over SIGNAL_POINTS blocks of equally many values; each stands at the block's last post."""
    count = len(series.rows)
    starts = np.unique(np.linspace(0, count, min(SIGNAL_POINTS, count) + 1).round().astype(int))
    blocks = zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
    return Signal(
        name=name,
        needs_labels=series.needs_labels,
        points=[
            SignalPoint(
                at=moment(feed.created_ms[series.rows[end - 1]]),
                rows=int(series.rows[end - 1]) + 1,
                value=float(series.values[start:end].mean()),
            )
            for start, end in blocks
        ],
    )
