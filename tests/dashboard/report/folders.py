"""Folders of replays as `moodstream replay` leaves them, made up here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from dashboard.evaluation.judgement import (
    Answered,
    Baseline,
    Calibration,
    ClassScores,
    Curve,
    CurvePoint,
    Drift,
    DriftFlag,
    Estimate,
    Judgement,
    Performance,
    ReliabilityBin,
    RiskCoverage,
    RiskPoint,
    Scores,
    Signal,
    SignalPoint,
    Slice,
    Stage,
    write_judgement,
)
from dashboard.predictions import PredictionsFile
from dashboard.runs import JUDGEMENT_FILE, PREDICTIONS_FILE, RESULT_FILE, Run, write_run
from inference_worker.contract import LABELS, Prediction
from tests.dashboard.seeding import feed

BEGAN = datetime(2026, 5, 4, 12, tzinfo=UTC)
LAST = datetime(2015, 2, 24, 19, 21, tzinfo=UTC)


def posts(count: int = 900) -> list[Prediction]:
    """Eight days of posts."""
    return feed(count, until=LAST, span=timedelta(days=8))


def write_folder(
    folder: Path,
    predictions: Sequence[Prediction],
    judgement: Judgement | None,
    *,
    result: dict[str, Any] | None = None,
    **changes: object,
) -> Path:
    """`changes`: fields of run.json."""
    folder.mkdir(parents=True, exist_ok=True)
    write_run(folder, msgspec.structs.replace(a_run(folder.name), **changes))
    with PredictionsFile(folder / PREDICTIONS_FILE) as file:
        for one in predictions:
            file.write(one)
    if judgement is not None:
        write_judgement(folder / JUDGEMENT_FILE, judgement)
    (folder / RESULT_FILE).write_bytes(msgspec.json.encode(a_result() if result is None else result))
    return folder


def a_run(namespace: str = "airline") -> Run:
    return Run(
        run="20260504T120000-aaaaaaaa",
        namespace=namespace,
        archive="feeds/us_airline_2015.csv",
        status="done",
        started_at=BEGAN,
        finished_at=BEGAN + timedelta(minutes=3, seconds=12),
        archive_sha256="5f" * 32,
        format="CSV: id = tweet_id, text = text",
        options={
            "source": "/home/me/feeds/us_airline_2015.csv",
            "column_map": [["text", "tweet"]],
            "label_delay": 3600.0,
        },
        variables={"MOODSTREAM_ENGINE": "onnx"},
        model="moodstream-small 1",
        model_sha256="c3" * 32,
        versions={"moodstream": "0.1.0", "python": "3.11.9"},
        processor="2 cores of an example processor",
        read=14640,
        settled=14640,
        expected=14640,
    )


def a_result() -> dict[str, Any]:
    return {
        "posts_read": 14640,
        "predictions": 14485,
        "duplicates": 152,
        "dead_letters": 1,
        "lost": 0,
        "skipped": {"neither text nor image": 2},
        "failed": {},
        "warnings": {"time from the id": 40},
        "samples": [{"item": "line 17", "reason": "4 columns where 15 are due"}],
        "a field of tomorrow": 1,
    }


def judged(predictions: Sequence[Prediction]) -> Judgement:
    """A full judgement whose counts fit `predictions`; the finer figures are made up."""
    labelled = [one for one in predictions if one.label]
    confusion = [
        [sum(one.label == label and one.predicted == called for one in labelled) for called in LABELS]
        for label in LABELS
    ]
    right = sum(confusion[place][place] for place in range(len(LABELS)))
    accuracy = right / len(labelled)
    ours, theirs = (scores(share, confusion, len(labelled)) for share in (accuracy, 0.625))
    bow, ours_there = (scores(share, confusion, 500) for share in (accuracy - 0.06, accuracy - 0.01))
    first, last = predictions[0].created_at, predictions[-1].created_at
    answered = [one for one in labelled if not one.abstained]
    return Judgement(
        rows=len(predictions),
        labelled=len(labelled),
        first_at=first,
        last_at=last,
        models=["moodstream-small 1"],
        predicted={label: sum(one.predicted == label for one in predictions) for label in LABELS},
        abstained=sum(one.abstained for one in predictions),
        foreign=0,
        scores=ours,
        answered=Answered(
            rows=len(answered), coverage=len(answered) / len(labelled), accuracy=estimate(accuracy + 0.04), macro_f1=0.8
        ),
        calibration=calibration(),
        calibration_by_kind={"text": calibration(), "both": calibration()},
        risk_coverage=RiskCoverage(
            points=[
                RiskPoint(coverage=share / 50, accuracy=1 - 0.3 * (share / 50) ** 1.5, threshold=1 - share / 60)
                for share in range(1, 51)
            ],
            aurc=0.11,
            aurc_best=0.04,
            coverage_at_90=0.48,
        ),
        slices=[
            a_slice("modality", "text", 600, 0.81),
            a_slice("modality", "both", 250, 0.64, is_worst=True),
            a_slice("language", "en", 860, 0.77),
            a_slice("length", "up to 5 words", 120, 0.72),
            a_slice("emoji", "yes", 12, 0.5),
        ],
        label_delay_s=3600.0,
        curves=[curve(name, level, first, last) for name, level in CURVES.items()],
        baselines=[
            Baseline(name="majority", scores=theirs, model=ours),
            Baseline(name="bag of words", scores=bow, model=ours_there, is_limited=True),
        ],
        drift=Drift(
            flags=[
                DriftFlag(
                    signal="error",
                    row=560,
                    since_row=540,
                    at=first + (last - first) * 0.62,
                    since=first + (last - first) * 0.6,
                    before=0.182,
                    after=0.341,
                )
            ],
            signals=[Signal(name="error", needs_labels=True, points=[SignalPoint(at=first, rows=100, value=0.2)])],
        ),
        performance=Performance(
            stages=[
                Stage(name="queue and model", rows=900, p50_ms=180, p95_ms=420, p99_ms=900, max_ms=1430),
                Stage(name="post to screen", rows=900, p50_ms=260, p95_ms=640, p99_ms=1200, max_ms=2210),
            ],
            first_scored_at=BEGAN,
            last_scored_at=BEGAN + timedelta(minutes=3),
            throughput_posts_per_s=81.4,
            posts_per_machine_hour=293_040,
        ),
    )


CURVES = {"model": 0.78, "majority": 0.6, "bag of words": 0.7}


def unlabelled(predictions: Sequence[Prediction]) -> Judgement:
    """What is left of a judgement without a single label; of no posts at all, if there are none."""
    nothing = Estimate()
    none = Calibration(
        rows=0, ece=None, ece_debiased=None, ece_if_perfect=nothing, ece_adaptive=None, brier=None, nll=None, bins=[]
    )
    return Judgement(
        rows=len(predictions),
        labelled=0,
        first_at=predictions[0].created_at if predictions else None,
        last_at=predictions[-1].created_at if predictions else None,
        models=["moodstream-small 1"] if predictions else [],
        predicted={label: sum(one.predicted == label for one in predictions) for label in LABELS},
        abstained=sum(one.abstained for one in predictions),
        foreign=0,
        scores=Scores(
            rows=0,
            accuracy=nothing,
            macro_f1=nothing,
            weighted_f1=nothing,
            macro_recall=None,
            per_class={},
            confusion=[[0, 0, 0]] * 3,
        ),
        answered=Answered(rows=0, coverage=None, accuracy=nothing, macro_f1=None),
        calibration=none,
        calibration_by_kind={},
        risk_coverage=RiskCoverage(points=[], aurc=None, aurc_best=None, coverage_at_90=None),
        slices=[],
        label_delay_s=0.0,
        curves=[],
        baselines=[],
        drift=Drift(flags=[], signals=[]),
        performance=Performance(
            stages=[],
            first_scored_at=None,
            last_scored_at=None,
            throughput_posts_per_s=None,
            posts_per_machine_hour=None,
        ),
    )


def estimate(value: float, half: float = 0.012) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half)


def scores(accuracy: float, confusion: list[list[int]], rows: int) -> Scores:
    per_class = {
        label: ClassScores(
            precision=accuracy, recall=accuracy - 0.05, f1=accuracy - 0.03, support=sum(confusion[place])
        )
        for place, label in enumerate(LABELS)
    }
    return Scores(
        rows=rows,
        accuracy=estimate(accuracy),
        macro_f1=estimate(accuracy - 0.05),
        weighted_f1=estimate(accuracy - 0.01),
        macro_recall=accuracy - 0.02,
        per_class=per_class,
        confusion=confusion,
    )


def calibration() -> Calibration:
    bins = [
        ReliabilityBin(
            low=place / 15,
            high=(place + 1) / 15,
            rows=20 * (place - 4) ** 2 + 6,
            confidence=(place + 0.5) / 15,
            accuracy=estimate((place + 0.5) / 15 - 0.03 * (place % 3 - 1), 0.05),
        )
        for place in range(5, 14)
    ]
    return Calibration(
        rows=900,
        ece=0.031,
        ece_debiased=0.022,
        ece_if_perfect=Estimate(value=0.014, low=0.008, high=0.021),
        ece_adaptive=0.028,
        brier=0.344,
        nll=0.571,
        bins=bins,
    )


def a_slice(dimension: str, value: str, rows: int, accuracy: float, *, is_worst: bool = False) -> Slice:
    return Slice(
        dimension=dimension,
        value=value,
        rows=rows,
        labelled=rows,
        accuracy=estimate(accuracy, 0.03),
        macro_f1=accuracy - 0.06,
        coverage=0.83,
        mean_confidence=0.71,
        is_worst=is_worst,
    )


def curve(name: str, level: float, first: datetime, last: datetime) -> Curve:
    points = [
        CurvePoint(
            at=first + (last - first) * (step / 120),
            rows=8 * step,
            accuracy=level + 0.03 * ((step * 7) % 11) / 11 - (0.08 if step > 74 else 0),
            macro_f1=level - 0.06 + 0.03 * ((step * 5) % 9) / 9,
        )
        for step in range(10, 121)
    ]
    return Curve(name=name, window=500, points=points)
