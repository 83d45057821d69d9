"""A replay judged: predictions.parquet → Judgement. The same posts give the same judgement, whatever their order.

Only `Judgement.performance` depends on when and in how many goes the posts were scored.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Final

import numpy as np

from dashboard.evaluation.calibration import calibration, risk_coverage
from dashboard.evaluation.drift import drift
from dashboard.evaluation.feed import Feed, read_feed, read_texts
from dashboard.evaluation.judgement import Baseline, Calibration, Curve, InputKind, Judgement
from dashboard.evaluation.performance import performance
from dashboard.evaluation.prequential import arrived, bag_of_words, curve, majority_so_far, moment
from dashboard.evaluation.scores import answered, confusion, scores
from dashboard.evaluation.slices import KINDS, input_kinds, slices
from inference_worker.contract import LABELS

BAG_OF_WORDS_ROWS: Final = 100_000
"""Labelled rows the bag of words is tried on: it reads them one by one."""


def judge(predictions: Path, *, label_delay: timedelta = timedelta(0)) -> Judgement:
    """label_delay: event time after which the label of a post becomes known.

    Raises BadPredictions if the file is none, ValueError if the delay is negative.
    """
    if label_delay < timedelta(0):
        raise ValueError(f"label delay {label_delay.total_seconds():g} s: labels cannot arrive before their posts")
    feed = read_feed(predictions)
    delay_ms = round(label_delay.total_seconds() * 1000)
    labelled = np.flatnonzero(feed.is_labelled)
    overall, by_kind = _calibrations(feed, labelled)
    baselines, curves = _contenders(predictions, feed, labelled, delay_ms)
    return Judgement(
        rows=len(feed),
        labelled=len(labelled),
        first_at=moment(feed.created_ms[0]) if len(feed) else None,
        last_at=moment(feed.created_ms[-1]) if len(feed) else None,
        models=sorted({str(name) for name in feed.models.unique().to_pylist()}),
        predicted={label: int((feed.predicted == index).sum()) for index, label in enumerate(LABELS)},
        abstained=int(feed.abstained.sum()),
        foreign=int(feed.foreign.sum()),
        scores=scores(confusion(feed.labels, feed.predicted)),
        answered=answered(feed),
        calibration=overall,
        calibration_by_kind=by_kind,
        risk_coverage=risk_coverage(feed.confidence[labelled], feed.is_right[labelled]),
        slices=slices(feed),
        label_delay_s=label_delay.total_seconds(),
        curves=curves,
        baselines=baselines,
        drift=drift(feed, label_delay_ms=delay_ms),
        performance=performance(feed),
    )


def _calibrations(feed: Feed, labelled: np.ndarray) -> tuple[Calibration, dict[InputKind, Calibration]]:
    def of(rows: np.ndarray) -> Calibration:
        return calibration(feed.labels[rows], feed.predicted[rows], feed.probabilities[rows])

    kinds = input_kinds(feed)[labelled]
    by_kind: dict[InputKind, Calibration] = {
        kind: of(labelled[kinds == code]) for code, kind in enumerate(KINDS) if (kinds == code).any()
    }
    return of(labelled), by_kind


def _contenders(
    predictions: Path, feed: Feed, labelled: np.ndarray, delay_ms: int
) -> tuple[list[Baseline], list[Curve]]:
    """The model and what learns beside it, on the same rows each."""
    few = labelled[:BAG_OF_WORDS_ROWS]
    known = arrived(feed.created_ms[labelled], delay_ms)
    guesses = {
        "majority": majority_so_far(feed.labels[labelled], known),
        "bag of words": bag_of_words(read_texts(predictions, feed.rows[few]), feed.labels[few], known[: len(few)]),
    }
    baselines = []
    curves = [curve("model", feed, labelled, feed.predicted[labelled], delay_ms)]
    for name, predicted in guesses.items():
        rows = labelled[: len(predicted)]
        baselines.append(
            Baseline(
                name=name,
                scores=scores(confusion(feed.labels[rows], predicted)),
                model=scores(confusion(feed.labels[rows], feed.predicted[rows])),
                is_limited=len(rows) < len(labelled),
            )
        )
        curves.append(curve(name, feed, rows, predicted, delay_ms))
    return baselines, curves
