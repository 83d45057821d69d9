"""What evaluation says of a replay: plain data that goes to judgement.json and comes back, read by reports and pages.

Everywhere, None stands for "no post to tell from". Distributions and matrices are in the order of `LABELS`.
Intervals are 95 % ones. Times are event times unless said otherwise.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import msgspec

SCHEMA_VERSION: Final = 1

InputKind = Literal["text", "image", "both", "none"]


class BadJudgement(ValueError):
    """The file is no judgement, or a newer Moodstream wrote it."""


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A figure and the interval it lies in; low and high are None where no interval was worked out."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


class ClassScores(msgspec.Struct, frozen=True, kw_only=True):
    """One class; precision is None if nothing was called so, recall if nothing was so. F1 is None if neither."""

    precision: float | None
    recall: float | None
    f1: float | None
    support: int


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """What the labels say about the predictions.

    macro_f1: plain mean of F1 over the classes that occur among labels or predictions; weighted_f1: by support.
    macro_recall: plain mean of recall over the classes that occur among labels.
    confusion[i][j]: posts labelled LABELS[i] and predicted LABELS[j].
    """

    rows: int
    accuracy: Estimate
    macro_f1: Estimate
    weighted_f1: Estimate
    macro_recall: float | None
    per_class: dict[str, ClassScores]
    confusion: list[list[int]]


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """coverage: share of labelled posts the model did not abstain on; accuracy: on those alone."""

    rows: int
    coverage: float | None
    accuracy: Estimate
    macro_f1: float | None


class ReliabilityBin(msgspec.Struct, frozen=True, kw_only=True):
    """Posts whose confidence lies in [low, high): how sure the model was, and how often it was right."""

    low: float
    high: float
    rows: int
    confidence: float | None
    accuracy: Estimate


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a confidence of 80 % is right 80 % of the time.

    ece: 15 equal-width bins of confidence; ece_debiased: the same without what few rows alone add to it (Kumar, Liang
    and Ma, NeurIPS 2019); ece_if_perfect: what a perfectly calibrated model would show on as many rows, and the
    interval of that; ece_adaptive: bins of equally many rows; brier: sum over the classes, in [0, 2]; nll: in nats.
    """

    rows: int
    ece: float | None
    ece_debiased: float | None
    ece_if_perfect: Estimate
    ece_adaptive: float | None
    brier: float | None
    nll: float | None
    bins: list[ReliabilityBin]


class RiskPoint(msgspec.Struct, frozen=True, kw_only=True):
    """Answering only posts with at least `threshold` confidence: how many those are and how many of them are right."""

    coverage: float
    accuracy: float
    threshold: float


class RiskCoverage(msgspec.Struct, frozen=True, kw_only=True):
    """aurc: mean error over all coverages, the lower the better; aurc_best: what a perfect ranking would reach.

    coverage_at_90: largest coverage at which 90 % of the answers are right; None if at none.
    """

    points: list[RiskPoint]
    aurc: float | None
    aurc_best: float | None
    coverage_at_90: float | None


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """The posts that share one trait, e.g. dimension `modality`, value `text`.

    is_worst: lowest macro F1 among the slices with enough labelled rows to tell. mean_confidence, coverage: of all
    rows, labelled or not.
    """

    dimension: str
    value: str
    rows: int
    labelled: int
    accuracy: Estimate
    macro_f1: float | None
    coverage: float | None
    mean_confidence: float | None
    is_worst: bool = False


class CurvePoint(msgspec.Struct, frozen=True, kw_only=True):
    """How right a contender was on the last labels that had arrived by `at`; rows: labels in all up to then."""

    at: datetime
    rows: int
    accuracy: float
    macro_f1: float


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """Prequential curve: every post is predicted before its label is learnt from. `window`: labels looked back on."""

    name: str
    window: int
    points: list[CurvePoint]


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """A contender that learns from labels as they arrive, on the same rows as `model`, the shipped one's scores there.

    is_limited: only the first rows were looked at, since the baseline is slow.
    """

    name: str
    scores: Scores
    model: Scores
    is_limited: bool = False


class SignalPoint(msgspec.Struct, frozen=True, kw_only=True):
    at: datetime
    rows: int
    value: float


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """What was watched for drift, as means over blocks of posts; needs_labels: it lags by the label delay."""

    name: str
    needs_labels: bool
    points: list[SignalPoint]


class DriftFlag(msgspec.Struct, frozen=True, kw_only=True):
    """A signal's mean changed for good: noticed at post number `row` (from 0, by event time) at time `at`.

    since_row, since: the post at which the change most likely began; before, after: mean of the signal on the two
    sides of it, back to the last change and up to `row`.
    """

    signal: str
    row: int
    at: datetime
    since_row: int
    since: datetime
    before: float
    after: float


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    flags: list[DriftFlag]
    signals: list[Signal]


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """Time posts took from one point to another, in milliseconds."""

    name: str
    rows: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None


class Performance(msgspec.Struct, frozen=True, kw_only=True):
    """throughput: posts a second between the first and the last score; it and the stages are of wall-clock time.

    posts_per_machine_hour: at that throughput, on the machine the replay ran on.
    """

    stages: list[Stage]
    first_scored_at: datetime | None
    last_scored_at: datetime | None
    throughput_posts_per_s: float | None
    posts_per_machine_hour: float | None

    def cost_per_million_posts(self, price_per_machine_hour: float) -> float | None:
        """In the currency of the price."""
        return 1e6 / self.posts_per_machine_hour * price_per_machine_hour if self.posts_per_machine_hour else None


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. rows: predictions; labelled: those that carry ground truth.

    predicted: how many rows were called each class; label_delay_s: how long labels took to arrive, in event time.
    calibration: of all rows; calibration_by_kind: of the rows with text alone, image alone, both. slices: the worst one
    is marked.
    """

    rows: int
    labelled: int
    first_at: datetime | None
    last_at: datetime | None
    models: list[str]
    predicted: dict[str, int]
    abstained: int
    foreign: int
    scores: Scores
    answered: Answered
    calibration: Calibration
    calibration_by_kind: dict[InputKind, Calibration]
    risk_coverage: RiskCoverage
    slices: list[Slice]
    label_delay_s: float
    curves: list[Curve]
    baselines: list[Baseline]
    drift: Drift
    performance: Performance
    schema: int = SCHEMA_VERSION


class _Header(msgspec.Struct):
    schema: int


_header_decoder = msgspec.json.Decoder(_Header)
_decoder = msgspec.json.Decoder(Judgement)


def read_judgement(path: Path) -> Judgement:
    """Raises BadJudgement."""
    try:
        data = path.read_bytes()
        schema = _header_decoder.decode(data).schema
        if schema > SCHEMA_VERSION:
            raise BadJudgement(f"{path} has schema {schema}, this reads up to {SCHEMA_VERSION}: upgrade")
        return _decoder.decode(data)
    except OSError as error:
        raise BadJudgement(f"{path}: {error.strerror}: name the judgement.json of a replay") from error
    except msgspec.MsgspecError as error:
        raise BadJudgement(f"{path} is no judgement: {error}: judge the replay again") from error


def write_judgement(path: Path, judgement: Judgement) -> None:
    """Whole or not at all."""
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(judgement), indent=2) + b"\n")
    unfinished.replace(path)
