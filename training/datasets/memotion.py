"""Memotion 7k (Sharma et al., SemEval-2020 task 8): memes with the words in them, five classes or merged to three.

Reads a Parquet file with a split, or the owners' folder (labels.csv and images/), split 70/10/20 by class with
duplicate pictures kept together.
"""

import csv
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from training.datasets.example import LABELS, SPLITS, Corpus, Example
from training.datasets.splitting import twin_free_split

FIVE: Final = ("very_positive", "positive", "neutral", "negative", "very_negative")
MERGED: Final = {"very_positive": 0, "positive": 0, "neutral": 1, "negative": 2, "very_negative": 2}


def read_memotion(path: Path, *, classes: int = 3, seed: int = 0) -> Corpus:
    """classes: 3 (positive, neutral, negative) or 5. Raises ValueError for any other number or path."""
    if classes not in (3, 5):
        raise ValueError(f"Memotion has 5 classes, or 3 merged ones, not {classes}")
    label_of = MERGED if classes == 3 else {name: number for number, name in enumerate(FIVE)}
    names = LABELS if classes == 3 else FIVE
    if path.is_file():
        return _read_parquet(path, label_of, names)
    if (path / "labels.csv").is_file():
        return _read_folder(path, label_of, names, seed)
    raise ValueError(f"{path} is neither a Parquet file nor a folder with labels.csv and images/")


def _read_parquet(path: Path, label_of: dict[str, int], names: tuple[str, ...]) -> Corpus:
    corpus = Corpus({name: [] for name in SPLITS}, names)
    for row in pq.read_table(path, columns=["id", "split", "text", "label", "image"]).to_pylist():
        if row["label"] not in label_of:
            corpus.skip("unknown label", str(row["id"]))
            continue
        example = Example(str(row["id"]), row["text"] or "", row["image"], label_of[row["label"]])
        corpus.splits[row["split"]].append(example)
    return corpus


def _read_folder(path: Path, label_of: dict[str, int], names: tuple[str, ...], seed: int) -> Corpus:
    corpus, examples = Corpus({}, names), []
    with (path / "labels.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            image = path / "images" / row["image_name"]
            label = label_of.get(row["overall_sentiment"])
            if label is None:
                corpus.skip("unknown label", row["image_name"])
            elif not image.is_file() or not image.stat().st_size:
                corpus.skip("file missing", row["image_name"])
            else:
                text = row["text_corrected"] or row["text_ocr"] or ""
                examples.append(Example(image.stem, text, image.read_bytes(), label))
    corpus.splits = twin_free_split(examples, seed=seed, held_out=0.15)
    return corpus
