"""MVSA (Niu et al., MMM 2016): tweets with a picture, labelled per modality, merged by Xu & Mao's rule.

MVSA-Single has one annotator a post, MVSA-Multiple three. Reads the owners' folder (data/<id>.txt, data/<id>.jpg,
labelResultAll.txt) of either and a Parquet file of posts with the split the papers published.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from training.datasets.example import LABELS, SPLITS, Corpus, Example, label_index
from training.datasets.splitting import stratified_split


def read_mvsa(path: Path, *, seed: int = 0) -> Corpus:
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


def agreed(labels: Sequence[str]) -> str | None:
    """What most annotators of a modality say; None if no label has a majority. One annotator is a majority."""
    label, votes = Counter(labels).most_common(1)[0]
    return label if 2 * votes > len(labels) else None


def _read_parquet(path: Path) -> Corpus:
    table = pq.read_table(path, columns=["id", "split", "text", "label", "image"])
    corpus = Corpus({name: [] for name in SPLITS})
    for row in table.to_pylist():
        example = Example(id=str(row["id"]), text=row["text"], image=row["image"], label=label_index(row["label"]))
        corpus.splits[row["split"]].append(example)
    return corpus


def _read_folder(path: Path, seed: int) -> Corpus:
    corpus = Corpus({})
    examples: list[Example] = []
    for number, line in enumerate((path / "labelResultAll.txt").read_text(encoding="utf-8").splitlines(), start=1):
        fields = line.replace(",", "\t").split()
        if number == 1 or not fields:
            continue
        if len(fields) not in (3, 7) or not set(fields[1:]) <= set(LABELS):
            corpus.skip("bad label line", f"line {number}")
            continue
        text_label, image_label = agreed(fields[1::2]), agreed(fields[2::2])
        label = merge_labels(text_label, image_label) if text_label and image_label else None
        text_file, image_file = (path / "data" / f"{fields[0]}.{suffix}" for suffix in ("txt", "jpg"))
        if text_label is None or image_label is None:
            corpus.skip("annotators disagree", fields[0])
        elif label is None:
            corpus.skip("labels contradict", fields[0])
        elif not (text_file.is_file() and image_file.is_file()):
            corpus.skip("file missing", fields[0])
        elif not (image := image_file.read_bytes()):
            corpus.skip("image empty", fields[0])
        else:
            text = text_file.read_text(encoding="latin-1").strip()
            examples.append(Example(id=fields[0], text=text, image=image, label=label_index(label)))
    corpus.splits = stratified_split(examples, seed=seed)
    return corpus
