"""MVSA-Single and MVSA-Multiple: tweets with a picture and hand labels for both (Niu et al., MMM 2016).

Two layouts: the owners' folder (`data/<id>.jpg`, `data/<id>.txt`, `labelResultAll.txt`) and a Parquet file with the
columns id, split, text, label, image. Neither tells when a tweet was posted: posts stand one second apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Final

from ingest.contract import Label
from ingest.errors import BadSource
from ingest.sources.data_set import NO_TIME, Row, SplitParquet, post_of
from ingest.sources.items import Draft, Item, Kind, Picture, Skipped, in_thread, label_of

ROWS_PER_CHUNK: Final = 32
LABEL_FILE: Final = "labelResultAll.txt"
COLUMNS: Final = frozenset({"id", "split", "text", "label", "image"})


class MvsaParquet(SplitParquet):
    format = "MVSA, Parquet"
    columns = COLUMNS
    optional_columns = frozenset({"width", "height"})
    rows_per_chunk = ROWS_PER_CHUNK

    def item(self, row: Row) -> Item:
        values = row.values
        pictures: tuple[Picture, ...] = ()
        if values["image"]:
            pictures = (Picture(data=values["image"], width=values.get("width"), height=values.get("height")),)
        post = post_of("mvsa", str(values["id"]), row.number, values["text"] or "", label_of(values["label"] or ""))
        return Draft(post=post, pictures=pictures, warnings=(NO_TIME,))


class MvsaFolder:
    """The owners' folder; labels of text and image are joined by the rule of Xu and Mao (ISI 2017)."""

    kind: Kind = "replay"
    format = "MVSA, the owners' folder"

    def __init__(self, path: Path, *, split: str | None = None) -> None:
        self.name = str(path)
        self._path = path
        if split is not None:
            raise BadSource(f"--split {split}: the folder {path} has no splits; leave it out, or use the Parquet file")
        if not (path / LABEL_FILE).is_file() or not (path / "data").is_dir():
            raise BadSource(f"{path} is no MVSA folder: it needs {LABEL_FILE} and data/<id>.jpg, data/<id>.txt")

    def __aiter__(self) -> AsyncGenerator[Item, None]:
        return in_thread(self._items(), chunk=ROWS_PER_CHUNK)

    def _items(self) -> Iterator[Item]:
        with (self._path / LABEL_FILE).open(encoding="utf-8", errors="replace") as lines:
            next(lines, None)
            for number, line in enumerate((line for line in lines if line.strip()), start=1):
                yield self._item(number, line)

    def _item(self, number: int, line: str) -> Item:
        native_id, *pairs = line.split()
        if not native_id.isdigit() or not pairs:
            return Skipped(reason="unreadable label line", item=f"line {number}: {line.strip()[:80]}")
        label = joint_label([pair.split(",") for pair in pairs])
        if label is None:
            return Skipped(reason="labels contradict", item=native_id)
        text_file, image_file = (self._path / "data" / f"{native_id}.{kind}" for kind in ("txt", "jpg"))
        if not text_file.is_file() and not image_file.is_file():
            return Skipped(reason="post without text and image files", item=native_id)
        text = text_file.read_text(encoding="latin-1").strip() if text_file.is_file() else ""
        pictures = (Picture(data=image_file.read_bytes()),) if image_file.is_file() else ()
        return Draft(post=post_of("mvsa", native_id, number, text, label), pictures=pictures, warnings=(NO_TIME,))


def joint_label(pairs: list[list[str]]) -> Label | None:
    """Annotators' (text, image) labels → one label, None where the post is dropped (Xu and Mao 2017).

    Of three annotators two must agree, per modality. Then equal labels stand, a polar one wins over neutral,
    and positive against negative drops the post.
    """
    if any(len(pair) != 2 for pair in pairs):
        return None
    text, image = (_majority([label_of(pair[modality]) for pair in pairs]) for modality in (0, 1))
    if text is None or image is None:
        return None
    if text == image or image == "neutral":
        return text
    return image if text == "neutral" else None


def _majority(labels: list[Label | None]) -> Label | None:
    label, votes = Counter(labels).most_common(1)[0]
    return label if len(labels) == 1 or votes >= 2 else None
