"""Export a trained MDSE as an artifact directory: graphs, weights, tokenizer, calibration, golden rows, model card.

Calibration, metrics and golden rows are computed with ONNX Runtime on the weights as stored. The test split is opened
here, once, after everything is fixed.
"""

import argparse
import json
import logging
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from training.activations import write_activations
from training.batches import MAX_CHARS, MAX_TOKENS, MEAN, STD, Collator
from training.calibrate import Calibration, calibrate, choose_prior_correction
from training.datasets.example import LABELS, Example, labels_of
from training.datasets.mvsa import read_mvsa
from training.datasets.tweet_sentiment import read_tweet_sentiment
from training.decoding import IMAGE_SIZE, RESIZE_SHORT_SIDE
from training.encoders import SMALL_IMAGE_NAME, SMALL_TEXT_NAME, small_tokenizer_file
from training.evaluate import Confidence, ExportedModel, Logits, evidence, reports
from training.golden import golden_rows
from training.graphs import WEIGHTS_FILE, encode_weights, export_graphs
from training.model_card import SETTINGS, write_with_card
from training.models.mdse import MDSE
from training.pictures import without_their_pictures
from training.tokenizer import build_tokenizer
from training.train import build_model, predict_logits

log = logging.getLogger(__name__)

LICENCE = "Apache-2.0"
GRID = [7, 7]
PARITY_TOLERANCE = 1e-4
INVARIANCE_TOLERANCE = 1e-5
MIN_LABEL_AGREEMENT = 0.98


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", type=Path, required=True, help="best.pt of a run")
    parser.add_argument("--mvsa", type=Path, required=True, help="MVSA-Single: calibration, verification, test")
    parser.add_argument("--tweets", type=Path, help="tweet_sentiment.parquet: calibration of texts without a picture")
    parser.add_argument("--out", type=Path, required=True, help="artifact directory to write")
    parser.add_argument("--version", help="default: today's date and .1")
    parser.add_argument(
        "--target-accuracy", type=float, default=0.8, help="abstain below the confidence that reaches it"
    )


def run(arguments: argparse.Namespace) -> None:
    mvsa = read_mvsa(arguments.mvsa)
    tweets = read_tweet_sentiment(arguments.tweets) if arguments.tweets else {}
    checkpoint = torch.load(arguments.checkpoint, map_location="cpu", weights_only=True)
    model, prior_correction = prepare(checkpoint, tweets)
    folder: Path = arguments.out
    folder.mkdir(parents=True, exist_ok=True)
    build_tokenizer(small_tokenizer_file()).save(str(folder / "tokenizer.json"))
    weights = export_graphs(model, image_size=IMAGE_SIZE, folder=folder)
    save_file(encode_weights(weights), folder / WEIGHTS_FILE)
    write_activations(folder, mvsa.splits["train"])
    exported = ExportedModel(folder)
    posts, posts_labels = mvsa.splits["validation"], labels_of(mvsa.splits["validation"])
    posts_logits = exported.logits(posts)
    alone, alone_labels = posts_logits["text"], posts_labels
    if tweets:  # posts without a picture are tweets; MVSA's texts were written to stand beside one
        alone, alone_labels = exported.logits(tweets["validation"])["text"], labels_of(tweets["validation"])
    verified = verify(model, exported, ExportedModel(folder, weights=weights), posts, posts_logits)
    fitted_on = {
        "text": (alone_labels, alone),
        "caption": (posts_labels, posts_logits["caption"]),
        "image": (posts_labels, posts_logits["image"]),
        "both": (posts_labels, posts_logits["both"]),
    }
    calibrations = {
        kind: calibrate(labels, logits, target_accuracy=arguments.target_accuracy)
        for kind, (labels, logits) in fitted_on.items()
    }
    confidence = Confidence(
        {kind: calibration.temperature for kind, calibration in calibrations.items()},
        {kind: calibration.abstain_below for kind, calibration in calibrations.items()},
    )
    metrics = evidence(exported, confidence, mvsa, tweets.get("report", []))
    metrics["mvsa_single"]["validation"] = reports(posts_labels, posts_logits, confidence)
    metrics["pictures"]["validation"] = without_their_pictures(exported, posts)
    metrics["export"] = verified
    if tweets:
        metrics["tweet_sentiment"]["validation"] = reports(alone_labels, {"text": alone}, confidence)
    description = _description(model, calibrations, metrics, arguments.version)
    description["data"] = _data(checkpoint["config"])
    description["training"] = {name: checkpoint["config"][name] for name in SETTINGS if name in checkpoint["config"]}
    description["text_prior_correction"] = prior_correction
    golden = golden_rows(exported, confidence.temperatures)
    (folder / "golden.json").write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_with_card(folder, description)
    log.info("wrote %s: %s", folder, json.dumps(metrics["mvsa_single"]["test"]))


def prepare(checkpoint: dict[str, Any], tweets: dict[str, list[Example]]) -> tuple[MDSE, float]:
    """The model of a checkpoint as it is shipped, and the strength of its text head's prior correction."""
    model = build_model(checkpoint["config"]).eval()
    model.load_state_dict(checkpoint["model"])
    if not (checkpoint["config"]["tweets"] or checkpoint["config"]["init"]):
        # A run on whole posts alone trains no head for texts without a picture: the caption's, of the same input, does.
        model.text_head.load_state_dict(model.caption_head.state_dict())
    return model, correct_prior(model, tweets) if tweets else 0.0


