"""Figures of an artifact's certainty: is it right as often as it is sure, and how right is it if it answers less."""

import argparse
import json
from collections.abc import Mapping
from typing import NamedTuple

import altair as alt
import numpy as np

from training.calibration_error import calibration_error
from training.config import BadConfig
from training.datasets.example import labels_of
from training.datasets.mvsa import read_mvsa
from training.datasets.tweet_sentiment import read_tweet_sentiment
from training.evaluate import ExportedModel
from training.figures.drawing import BLUE, INK, OCHRE, VIOLET, Figure, rows
from training.judgement import proportion_interval
from training.metrics import FloatArray, IntArray, risk_coverage, softmax

BINS = 10
FIRST_SHARE = 0.05
"""Where a curve over coverage begins: what the surest few posts say is chance."""
COLORS = {"both": BLUE, "caption": OCHRE, "image": VIOLET, "text": INK}
DASHES = {"both": [1, 0], "caption": [6, 3], "image": [2, 2], "text": [8, 2, 2, 2]}


class Answers(NamedTuple):
    """told: of which posts; probabilities (N, C) are calibrated."""

    told: str
    labels: IntArray
    probabilities: FloatArray


def artifact_answers(arguments: argparse.Namespace) -> dict[str, Answers]:
    """By input kind, on the posts that arguments name. Raises BadConfig without an artifact or posts."""
    if arguments.artifact is None or not (arguments.mvsa or arguments.tweets):
        raise BadConfig("an artifact and posts are needed: give --artifact DIR and --mvsa, --tweets or both")
    try:
        calibration = json.loads((arguments.artifact / "artifact.json").read_text())["calibration"]
    except OSError as error:
        raise BadConfig(f"cannot read an artifact ({error}): give a folder that an export wrote") from error
    model, found = ExportedModel(arguments.artifact), {}
    if arguments.mvsa:
        posts = read_mvsa(arguments.mvsa).splits[arguments.split]
        for kind, logits in model.logits(posts).items():
            probabilities = softmax(logits, calibration[kind]["temperature"])
            found[kind] = Answers(f"MVSA-Single, {arguments.split}", labels_of(posts), probabilities)
        del found["text"]  # the head for texts without a picture
    if arguments.tweets:
        tweets = read_tweet_sentiment(arguments.tweets)["report"]
        probabilities = softmax(model.logits(tweets)["text"], calibration["text"]["temperature"])
        found["text"] = Answers("SemEval tweets, report", labels_of(tweets), probabilities)
    return found


def reliability(by_kind: Mapping[str, Answers]) -> Figure:
    """A panel an input kind: accuracy over confidence, in bins of equally many posts."""
    return Figure(
        "reliability",
        "Right as often as sure?",
        (
            f"Each mark is one of {BINS} bins of equally many posts, with the 95 % interval of its accuracy (Wilson). "
            "Under the diagonal the model is surer than it is right.",
            _told(by_kind),
        ),
        alt.concat(*(_panel(kind, answers) for kind, answers in by_kind.items()), columns=2),
    )


def _panel(kind: str, answers: Answers) -> alt.TopLevelMixin:
    base = alt.Chart(rows(bins_of(answers.labels, answers.probabilities)))
    domain = alt.Scale(domain=[0.3, 1.0], clamp=True)
    x = alt.X("confidence:Q", title="Mean confidence", scale=domain)
    y = alt.Y("accuracy:Q", title="Accuracy", scale=alt.Scale(domain=[0.0, 1.0]))
    found = calibration_error(answers.labels, answers.probabilities)
    title = (
        f"{kind}: {len(answers.labels)} posts, ECE {100 * found.ece:.1f}, "
        f"of a perfect model {100 * found.ece_if_perfect:.1f}, RMS debiased {100 * found.rms_debiased:.1f}"
    )
    diagonal = alt.Chart(rows([{"confidence": end, "accuracy": end} for end in (0.3, 1.0)]))
    return alt.layer(
        diagonal.mark_line(color=INK, strokeDash=[4, 4], opacity=0.6).encode(x=x, y=y),
        base.mark_rule(color=COLORS[kind], strokeWidth=2).encode(x=x, y=alt.Y("low:Q", title="Accuracy"), y2="high:Q"),
        base.mark_circle(color=COLORS[kind], size=60, opacity=1).encode(x=x, y=y),
    ).properties(width=330, height=230, title=alt.TitleParams(title, fontSize=12, fontWeight="normal", anchor="start"))


def bins_of(labels: IntArray, probabilities: FloatArray) -> list[dict[str, float]]:
    """confidence, accuracy, low, high and rows of each bin."""
    confidence, is_right = probabilities.max(-1), probabilities.argmax(-1) == labels
    found = []
    for part in np.array_split(np.argsort(confidence, kind="stable"), BINS):
        if len(part):
            low, high = proportion_interval(int(is_right[part].sum()), len(part))
            mean = {"confidence": float(confidence[part].mean()), "accuracy": float(is_right[part].mean())}
            found.append(mean | {"low": low, "high": high, "rows": len(part)})
    return found


def coverage(by_kind: Mapping[str, Answers]) -> Figure:
    """Accuracy over the share of posts answered, a line an input kind."""
    points = [
        {"kind": kind, "coverage": 100 * share, "accuracy": 100 * accuracy}
        for kind, answers in by_kind.items()
        for share, accuracy in curve_of(answers.labels, answers.probabilities)
    ]
    kinds = list(by_kind)
    lines = (
        alt.Chart(rows(points))
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X("coverage:Q", title="Posts answered, the surest first, %", scale=alt.Scale(domain=[0, 100])),
            y=alt.Y("accuracy:Q", title="Accuracy on these, %", scale=alt.Scale(zero=False)),
            color=alt.Color(
                "kind:N", title="Input", sort=kinds, scale=alt.Scale(domain=kinds, range=[COLORS[k] for k in kinds])
            ),
            strokeDash=alt.StrokeDash("kind:N", scale=alt.Scale(domain=kinds, range=[DASHES[k] for k in kinds])),
        )
    )
    aim = alt.Chart(rows([{"accuracy": 90}])).mark_rule(color=INK, opacity=0.5).encode(y="accuracy:Q")
    half = alt.Chart(rows([{"coverage": 50}])).mark_rule(color=INK, opacity=0.5).encode(x="coverage:Q")
    return Figure(
        "coverage",
        "How right is it if it answers less?",
        (
            "Selective prediction: the model answers the posts it is surest of. The grey lines are the aim, 90 % right "
            f"on half of the posts. Curves begin at {FIRST_SHARE:.0%}.",
            _told(by_kind),
        ),
        alt.layer(aim, half, lines).properties(width=560, height=340),
    )


def curve_of(labels: IntArray, probabilities: FloatArray) -> list[tuple[float, float]]:
    """(share answered, accuracy), from FIRST_SHARE on."""
    _, accuracy = risk_coverage(labels, probabilities)
    shares = np.arange(1, len(labels) + 1) / len(labels)
    return [(float(s), float(a)) for s, a in zip(shares, accuracy, strict=True) if s >= FIRST_SHARE]


def _told(by_kind: Mapping[str, Answers]) -> str:
    return "; ".join(f"{kind}: {answers.told}, {len(answers.labels)} posts" for kind, answers in by_kind.items()) + "."
