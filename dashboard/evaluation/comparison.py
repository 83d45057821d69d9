"""Two runs on the posts they share: is one better, by how much, where, and on which posts do they disagree?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import binomtest

from dashboard.evaluation.feed import Feed, read_feed, read_texts
from dashboard.evaluation.judgement import Estimate, Scores
from dashboard.evaluation.prequential import moment
from dashboard.evaluation.scores import LEVEL, RESAMPLES, SEED, Figures, confusion, figures, scores, share
from dashboard.evaluation.slices import DIMENSIONS
from inference_worker.contract import LABELS

SCHEMA_VERSION: Final = 1
SHOWN: Final = 200
"""Posts of disagreement named, those first on which the two are surest together."""

Right = Literal["first", "second", "neither"]


class NothingShared(ValueError):
    """The two runs have no labelled post in common."""


class McNemar(msgspec.Struct, frozen=True, kw_only=True):
    """Exact test on the posts only one of the two has right; p_value: how likely so uneven a split is by chance."""

    only_first_right: int
    only_second_right: int
    p_value: float


class Disagreement(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    created_at: datetime
    text: str
    label: str
    first: str
    second: str
    first_confidence: float
    second_confidence: float
    right: Right


class SliceDifference(msgspec.Struct, frozen=True, kw_only=True):
    """accuracy of both on the shared labelled rows of a slice, and McNemar's p-value there (of that slice alone)."""

    dimension: str
    value: str
    rows: int
    first: float | None
    second: float | None
    p_value: float


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """All figures are of the labelled posts both runs scored; differences are second minus first.

    only_first, only_second: labelled posts just one of the runs has; relabelled: shared posts left out since their
    labels differ. disagreements: at most SHOWN of `disagreeing` posts.
    """

    shared: int
    only_first: int
    only_second: int
    relabelled: int
    first: Scores
    second: Scores
    accuracy_difference: Estimate
    macro_f1_difference: Estimate
    mcnemar: McNemar
    both_right: int
    both_wrong: int
    disagreeing: int
    slices: list[SliceDifference]
    disagreements: list[Disagreement]
    schema: int = SCHEMA_VERSION


class _Pair(NamedTuple):
    """Rows of the shared posts in either feed, in the order of the first one's event time."""

    first: np.ndarray
    second: np.ndarray


def compare(first: Path, second: Path) -> Comparison:
    """Two predictions.parquet of the same history. Raises BadPredictions, or NothingShared."""
    feeds = read_feed(first), read_feed(second)
    shared, relabelled = _shared(*feeds)
    if not len(shared.first):
        raise NothingShared(
            f"{first} and {second} share no labelled post: compare two replays of the same labelled archive"
        )
    labels = feeds[0].labels[shared.first].astype(np.int64)
    one, two = (feed.predicted[rows].astype(np.int64) for feed, rows in zip(feeds, shared, strict=True))
    accuracy, macro_f1 = _differences(labels, one, two)
    return Comparison(
        shared=len(labels),
        only_first=int(feeds[0].is_labelled.sum()) - len(labels) - relabelled,
        only_second=int(feeds[1].is_labelled.sum()) - len(labels) - relabelled,
        relabelled=relabelled,
        first=scores(confusion(labels, one)),
        second=scores(confusion(labels, two)),
        accuracy_difference=accuracy,
        macro_f1_difference=macro_f1,
        mcnemar=mcnemar(one == labels, two == labels),
        both_right=int(((one == labels) & (two == labels)).sum()),
        both_wrong=int(((one != labels) & (two != labels)).sum()),
        disagreeing=int((one != two).sum()),
        slices=list(_slices(feeds[0], shared.first, one == labels, two == labels)),
        disagreements=_disagreements(first, feeds, shared),
    )


