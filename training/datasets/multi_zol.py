"""Multi-ZOL (Xu et al., AAAI 2019): Chinese phone reviews with pictures, a rating for each of six aspects.

Folder: train.txt, dev.txt, test.txt, four lines a record (segmented text, list of pictures, aspect, rating), pictures
in images/. Of a review's pictures one is drawn, with `seed`. Half of the published test rows have their review in the
published dev split, so `grouped` deals whole reviews anew instead.
"""

import ast
import random
from pathlib import Path
from typing import Final

from training.datasets.example import Corpus, Example

RATINGS: Final = ("1", "2", "3", "4", "5", "6", "8", "10")
FILES: Final = {"train": "train.txt", "validation": "dev.txt", "test": "test.txt"}


def read_multi_zol(path: Path, *, seed: int = 0, grouped: bool = False) -> Corpus:
    """Raises ValueError if a file is missing."""
    missing = [name for name in FILES.values() if not (path / name).is_file()]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}: give the folder of Multi-ZOL")
    corpus = Corpus({}, RATINGS)
    for split, name in FILES.items():
        corpus.splits[split] = []
        lines = (path / name).read_text(encoding="utf-8").splitlines()
        for start in range(0, len(lines), 4):
            record, place = lines[start : start + 4], f"{name} line {start + 1}"
            if len(record) < 4 or record[3].strip() not in RATINGS:
                corpus.skip("bad record", place)
                continue
            picture = _drawn(path / "images", record[1], f"{seed}/{place}")
            if picture is None:
                corpus.skip("file missing", place)
                continue
            text, label = record[0].replace(" ", ""), RATINGS.index(record[3].strip())
            example = Example(f"{split}-{start // 4}", text, picture.read_bytes(), label, aspect=record[2].strip())
            corpus.splits[split].append(example)
    if grouped:
        corpus.splits = _dealt_by_review(corpus, seed)
    return corpus


def _drawn(folder: Path, listed: str, seed: str) -> Path | None:
    """One of the pictures named that are there."""
    try:
        names = [str(name) for name in ast.literal_eval(listed)]
    except (ValueError, SyntaxError, TypeError):
        names = listed.split()
    found = [folder / Path(name).name for name in names if (folder / Path(name).name).is_file()]
    return random.Random(seed).choice(found) if found else None


def _dealt_by_review(corpus: Corpus, seed: int) -> dict[str, list[Example]]:
    """8:1:1 of the reviews."""
    reviews: dict[str, list[Example]] = {}
    for examples in corpus.splits.values():
        for example in examples:
            reviews.setdefault(example.text or "", []).append(example)
    shuffled = list(reviews.values())
    random.Random(seed).shuffle(shuffled)
    tenth = len(shuffled) // 10
    parts = {"test": shuffled[:tenth], "validation": shuffled[tenth : 2 * tenth], "train": shuffled[2 * tenth :]}
    return {name: [example for review in part for example in review] for name, part in parts.items()}
