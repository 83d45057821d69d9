"""HFM: tweets with a picture and a label for sarcasm (Cai et al., ACL 2019).

The owners' folder holds train.txt, valid2.txt and test2.txt (in `text/` or beside the pictures' `dataset_image/`), a
line a Python list: id, text, label or labels. Sarcasm is no sentiment, so posts carry no label. Rows with #sarcasm and
the like, which training leaves out because they give the label away, are read: nothing is judged by it here.
"""

from __future__ import annotations

import ast
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Final

from ingest.sources.data_set import NO_TIME, chosen_splits, pictures_in, post_of
from ingest.sources.items import Draft, Item, Kind, Skipped, in_thread
from ingest.sources.lines import Lines

ROWS_PER_CHUNK: Final = 32
SPLITS: Final = ("train", "valid2", "test2")
NO_LABEL: Final = "label left out: it tells sarcasm, not sentiment"
MAX_LITERAL_BYTES: Final = 1 << 16
"""A row is a tweet; what is far longer would be read as Python for nothing."""


class HfmFolder:
    """Rows of the folder; `split` chooses one split, None takes all."""

    kind: Kind = "replay"
    format = "HFM, the owners' folder"

    def __init__(self, path: Path, *, split: str | None = None) -> None:
        self.name = str(path)
        files = _files(path)
        self._files, self._chosen = files, chosen_splits(files.keys(), split, path)
        self._images = [path / "dataset_image", path.parent / "dataset_image"]

    def __aiter__(self) -> AsyncGenerator[Item, None]:
        return in_thread(self._items(), chunk=ROWS_PER_CHUNK)

    def _items(self) -> Iterator[Item]:
        number = 0
        for split, path in self._files.items():
            with path.open("rb") as file:
                lines = Lines(file, path.name)
                for line in lines:
                    if line.isspace():
                        continue
                    number += 1
                    if split in self._chosen:
                        yield self._item(number, line, lines.said())
                if split in self._chosen:
                    yield from lines.taken_troubles()

    def _item(self, number: int, line: bytes, where: str) -> Item:
        row = _row(line)
        if row is None:
            return Skipped(reason="line that is no list of id, text and label", item=where)
        native_id, text = row
        pictures, warnings = pictures_in(self._images, f"{native_id}.jpg")
        post = post_of("hfm", native_id, number, text, None)
        return Draft(post=post, pictures=pictures, warnings=(NO_TIME, NO_LABEL, *warnings))


def _row(line: bytes) -> tuple[str, str] | None:
    """Id and text of a line, which is data and is never run."""
    if len(line) > MAX_LITERAL_BYTES:
        return None
    try:
        row = ast.literal_eval(line.decode("utf-8", "replace").strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    if not isinstance(row, list) or len(row) not in (3, 4) or not isinstance(row[1], str):
        return None
    return str(row[0]), row[1]


def _files(path: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for split in SPLITS:
        for folder in (path, path / "text"):
            if (folder / f"{split}.txt").is_file():
                found.setdefault(split, folder / f"{split}.txt")
    return found


def is_folder(path: Path) -> bool:
    return _files(path).keys() >= {"train", "test2"} or _files(path).keys() >= {"valid2", "test2"}
