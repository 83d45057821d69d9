"""Twitter-15 and Twitter-17: tweets with a picture, a target in the text and the sentiment towards it (Yu and Jiang,
IJCAI 2019).

The owners' folder holds train.tsv, dev.tsv and test.tsv (index, label, image id, sentence with `$T$`, target); the
pictures lie in `<folder>_images` beside it or in `images` within. Label 0 is negative, 1 neutral, 2 positive: the
reverse of other sets. A tweet with two targets is two rows, and two posts.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Final

from ingest.contract import Label
from ingest.sources.data_set import NO_TIME, chosen_splits, pictures_in, post_of
from ingest.sources.items import Draft, Item, Kind, Skipped, in_thread
from ingest.sources.lines import Lines

ROWS_PER_CHUNK: Final = 32
SPLITS: Final = ("train", "dev", "test")
LABELS: Final[dict[str, Label]] = {"0": "negative", "1": "neutral", "2": "positive"}
PLACEHOLDER: Final = "$T$"


class TargetTweets:
    """Rows of the folder; `split` chooses one split, None takes all."""

    kind: Kind = "replay"

    def __init__(self, path: Path, *, split: str | None = None) -> None:
        self.name = str(path)
        self._path = path
        self._source = "twitter15" if "15" in path.resolve().name else "twitter17"
        self.format = f"{self._source.capitalize()}, the owners' folder"
        there = [name for name in SPLITS if (path / f"{name}.tsv").is_file()]
        self._there, self._chosen = there, chosen_splits(there, split, path)
        self._images = [path.resolve().parent / f"{path.resolve().name}_images", path / "images"]

    def __aiter__(self) -> AsyncGenerator[Item, None]:
        return in_thread(self._items(), chunk=ROWS_PER_CHUNK)

    def _items(self) -> Iterator[Item]:
        number = 0
        for split in self._there:
            with (self._path / f"{split}.tsv").open("rb") as file:
                lines = Lines(file, f"{split}.tsv")
                for line in lines:
                    if lines.number == 1 or line.isspace():
                        continue  # the header
                    number += 1
                    if split in self._chosen:
                        yield self._item(split, number, line, lines.said())
                if split in self._chosen:
                    yield from lines.taken_troubles()

    def _item(self, split: str, number: int, line: bytes, where: str) -> Item:
        cells = line.decode("utf-8", "replace").rstrip("\r\n").split("\t")
        if len(cells) != 5:
            return Skipped(reason="row that has not 5 columns", item=where)
        index, word, image, sentence, target = (cell.strip() for cell in cells)
        if word not in LABELS:
            return Skipped(reason="row whose label is not 0, 1 or 2", item=where)
        pictures, warnings = pictures_in(self._images, image)
        text = sentence.replace(PLACEHOLDER, target)
        post = post_of(self._source, f"{split}-{index}", number, text, LABELS[word])
        return Draft(post=post, pictures=pictures, warnings=(NO_TIME, *warnings))


def is_folder(path: Path) -> bool:
    return any((path / f"{name}.tsv").is_file() for name in SPLITS)
