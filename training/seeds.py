"""Mean and deviation over the seeds of a recipe, and their ensemble, on MVSA-Single: from checkpoints, without exports.

    python -m training seeds run-1/best.pt run-2/best.pt … --mvsa MVSA [--tweets TWEETS] [--split test] [--json FILE]

prints a table for training/RESULTS.md. Each run is calibrated by itself, as an export would do it; the ensemble is the
mean of their probabilities. `pooled`: calibration over all runs' answers at once. They are to the same posts, which is
allowed for: five runs are no five times as many posts.
"""

import argparse
import json
import pickle
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from training.batches import Collator
from training.calibrate import fit_temperature
from training.calibration_error import calibration_error
from training.config import BadConfig
from training.datasets.example import Example, labels_of
from training.datasets.mvsa import read_mvsa
from training.datasets.tweet_sentiment import read_tweet_sentiment
from training.datasets.twins import twins_in
from training.encoders import small_tokenizer_file
from training.export import prepare
from training.judgement import judged
from training.metrics import FloatArray, IntArray, softmax
from training.results import markdown_table
from training.tokenizer import build_tokenizer
from training.train import predict_logits

SHOWN: Final = {
    "accuracy": "Acc",
    "weighted_f1": "wF1",
    "macro_f1": "mF1",
    "macro_recall": "recall",
    "ece": "ECE",
    "ece_debiased": "debiased",
    "rms_debiased": "RMS debiased",
    "accuracy_at_half_coverage": "Acc of the surer half",
    "coverage_at_90_accuracy": "coverage at 90 % Acc",
}
Runs = list[FloatArray]
"""(N, C) probabilities of each run."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoints", type=Path, nargs="+", help="best.pt of each seed's run")
    parser.add_argument("--mvsa", type=Path, required=True, help="MVSA-Single: calibration, and what is told")
    parser.add_argument("--tweets", type=Path, help="tweet_sentiment.parquet: the same of its text head")
    parser.add_argument("--split", choices=("validation", "test"), default="test", help="of MVSA-Single")
    parser.add_argument("--json", type=Path, help="file for all figures")


def run(arguments: argparse.Namespace) -> None:
    mvsa = read_mvsa(arguments.mvsa).splits
    tweets = read_tweet_sentiment(arguments.tweets) if arguments.tweets else {}
    told = mvsa[arguments.split]
    by_kind: dict[str, Runs] = {}
    for file in arguments.checkpoints:
        for kind, probabilities in answers(file, mvsa["validation"], told, tweets).items():
            by_kind.setdefault(kind, []).append(probabilities)
    labels = labels_of(told)
    found: dict[str, Any] = {
        f"mvsa_single {arguments.split}, {kind}": summary(labels, runs)
        for kind, runs in by_kind.items()
        if kind != "text"
    }
    if arguments.split == "test" and (is_new := ~np.array(twins_in(mvsa["train"], told))).any():
        found |= {
            f"mvsa_single test without twins, {kind}": summary(labels[is_new], [one[is_new] for one in runs])
            for kind, runs in by_kind.items()
            if kind != "text"
        }
    if tweets:
        found["tweet_sentiment report, text"] = summary(labels_of(tweets["report"]), by_kind["text"])
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(markdown(found) + "\n")


def answers(
    file: Path, validation: Sequence[Example], told: Sequence[Example], tweets: dict[str, list[Example]]
) -> dict[str, FloatArray]:
    """Calibrated probabilities (N, C) of one run by kind: of `told`, and under `text` of the tweets to report."""
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise BadConfig(f"cannot read {file} ({error}): give best.pt of a run of python -m training train") from error
    model, _ = prepare(checkpoint, tweets)
    collator = Collator(build_tokenizer(small_tokenizer_file()))
    fitted_on, found = predict_logits(model, validation, collator), predict_logits(model, told, collator)
    temperatures = {kind: fit_temperature(labels_of(validation), logits) for kind, logits in fitted_on.items()}
    if tweets:
        alone = predict_logits(model, tweets["validation"], collator)["text"]
        temperatures["text"] = fit_temperature(labels_of(tweets["validation"]), alone)
        found["text"] = predict_logits(model, tweets["report"], collator)["text"]
    return {kind: softmax(logits, temperatures[kind]) for kind, logits in found.items()}


def summary(labels: IntArray, runs: Runs) -> dict[str, Any]:
    """Every measure's mean and deviation over runs (0 of one run alone), the ensemble's, and calibration pooled."""
    reports = [judged(labels, probabilities) for probabilities in runs]
    numbers = [name for name, value in reports[0].items() if isinstance(value, float)]
    pooled = calibration_error(
        np.tile(labels, len(runs)), np.concatenate(runs), posts=np.tile(np.arange(len(labels)), len(runs))
    )
    return {
        "rows": len(labels),
        "runs": reports,
        "mean": {name: statistics.fmean(report[name] for report in reports) for name in numbers},
        "deviation": {
            name: statistics.stdev(report[name] for report in reports) if len(runs) > 1 else 0.0 for name in numbers
        },
        "pooled": pooled._asdict(),
        "ensemble": judged(labels, np.mean(runs, axis=0)),
    }


def markdown(found: dict[str, Any]) -> str:
    """A row for the seeds and one for the ensemble of each set and input."""
    rows = []
    for name, one in found.items():
        mean, deviation, pooled = one["mean"], one["deviation"], one["pooled"]
        cells = [f"{100 * mean[key]:.1f} ± {100 * deviation[key]:.1f}" for key in SHOWN]
        chance = f"{100 * pooled['ece_if_perfect']:.1f}; {100 * pooled['ece_if_perfect_95']:.1f}"
        together = " / ".join(f"{100 * pooled[key]:.1f}" for key in ("ece", "ece_debiased", "rms_debiased"))
        rows.append([f"{name} ({one['rows']})", f"{len(one['runs'])} seeds", *cells, f"{together} ({chance})"])
        alone = one["ensemble"]
        chance = f"{100 * alone['ece_if_perfect']:.1f}; {100 * alone['ece_if_perfect_95']:.1f}"
        rows.append(["", "ensemble", *(f"{100 * alone[key]:.1f}" for key in SHOWN), f"({chance})"])
    header = ["data, input (rows)", "", *SHOWN.values(), "pooled ECE / debiased / RMS (if perfect: mean; 95th)"]
    return markdown_table(header, rows)
