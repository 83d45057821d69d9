"""Score an exported artifact on MVSA-Single and the tweets, through ONNX Runtime, as it will be served.

python -m training evaluate --artifact inference_worker/models/default --mvsa MVSA --tweets TWEETS
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
from training.hard_texts import score_hard_texts
from training.judgement import judged
from training.metrics import softmax
from training.pictures import without_their_pictures
from training.slices import slices

GRAPHS = ("text_encoder", "image_encoder", "fusion")
KINDS = ("text", "caption", "image", "both")
Logits = dict[str, NDArray[np.float32]]
Encoded = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Features (B, N, D) and logits (B, C)."""
Metrics = dict[str, Any]


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
        if input_ids is not None and attention_mask is not None:
            text_features, results["text"] = self.encode_text(input_ids, attention_mask)
        if pixel_values is not None:
            image_features, results["image"] = self.encode_image(pixel_values)
        if input_ids is not None and attention_mask is not None and pixel_values is not None:
            results |= self.fuse(text_features, attention_mask, image_features)
        return results

    def encode_text(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> Encoded:
        return self._run("text_encoder", input_ids=input_ids, attention_mask=attention_mask)

    def encode_image(self, pixel_values: NDArray[np.float32]) -> Encoded:
        return self._run("image_encoder", pixel_values=np.ascontiguousarray(pixel_values))

    def fuse(
        self,
        text_features: NDArray[np.float32],
        attention_mask: NDArray[np.int64],
        image_features: NDArray[np.float32],
    ) -> Logits:
        """both, caption, text_map, image_map."""
        feed = {"text_features": text_features, "attention_mask": attention_mask, "image_features": image_features}
        return dict(zip(("both", "caption", "text_map", "image_map"), self._run("fusion", **feed), strict=True))

    def _run(self, graph: str, **feed: NDArray[Any]) -> Any:
        return self.sessions[graph].run(None, feed)


def _session(file: Path, weights: Weights) -> onnxruntime.InferenceSession:
    prefix = f"{file.stem}/"
    mine = {name.removeprefix(prefix): array for name, array in weights.items() if name.startswith(prefix)}
    options = onnxruntime.SessionOptions()
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array)) for array in mine.values()]
    options.add_external_initializers(list(mine), values)
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


class Confidence(NamedTuple):
    """By input kind: the temperature, and the confidence under which a post abstains."""

    temperatures: dict[str, float]
    abstain_below: dict[str, float]


def reports(labels: NDArray[np.int64], logits: Logits, confidence: Confidence) -> dict[str, dict[str, Any]]:
    return {
        kind: judged(labels, softmax(rows, confidence.temperatures[kind]), abstain_below=confidence.abstain_below[kind])
        for kind, rows in logits.items()
    }


def evidence(model: ExportedModel, confidence: Confidence, mvsa: Corpus | None, tweets: list[Example]) -> Metrics:
    """What the card tells of posts that nothing was chosen by: MVSA-Single's test split, as published and without the
    near twins of training posts, with other posts' pictures, by slices; tweets; texts of our own that are hard."""
    found: Metrics = {"slices": {}}
    if mvsa is not None:
        test = mvsa.splits["test"]
        logits, labels = model.logits(test), labels_of(test)
        found["mvsa_single"] = {"test": reports(labels, logits, confidence)}
        is_new = ~np.array(twins_in(mvsa.splits["train"], test))
        if is_new.any():
            without = {kind: rows[is_new] for kind, rows in logits.items()}
            found["mvsa_single"]["test_without_twins"] = reports(labels[is_new], without, confidence)
        found["slices"]["mvsa_single test"] = slices(test, logits["both"])
        found["pictures"] = {"test": without_their_pictures(model, test)}
    if tweets:
        logits = model.logits(tweets)
        found["tweet_sentiment"] = {"report": reports(labels_of(tweets), logits, confidence)}
        found["slices"]["tweet_sentiment report"] = slices(tweets, logits["text"])
    return found | {"hard_texts": score_hard_texts(model, confidence.temperatures["text"])}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--mvsa", type=Path, help="MVSA-Single: its test split is scored")
    parser.add_argument(
        "--tweets", type=Path, help="tweet_sentiment.parquet: the half of its validation split kept for it is scored"
    )


def run(arguments: argparse.Namespace) -> None:
    description = json.loads((arguments.artifact / "artifact.json").read_text())
    confidence = Confidence(
        {kind: description["calibration"][kind]["temperature"] for kind in KINDS}, description["abstain_below"]
    )
    mvsa = read_mvsa(arguments.mvsa) if arguments.mvsa else None
    tweets = read_tweet_sentiment(arguments.tweets)["report"] if arguments.tweets else []
    found = {"artifact": description["name"], "version": description["version"]}
    found |= evidence(ExportedModel(arguments.artifact), confidence, mvsa, tweets)
    sys.stdout.write(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
