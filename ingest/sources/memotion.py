"""Memotion 7k: memes with their words read off the picture and five classes of sentiment (Sharma et al., SemEval 2020).

Two layouts: the owners' folder (`labels.csv`, `images/`) and a Parquet file with the columns id, split, text, text_ocr,
label, image. The five classes become three; a meme whose picture is broken survives as its text.
"""

from __future__ import annotations

import csv
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Final

from ingest.contract import Label
from ingest.errors import BadSource
from ingest.sources.data_set import NO_TIME, Row, SplitParquet, pictures_in, post_of
from ingest.sources.items import Draft, Item, Kind, Picture, Skipped, in_thread
from ingest.sources.lines import Lines

ROWS_PER_CHUNK: Final = 32
LABEL_FILE: Final = "labels.csv"
COLUMNS: Final = frozenset({"id", "split", "text", "text_ocr", "label", "image"})
LABELS: Final[dict[str, Label]] = {
    "very_negative": "negative",
    "negative": "negative",
    "neutral": "neutral",
    "positive": "positive",
    "very_positive": "positive",
}
_NEEDED: Final = ("image_name", "text_ocr", "text_corrected", "overall_sentiment")


class MemotionParquet(SplitParquet):
    format = "Memotion, Parquet"
    columns = COLUMNS
    rows_per_chunk = ROWS_PER_CHUNK

    def item(self, row: Row) -> Item:
        values = row.values
        pictures = (Picture(data=values["image"]),) if values["image"] else ()
        text = values["text"] or values["text_ocr"] or ""
        return _draft(row.number, str(values["id"]), text, values["label"] or "", pictures, ())


class MemotionFolder:
    """The owners' folder, which has no splits."""

    kind: Kind = "replay"
    format = "Memotion, the owners' folder"

    def __init__(self, path: Path, *, split: str | None = None) -> None:
        self.name = str(path)
        self._path = path
        if split is not None:
            raise BadSource(f"--split {split}: the folder {path} has no splits; leave it out, or use the Parquet file")
        with (path / LABEL_FILE).open("rb") as file:
            header = next(csv.reader(_text(Lines(file))), [])
        if missing := set(_NEEDED) - set(header):
            raise BadSource(f"{path / LABEL_FILE} lacks the column {', '.join(sorted(missing))} of Memotion's labels")
        self._index = {name: header.index(name) for name in _NEEDED}

    def __aiter__(self) -> AsyncGenerator[Item, None]:
        return in_thread(self._items(), chunk=ROWS_PER_CHUNK)

    def _items(self) -> Iterator[Item]:
        with (self._path / LABEL_FILE).open("rb") as file:
            lines = Lines(file)
            rows = csv.reader(_text(lines))
            next(rows, None)
            number = 0
            while True:
                try:
                    row = next(rows)
                except StopIteration:
                    break
                except csv.Error as error:
                    yield Skipped(reason="unreadable row", item=f"{lines.said()}: {error}")
                    continue
                number += 1
                yield self._item(number, row)
            yield from lines.taken_troubles()

    def _item(self, number: int, row: list[str]) -> Item:
        if len(row) <= max(self._index.values()):
            return Skipped(reason="row with too few columns", item=f"row {number}")
        image, ocr, corrected, mood = (row[self._index[name]].strip() for name in _NEEDED)
        pictures, warnings = pictures_in([self._path / "images"], image)
        return _draft(number, image.rpartition(".")[0] or image, corrected or ocr, mood, pictures, warnings)


def _text(lines: Lines) -> Iterator[str]:
    return (line.decode("utf-8", "replace") for line in lines)


def _draft(
    number: int, native_id: str, text: str, mood: str, pictures: tuple[Picture, ...], warnings: tuple[str, ...]
) -> Draft:
    label = LABELS.get(mood)
    if label is None and mood:
        warnings = (*warnings, "unknown label")
    post = post_of("memotion", native_id, number, text, label)
    return Draft(post=post, pictures=pictures, warnings=(NO_TIME, *warnings))
