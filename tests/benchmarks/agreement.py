"""What other arithmetic costs: an artifact's engines against float32, on labelled posts, by the worker's own loader.

    python -m tests.benchmarks.agreement --mvsa MVSA --tweets TWEETS [--model DIR] [--split validation] [--json]

Whole numbers against ONNX Runtime in float32; in .venv-train against torch, too. `--json > FILE` is what
`python -m training card --engines FILE` puts into the model's card.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from sklearn.metrics import f1_score

from inference_worker import artifact
from inference_worker.errors import ArtifactError
from inference_worker.predictor import Predictor
from inference_worker.settings import DEFAULT_MODEL
from ingest.contract import Image, Post
from training.datasets.example import Example
from training.datasets.mvsa import read_mvsa
from training.datasets.tweet_sentiment import read_tweet_sentiment

REFERENCE: Final = "onnx-float32"
ENGINES: Final = ("onnx-int8", "torch-cpu")
BATCH: Final = 32
Answers = dict[str, np.ndarray]
"""By input kind, (N, 3) probabilities."""


def post(example: Example) -> Post:
    now = datetime.now(UTC)
    jpeg = example.image
    image = jpeg and Image(jpeg=jpeg, sha256=hashlib.sha256(jpeg).digest(), phash=b"", width=0, height=0)
    return Post(
        id=f"agreement:{example.id}",
        source="agreement",
        created_at=now,
        ingested_at=now,
        text=example.text or "",
        images=(image,) if image else (),
    )


def answers(predictor: Predictor, examples: Sequence[Example]) -> Answers:
    """Of tweets `text`; of whole posts `both`, `caption` and `image`. All examples have the same modalities."""
    found: dict[str, list[Any]] = {}
    for start in range(0, len(examples), BATCH):
        prepared = [predictor.prepare(post(example)) for example in examples[start : start + BATCH]]
        for scores in predictor.predict(prepared):
            whole = {"both": scores.fused, "caption": scores.text, "image": scores.image}
            for kind, told in whole.items() if scores.image is not None else [("text", scores.fused)]:
                found.setdefault(kind, []).append(told)
    return {kind: np.array(told) for kind, told in found.items()}


def compared(name: str, labels: np.ndarray, found: Answers, reference: Answers) -> Iterator[dict[str, Any]]:
    """A row an input kind."""
    for kind, told in found.items():
        macro_f1, before = (
            f1_score(labels, one.argmax(-1), labels=range(3), average="macro", zero_division=0)
            for one in (told, reference[kind])
        )
        yield {
            "data": name,
            "input": kind,
            "rows": len(labels),
            "reference": REFERENCE,
            "label_agreement": float((told.argmax(-1) == reference[kind].argmax(-1)).mean()),
            "macro_f1": float(macro_f1),
            "reference_macro_f1": float(before),
            "largest_difference": float(np.abs(told - reference[kind]).max()),
        }


def compare(model: Path, sets: Mapping[str, Sequence[Example]], engines: Sequence[str], threads: int) -> list[Any]:
    """Engines that this environment or processor lacks are named on standard error and left out."""
    reference = artifact.load(model, engine=REFERENCE, threads=threads)
    expected = {name: answers(reference, examples) for name, examples in sets.items()}
    rows: list[dict[str, Any]] = []
    for engine in engines:
        try:
            predictor = artifact.load(model, engine=engine, threads=threads)
        except ArtifactError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        for name, examples in sets.items():
            labels = np.array([example.label for example in examples])
            found = compared(name, labels, answers(predictor, examples), expected[name])
            rows += [{"engine": engine, **row} for row in found]
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        f"{'engine':12} {'data':28} {'input':8} {'rows':>5} {'same labels':>11} {'macro F1':>8} {'differs':>7} largest"
    ]
    for row in rows:
        cost = 100 * (row["macro_f1"] - row["reference_macro_f1"])
        lines.append(
            f"{row['engine']:12} {row['data']:28} {row['input']:8} {row['rows']:5} {row['label_agreement']:11.1%} "
            f"{100 * row['macro_f1']:8.1f} {cost:+7.1f} {row['largest_difference']:.4f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="artifact (default: the shipped one)")
    parser.add_argument("--mvsa", type=Path, help="MVSA-Single")
    parser.add_argument("--split", choices=("validation", "test"), default="validation", help="of MVSA-Single")
    parser.add_argument("--tweets", type=Path, help="tweet_sentiment.parquet: its half to report on")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--limit", type=int, help="so many posts of each set")
    parser.add_argument("--threads", type=int, default=0, help="of an engine within a call; one per core by default")
    parser.add_argument("--json", action="store_true", help="print one JSON object last on standard output")
    options = parser.parse_args()
    sets: dict[str, Sequence[Example]] = {}
    if options.tweets:
        sets["tweet_sentiment report"] = read_tweet_sentiment(options.tweets)["report"][: options.limit]
    if options.mvsa:
        sets[f"mvsa_single {options.split}"] = read_mvsa(options.mvsa).splits[options.split][: options.limit]
    if not sets:
        parser.error("nothing to compare on: give --mvsa, --tweets or both")
    rows = compare(options.model, sets, options.engines, options.threads)
    print(table(rows), file=sys.stderr)
    if options.json:
        print(json.dumps({"engines": rows}))


if __name__ == "__main__":
    main()
