"""Test, then train: contenders judged by event time on labels that arrive late (Grzenda, Gomes and Bifet, 2019).

The frozen model is only tested; the baselines learn, but only from labels that have arrived by then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np
from river.feature_extraction import BagOfWords
from river.linear_model import LogisticRegression
from river.multiclass import OneVsRestClassifier
from river.optim import SGD

from dashboard.evaluation.feed import Feed
from dashboard.evaluation.judgement import Curve, CurvePoint
from dashboard.evaluation.scores import figures
from inference_worker.contract import LABELS

WINDOW: Final = 1_000
"""Labels a curve looks back on, or a tenth of all if those are fewer, but at least MIN_WINDOW."""
MIN_WINDOW: Final = 100
CURVE_POINTS: Final = 300
LEARNING_RATE: Final = 0.1
"""Of the bag of words: better than naive Bayes over words and pairs of them, and faster."""
FIRST_GUESS: Final = LABELS.index("neutral")
"""What a baseline says before any label has arrived."""


def arrived(created_ms: np.ndarray, delay_ms: int) -> np.ndarray:
    """(N,) labelled rows by event time → how many labels have arrived when each row is predicted.

    Without delay, a label arrives before the next row does.
    """
    before = np.arange(len(created_ms))
    if delay_ms == 0:
        return before
    return np.minimum(before, np.searchsorted(created_ms, created_ms - delay_ms, side="right"))


def majority_so_far(labels: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(N,) the class most frequent among the first `known` labels, the first in LABELS order on a tie."""
    counts = np.zeros((len(labels) + 1, len(LABELS)), dtype=np.int64)
    np.cumsum(labels[:, None] == np.arange(len(LABELS)), axis=0, out=counts[1:])
    return np.where(known > 0, counts[known].argmax(axis=1), FIRST_GUESS)


def bag_of_words(texts: Sequence[str], labels: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(N,) what a logistic regression over words, one against the rest, says after the first `known` texts."""
    bag, model = BagOfWords(), OneVsRestClassifier(LogisticRegression(optimizer=SGD(LEARNING_RATE)))
    predicted = np.full(len(labels), FIRST_GUESS)
    waiting: deque[tuple[dict[str, int], int]] = deque()
    learnt = 0
    for row, (text, label, arrivals) in enumerate(zip(texts, labels.tolist(), known.tolist(), strict=True)):
        while learnt < arrivals:
            model.learn_one(*waiting.popleft())  # type: ignore[no-untyped-call]
            learnt += 1
        words = bag.transform_one(text)  # type: ignore[no-untyped-call]
        guess = model.predict_one(words)
        if guess is not None:
            predicted[row] = guess
        waiting.append((words, label))
    return predicted


def curve(name: str, feed: Feed, rows: np.ndarray, predicted: np.ndarray, delay_ms: int) -> Curve:
    """`rows`: labelled rows of the feed, in order; `predicted`: what the contender called them."""
    total = len(rows)
    window = max(MIN_WINDOW, min(WINDOW, total // 10))
    ends = np.unique(np.linspace(min(window, total), total, CURVE_POINTS).round().astype(int))
    size = len(LABELS)
    cells = np.zeros((total + 1, size * size), dtype=np.int32)
    cells[np.arange(1, total + 1), feed.labels[rows].astype(np.int64) * size + predicted] = 1
    np.cumsum(cells, axis=0, out=cells)
    points = []
    for end in ends[ends > 0]:
        matrix = (cells[end] - cells[max(0, end - window)]).reshape(size, size)
        found = figures(matrix)
        points.append(
            CurvePoint(
                at=moment(feed.created_ms[rows[end - 1]] + delay_ms),
                rows=int(end),
                accuracy=float(found.accuracy),
                macro_f1=float(found.macro_f1),
            )
        )
    return Curve(name=name, window=window, points=points)


def moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
