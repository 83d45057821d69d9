"""Twitter-15 and Twitter-17 (Zhang et al. 2018, Lu et al. 2018), in TomBERT's layout: sentiment towards a target.

Folder: train.tsv, dev.tsv, test.tsv with index, label, image id, sentence with `$T$` in the target's place, target;
pictures in images/ or the folder named beside it. Their labels count upwards, 0 = negative, 1 = neutral, 2 = positive:
the reverse of MVSA's.
"""

import csv
from pathlib import Path
from typing import Final

from training.datasets.example import Corpus, Example, label_index

FILES: Final = {"train": "train.tsv", "validation": "dev.tsv", "test": "test.tsv"}
THEIR_LABELS: Final = {"0": "negative", "1": "neutral", "2": "positive"}
PLACEHOLDER: Final = "$T$"


def read_twitter_aspect(path: Path, *, images: Path | None = None) -> Corpus:
    """images: folder of the pictures (default: `images` in the folder). Raises ValueError if a file is missing."""
    missing = [name for name in FILES.values() if not (path / name).is_file()]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}: give the folder of Twitter-15 or Twitter-17")
    pictures = images or path / "images"
    corpus = Corpus({})
    for split, name in FILES.items():
        corpus.splits[split] = []
        with (path / name).open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE), start=1):
                if number == 1 and "index" in row[:1]:
                    continue
                place = f"{name} line {number}"
                if len(row) < 5 or row[1] not in THEIR_LABELS:
                    corpus.skip("bad row", place)
                elif not (picture := pictures / row[2]).is_file():
                    corpus.skip("file missing", f"{place}: {row[2]}")
                else:
                    text = row[3].replace(PLACEHOLDER, row[4])
                    label = label_index(THEIR_LABELS[row[1]])
                    example = Example(f"{split}-{row[0]}", text, picture.read_bytes(), label, aspect=row[4])
                    corpus.splits[split].append(example)
    return corpus