def mcnemar(first_right: np.ndarray, second_right: np.ndarray) -> McNemar:
    """McNemar (1947), exact: under chance each discordant post falls either way alike."""
    only_first, only_second = int((first_right & ~second_right).sum()), int((second_right & ~first_right).sum())
    discordant = only_first + only_second
    p_value = float(binomtest(only_first, discordant).pvalue) if discordant else 1.0
    return McNemar(only_first_right=only_first, only_second_right=only_second, p_value=p_value)


def _shared(first: Feed, second: Feed) -> tuple[_Pair, int]:
    """Posts labelled in both alike, and how many are labelled otherwise."""
    mine = np.flatnonzero(first.is_labelled)
    theirs = np.flatnonzero(second.is_labelled)
    place = pc.index_in(first.ids.take(pa.array(mine)), value_set=second.ids.take(pa.array(theirs)).combine_chunks())
    places = np.asarray(pc.fill_null(place, -1).to_numpy())
    rows, others = mine[places >= 0], theirs[places[places >= 0]]
    alike = first.labels[rows] == second.labels[others]
    return _Pair(rows[alike], others[alike]), int((~alike).sum())


def _differences(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[Estimate, Estimate]:
    """Paired bootstrap of accuracy and macro F1: posts are drawn with both predictions, as one table of counts."""
    size = len(LABELS)
    table = np.bincount((labels * size + first) * size + second, minlength=size**3)
    drawn = np.random.default_rng(SEED).multinomial(len(labels), table / len(labels), size=RESAMPLES)
    found, resampled = (_difference(counts.reshape(-1, size, size, size)) for counts in (table, drawn))
    accuracy, macro_f1 = (
        Estimate(
            value=float(getattr(found, name)[0]),
            low=float(np.percentile(getattr(resampled, name), (100 - LEVEL) / 2)),
            high=float(np.percentile(getattr(resampled, name), (100 + LEVEL) / 2)),
        )
        for name in ("accuracy", "macro_f1")
    )
    return accuracy, macro_f1


def _difference(tables: np.ndarray) -> Figures:
    """(R, label, first, second) counts → second minus first."""
    first, second = figures(tables.sum(axis=3)), figures(tables.sum(axis=2))
    return Figures(*(theirs - mine for mine, theirs in zip(first, second, strict=True)))


def _slices(
    feed: Feed, rows: np.ndarray, first_right: np.ndarray, second_right: np.ndarray
) -> Iterator[SliceDifference]:
    """By the traits of the first run's rows, its confidence included."""
    for dimension, trait in DIMENSIONS.items():
        codes, values = trait(feed)
        for code, value in enumerate(values):
            chosen = codes[rows] == code
            if count := int(chosen.sum()):
                yield SliceDifference(
                    dimension=dimension,
                    value=value,
                    rows=count,
                    first=share(int(first_right[chosen].sum()), count),
                    second=share(int(second_right[chosen].sum()), count),
                    p_value=mcnemar(first_right[chosen], second_right[chosen]).p_value,
                )


def _disagreements(path: Path, feeds: tuple[Feed, Feed], shared: _Pair) -> list[Disagreement]:
    first, second = feeds
    apart = np.flatnonzero(first.predicted[shared.first] != second.predicted[shared.second])
    sure = first.confidence[shared.first[apart]] + second.confidence[shared.second[apart]]
    shown = apart[np.argsort(-sure, kind="stable")[:SHOWN]]
    texts = read_texts(path, first.rows[shared.first[shown]])
    return [
        _disagreement(first, second, row, other, text)
        for row, other, text in zip(shared.first[shown], shared.second[shown], texts, strict=True)
    ]


def _disagreement(first: Feed, second: Feed, row: int, other: int, text: str) -> Disagreement:
    label, one, two = first.labels[row], first.predicted[row], second.predicted[other]
    return Disagreement(
        id=first.ids[int(row)].as_py(),
        created_at=moment(first.created_ms[row]),
        text=text,
        label=LABELS[label],
        first=LABELS[one],
        second=LABELS[two],
        first_confidence=float(first.confidence[row]),
        second_confidence=float(second.confidence[other]),
        right="first" if one == label else "second" if two == label else "neither",
    )