def correct_prior(model: MDSE, tweets: dict[str, list[Example]]) -> float:
    """Fold the prior correction chosen on validation tweets into the text head's last bias; returns its strength."""
    shares = np.bincount(labels_of(tweets["train"]), minlength=len(LABELS)) / len(tweets["train"])
    collator = Collator(build_tokenizer(small_tokenizer_file()))
    logits = predict_logits(model, tweets["validation"], collator)["text"]
    strength = choose_prior_correction(labels_of(tweets["validation"]), logits, shares)
    with torch.no_grad():
        model.text_head[-1].bias -= strength * torch.from_numpy(np.log(shares)).float()
    log.info("prior correction of the text head: %.1f", strength)
    return strength


def verify(
    model: MDSE, stored: ExportedModel, unstored: ExportedModel, examples: Sequence[Example], stored_logits: Logits
) -> dict[str, float]:
    """Compare torch, the graphs on float weights (`unstored`) and on stored ones; batches of 1, 7, 32 and 40.

    Raises   ValueError when graphs differ from torch, stored weights change too many labels, or batch-mates matter
    """
    torch_logits = predict_logits(model, examples, Collator(build_tokenizer(small_tokenizer_file())))
    float_logits = unstored.logits(examples, batch_size=7)
    some = examples[:: max(1, len(examples) // 40)]
    alone, together = stored.logits(some, batch_size=1), stored.logits(some, batch_size=len(some))
    found = {
        "graph_against_torch": max(_distance(torch_logits[kind], float_logits[kind]) for kind in torch_logits),
        "labels_equal_to_torch": min(_agreement(torch_logits[kind], float_logits[kind]) for kind in torch_logits),
        "batch_of_1_against_many": max(_distance(alone[kind], together[kind]) for kind in alone),
        "labels_equal_after_storage": min(
            _agreement(float_logits[kind], stored_logits[kind]) for kind in stored_logits
        ),
    }
    log.info("export: %s", found)
    if found["graph_against_torch"] > PARITY_TOLERANCE:
        raise ValueError(f"graphs differ from torch by {found['graph_against_torch']:.2g} in a logit; do not ship them")
    if found["batch_of_1_against_many"] > INVARIANCE_TOLERANCE:
        raise ValueError(f"batch-mates move a logit by {found['batch_of_1_against_many']:.2g}; do not ship it")
    if found["labels_equal_after_storage"] < MIN_LABEL_AGREEMENT:
        raise ValueError(f"int8 storage keeps only {found['labels_equal_after_storage']:.1%} of the labels")
    return found


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max())


def _agreement(one: np.ndarray, other: np.ndarray) -> float:
    return float((one.argmax(-1) == other.argmax(-1)).mean())


def _data(config: dict[str, Any]) -> list[str]:
    """What a run learned from, for its card."""
    mvsa = Path(str(config["mvsa"]))
    is_published = mvsa.suffix == ".parquet"
    split = "split as published by CLMLF" if is_published else "part of a stratified split of its own, 8:1:1"
    found = [f"MVSA-Single (train {split})"]
    if config["tweets"] or config["init"]:
        found.append("SemEval-2017 task 4A tweets (train)")
    if config.get("memotion"):
        drawn = config["memotion_per_epoch"] or "all"
        found.append(
            f"Memotion 7k memes (train, in three classes), {drawn} an epoch, of weight {config['memotion_weight']}"
        )
    if config["taught_by"]:
        teachers = " and ".join(config["taught_by"])
        found.append(f"what a run on {teachers} says of the training posts, as {config['trust']:.0%} of their labels")
    return found


def _description(
    model: MDSE, calibrations: dict[str, Calibration], metrics: dict[str, Any], version: str | None
) -> dict[str, Any]:
    """artifact.json without its checksums."""
    now = datetime.now(UTC)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "schema": 2,
        "name": "mdse-small",
        "version": version or f"{now:%Y-%m-%d}.1",
        "labels": list(LABELS),
        "text": {"max_tokens": MAX_TOKENS, "max_chars": MAX_CHARS, "pad_id": 0},
        "image": {
            "size": IMAGE_SIZE,
            "resize_short_side": RESIZE_SHORT_SIDE,
            "crop": "center",
            "resample": "bicubic",
            "mean": [MEAN] * 3,
            "std": [STD] * 3,
            "grid": GRID,
        },
        "calibration": {
            kind: {
                "temperature": calibration.temperature,
                "target_accuracy": calibration.target_accuracy,
                "validation_coverage": calibration.coverage,
            }
            for kind, calibration in calibrations.items()
        },
        "abstain_below": {kind: calibration.abstain_below for kind, calibration in calibrations.items()},
        "metrics": metrics,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "encoders": {"text": SMALL_TEXT_NAME, "image": SMALL_IMAGE_NAME},
        "licence": LICENCE,
        "source_commit": commit or "unknown",
        "created_at": now.isoformat(timespec="seconds"),
    }
