"""Two models on the posts both scored, a live namespace and its shadow: where they agree, and what it would change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
import numpy as np
from scipy.special import ndtri

from dashboard.evaluation.judgement import Estimate
from dashboard.evaluation.scores import LEVEL, proportion
from inference_worker.contract import ALL, LABELS, Prediction

SCHEMA_VERSION: Final = 1
_QUANTILES: Final = (50, 95, 99)
_Z: Final = float(ndtri(0.5 + LEVEL / 200))


class NothingShared(ValueError):
    """No post was scored by both."""


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One model on the shared posts. models: all that scored them; engine_ms: of a post's batch, p50, p95 and p99;
    latency_ms: from ingest to the answer, likewise; accuracy: on posts with a label or a correction."""

    models: list[str]
    abstained: float
    engine_ms: list[float]
    latency_ms: list[float]
    accuracy: Estimate


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """Of a topic's shared posts. live, shadow: shares of the classes in the order of LABELS; net_difference: mean of
    shadow minus live."""

    topic: str
    posts: int
    agreeing: Estimate
    live: list[float]
    shadow: list[float]
    net_difference: Estimate


class Shadowing(msgspec.Struct, frozen=True, kw_only=True):
    """only_live, only_shadow: posts read of one side that the other does not have; table: shared posts by class, rows
    live and columns shadow, in the order of LABELS."""

    shared: int
    only_live: int
    only_shadow: int
    live: Side
    shadow: Side
    agreement: Agreement
    table: list[list[int]]
    topics: list[Agreement]
    labels: tuple[str, ...] = LABELS
    schema: int = SCHEMA_VERSION


Pairs = Sequence[tuple[Prediction, Prediction]]


def compare(live: Iterable[Prediction], shadow: Iterable[Prediction]) -> Shadowing:
    """Posts are matched by id and revision. Raises NothingShared."""
    here, there = ({(post.id, post.revision): post for post in posts} for posts in (live, shadow))
    pairs = [(here[key], there[key]) for key in here if key in there]
    if not pairs:
        raise NothingShared(f"of {len(here)} live posts and {len(there)} of the shadow none is the same")
    first, second = (_classes([pair[side] for pair in pairs]) for side in (0, 1))
    table = np.zeros((len(LABELS), len(LABELS)), dtype=np.int64)
    np.add.at(table, (first, second), 1)
    topics = sorted({topic for post, _ in pairs for topic in post.topics})
    by_topic = [_agreement(topic, [pair for pair in pairs if topic in pair[0].topics]) for topic in topics]
    return Shadowing(
        shared=len(pairs),
        only_live=len(here) - len(pairs),
        only_shadow=len(there) - len(pairs),
        live=_side([post for post, _ in pairs]),
        shadow=_side([post for _, post in pairs]),
        agreement=_agreement(ALL, pairs),
        table=table.tolist(),
        topics=sorted(by_topic, key=lambda one: -one.posts),
    )


def _side(posts: Sequence[Prediction]) -> Side:
    judged = [(post.correction or post.label, post.predicted) for post in posts if post.correction or post.label]
    return Side(
        models=sorted({post.model for post in posts}),
        abstained=sum(post.abstained for post in posts) / len(posts),
        engine_ms=_quantiles([post.computed_ms for post in posts if post.computed_ms is not None]),
        latency_ms=_quantiles([(post.scored_at - post.ingested_at).total_seconds() * 1000 for post in posts]),
        accuracy=proportion(sum(truth == said for truth, said in judged), len(judged)),
    )


def _quantiles(values: Sequence[float]) -> list[float]:
    return np.percentile(values, _QUANTILES).round(1).tolist() if values else []


def _classes(posts: Sequence[Prediction]) -> np.ndarray:
    return np.array([LABELS.index(post.predicted) for post in posts])


def _agreement(topic: str, pairs: Pairs) -> Agreement:
    """What the models say, whatever people corrected."""
    first, second = (_classes([pair[side] for pair in pairs]) for side in (0, 1))
    shares = [np.bincount(classes, minlength=len(LABELS)) / len(pairs) for classes in (first, second)]
    return Agreement(
        topic=topic,
        posts=len(pairs),
        agreeing=proportion(int((first == second).sum()), len(pairs)),
        live=shares[0].tolist(),
        shadow=shares[1].tolist(),
        net_difference=_mean(np.array([_net(post) - _net(other) for other, post in pairs])),
    )


def _net(post: Prediction) -> float:
    return post.probabilities[0] - post.probabilities[2]


def _mean(values: np.ndarray) -> Estimate:
    mean = float(values.mean())
    if len(values) < 2:
        return Estimate(value=mean)
    error = _Z * float(values.std(ddof=1)) / len(values) ** 0.5
    return Estimate(value=mean, low=mean - error, high=mean + error)
