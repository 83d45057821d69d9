"""MVSA-Single (Niu et al., MMM 2016): tweets with a picture, labelled per modality, merged by Xu & Mao's rule.

Reads the owners' folder (data/<id>.txt, data/<id>.jpg, labelResultAll.txt) and a Parquet file of the same posts
with the published split.
"""

import random
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from training.datasets.example import LABELS, Example, label_index

SPLITS = ("train", "validation", "test")


@dataclass(slots=True)
class MVSA:
    """`skipped` counts the posts left out, by reason."""

    splits: dict[str, list[Example]]
    skipped: dict[str, int] = field(default_factory=dict)


def read_mvsa(path: Path, *, seed: int = 0) -> MVSA:
    """Read a Parquet file (its own split) or the owners' folder (stratified 8:1:1 split drawn with `seed`)."""
    if path.is_file():
        return _read_parquet(path)
    if (path / "labelResultAll.txt").is_file():
        return _read_folder(path, seed)
    raise ValueError(f"{path} is neither a Parquet file nor a folder with labelResultAll.txt and data/")


def merge_labels(text_label: str, image_label: str) -> str | None:
    """Xu & Mao (2017): equal labels stand, a polar label beats neutral, positive against negative is dropped."""
    if text_label == image_label:
        return text_label
    if "neutral" in (text_label, image_label):
        return image_label if text_label == "neutral" else text_label
    return None


def _read_parquet(path: Path) -> MVSA:
    table = pq.read_table(path, columns=["id", "split", "text", "label", "image"])
    splits: dict[str, list[Example]] = {name: [] for name in SPLITS}
    for row in table.to_pylist():
        example = Example(id=str(row["id"]), text=row["text"], image=row["image"], label=label_index(row["label"]))
        splits[row["split"]].append(example)
    return MVSA(splits)


def _read_folder(path: Path, seed: int) -> MVSA:
    skipped = {"bad label line": 0, "labels contradict": 0, "file missing": 0, "image empty": 0}
    examples: list[Example] = []
    for line in (path / "labelResultAll.txt").read_text(encoding="utf-8").splitlines()[1:]:
        fields = line.replace(",", "\t").split()
        if len(fields) != 3 or not set(fields[1:]) <= set(LABELS):
            skipped["bad label line"] += bool(fields)
            continue
        label = merge_labels(fields[1], fields[2])
        text_file, image_file = (path / "data" / f"{fields[0]}.{suffix}" for suffix in ("txt", "jpg"))
        if label is None:
            skipped["labels contradict"] += 1
        elif not (text_file.is_file() and image_file.is_file()):
            skipped["file missing"] += 1
        elif not (image := image_file.read_bytes()):
            skipped["image empty"] += 1
        else:
            text = text_file.read_text(encoding="latin-1").strip()
            examples.append(Example(id=fields[0], text=text, image=image, label=label_index(label)))
    return MVSA(_stratified_split(examples, seed), skipped)


def _stratified_split(examples: list[Example], seed: int) -> dict[str, list[Example]]:
    """The owners publish no split; the papers use 8:1:1 per class."""
    splits: dict[str, list[Example]] = {name: [] for name in SPLITS}
    generator = random.Random(seed)
    for label in range(len(LABELS)):
        rows = [example for example in examples if example.label == label]
        generator.shuffle(rows)
        tenth = len(rows) // 10
        splits["test"] += rows[:tenth]
        splits["validation"] += rows[tenth : 2 * tenth]
        splits["train"] += rows[2 * tenth :]
    return splits
