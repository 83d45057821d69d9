"""Tweets of SemEval-2017 task 4A (text only, three classes) as one Parquet file.

The validation split is read as two fixed halves: `validation` to choose and calibrate on, `report` to measure on.
"""

import re
from pathlib import Path
from zlib import crc32

import pyarrow.parquet as pq

from training.datasets.example import Example, label_index

_UNICODE_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")


def read_tweet_sentiment(path: Path) -> dict[str, list[Example]]:
    """Columns id, split, text, label; returns the examples of train, validation and report in file order."""
    table = pq.read_table(path, columns=["id", "split", "text", "label"])
    splits: dict[str, list[Example]] = {}
    for row in table.to_pylist():
        example = Example(id=str(row["id"]), text=unescape(row["text"]), image=None, label=label_index(row["label"]))
        is_reported = row["split"] == "validation" and crc32(example.id.encode()) % 2
        splits.setdefault("report" if is_reported else row["split"], []).append(example)
    return splits


def unescape(text: str) -> str:
    r"""Undo what the corpus did to one tweet in nine: \u002c for a comma, \u2019 for an apostrophe, \"" for a quote."""
    return _UNICODE_ESCAPE.sub(lambda match: chr(int(match[1], 16)), text).replace('\\""', '"')
