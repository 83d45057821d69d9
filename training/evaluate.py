"""Score an exported artifact on MVSA-Single and the tweets, through ONNX Runtime, as it will be served.

python -m training evaluate --artifact inference_worker/models/default --mvsa MVSA --tweets TWEETS
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from training.batches import Collator, score_all
from training.datasets.example import Corpus, Example, labels_of
from training.datasets.mvsa import read_mvsa
from training.datasets.tweet_sentiment import read_tweet_sentiment
from training.datasets.twins import twins_in
from training.graphs import WEIGHTS_FILE, Weights, decode_weights
from training.metrics import classification_report, softmax

GRAPHS = ("text_encoder", "image_encoder", "fusion")
KINDS = ("text", "caption", "image", "both")
Logits = dict[str, NDArray[np.float32]]


class ExportedModel:
    """The three graphs of an artifact directory, fed with its decoded weights (or with `weights` in their place)."""

    def __init__(self, folder: Path, *, weights: Weights | None = None) -> None:
        weights = decode_weights(load_file(folder / WEIGHTS_FILE)) if weights is None else weights
        self.sessions = {graph: _session(folder / f"{graph}.onnx", weights) for graph in GRAPHS}
        self.collator = Collator(Tokenizer.from_file(str(folder / "tokenizer.json")))

    def logits(self, examples: Sequence[Example], *, batch_size: int = 32) -> Logits:
        """Logits (N, C) by input kind: the text as if it stood alone (text) and beside its picture (caption), the
        picture (image), the whole post (both). All examples must have the same modalities."""

        def score(chunk: list[Example]) -> Logits:
            batch = self.collator(chunk)
            found = self.run(*(None if field is None else field.numpy() for field in batch[:3]))
            return {kind: rows for kind, rows in found.items() if kind in KINDS}

        return score_all(score, examples, batch_size=batch_size)

    def run(
        self,
        input_ids: NDArray[np.int64] | None,
        attention_mask: NDArray[np.int64] | None,
        pixel_values: NDArray[np.float32] | None,
    ) -> Logits:
        """One batch: logits by kind, and for whole posts text_map and image_map."""
        results: Logits = {}
        if input_ids is not None:
            feed = {"input_ids": input_ids, "attention_mask": attention_mask}
            text_features, results["text"] = self.sessions["text_encoder"].run(None, feed)
        if pixel_values is not None:
            feed = {"pixel_values": np.ascontiguousarray(pixel_values)}
            image_features, results["image"] = self.sessions["image_encoder"].run(None, feed)
        if input_ids is not None and pixel_values is not None:
            feed = {"text_features": text_features, "attention_mask": attention_mask, "image_features": image_features}
            names = ("both", "caption", "text_map", "image_map")
            results |= dict(zip(names, self.sessions["fusion"].run(None, feed), strict=True))
        return results


def _session(file: Path, weights: Weights) -> onnxruntime.InferenceSession:
    prefix = f"{file.stem}/"
    mine = {name.removeprefix(prefix): array for name, array in weights.items() if name.startswith(prefix)}
    options = onnxruntime.SessionOptions()
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array)) for array in mine.values()]
    options.add_external_initializers(list(mine), values)
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def reports(labels: NDArray[np.int64], logits: Logits, temperatures: dict[str, float]) -> dict[str, dict[str, float]]:
    return {kind: classification_report(labels, softmax(rows, temperatures[kind])) for kind, rows in logits.items()}


def mvsa_test_reports(model: ExportedModel, mvsa: Corpus, temperatures: dict[str, float]) -> dict[str, Any]:
    """The published test split, and what is left of it without the near twins of training posts."""
    test = mvsa.splits["test"]
    logits, labels = model.logits(test), labels_of(test)
    is_new = ~np.array(twins_in(mvsa.splits["train"], test))
    without = {kind: rows[is_new] for kind, rows in logits.items()}
    return {
        "test": reports(labels, logits, temperatures),
        "test_without_twins": reports(labels[is_new], without, temperatures),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--mvsa", type=Path, help="MVSA-Single: its test split is scored")
    parser.add_argument(
        "--tweets", type=Path, help="tweet_sentiment.parquet: the half of its validation split kept for it is scored"
    )


def run(arguments: argparse.Namespace) -> None:
    description = json.loads((arguments.artifact / "artifact.json").read_text())
    temperatures = {kind: description["calibration"][kind]["temperature"] for kind in KINDS}
    model = ExportedModel(arguments.artifact)
    found: dict[str, Any] = {"artifact": description["name"], "version": description["version"]}
    if arguments.mvsa:
        found["mvsa_single"] = mvsa_test_reports(model, read_mvsa(arguments.mvsa), temperatures)
    if arguments.tweets:
        rows = read_tweet_sentiment(arguments.tweets)["report"]
        found["tweet_sentiment"] = {"report": reports(labels_of(rows), model.logits(rows), temperatures)}
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
