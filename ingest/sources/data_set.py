"""What data sets share: splits and their other names, made-up times, pictures beside the text, Parquet by splits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ingest.contract import Label, Post
from ingest.errors import BadSource
from ingest.sources.items import Item, Kind, Picture, in_thread

START: Final = datetime(2016, 1, 1, tzinfo=UTC)
NO_TIME: Final = "no time in the data set: posts stand one second apart"
MAX_PICTURE_BYTES: Final = 32 << 20
NO_PICTURE: Final = "picture missing"
_SAME_SPLIT: Final = {"val": "validation", "dev": "validation", "valid": "validation", "valid2": "validation"} | {
    "test2": "test"
}


def chosen_splits(named: Collection[str], split: str | None, path: Path) -> set[str]:
    """The splits of a data set that are asked for, None for all. Raises BadSource if it has no such split."""
    chosen = {name for name in named if split is None or _same(name) == _same(split)}
    if not chosen:
        raise BadSource(f"--split {split}: {path} has the splits {', '.join(sorted(named)) or 'none'}")
    return chosen


def _same(split: str) -> str:
    return _SAME_SPLIT.get(split.casefold(), split.casefold())


def post_of(source: str, native_id: str, number: int, text: str, label: Label | None) -> Post:
    """A row of a set that tells no times: its number in the whole set makes one up, whatever split is read."""
    return Post(
        id=f"{source}:{native_id}",
        source=source,
        created_at=START + timedelta(seconds=number),
        ingested_at=datetime.now(UTC),
        text=text,
        label=label,
    )


def pictures_in(folders: Sequence[Path], name: str) -> tuple[tuple[Picture, ...], tuple[str, ...]]:
    """The picture called so in one of the folders, and a warning if there is none; the name may be anybody's."""
    if Path(name).name == name and not name.startswith("."):
        for folder in folders:
            path = folder / name
            if path.is_file() and not path.is_symlink() and path.stat().st_size <= MAX_PICTURE_BYTES:
                return (Picture(data=path.read_bytes()),), ()
    return (), (NO_PICTURE,)


class Row(NamedTuple):
    """Of a Parquet file; `number` counts from 1 in the whole of it."""

    number: int
    values: dict[str, Any]


class SplitParquet(ABC):
    """A data set in a Parquet file with a column `split`; `split` chooses one split, None takes all.

    columns: what a file must have; optional_columns: what is read where it is there; rows_per_chunk: at a time.
    Raises BadSource for a file that lacks a column, or has no such split.
    """

    kind: Kind = "replay"
    format: str
    columns: frozenset[str]
    optional_columns: frozenset[str] = frozenset()
    rows_per_chunk: int

    def __init__(self, path: Path, *, split: str | None = None) -> None:
        self.name = str(path)
        self._path = path
        try:
            with pq.ParquetFile(path) as file:
                missing = {*self.columns, "split"} - set(file.schema_arrow.names)
                if missing:
                    raise BadSource(f"{path} lacks the column {', '.join(sorted(missing))}")
                groups = (file.read_row_group(group, columns=["split"]) for group in range(file.num_row_groups))
                named = {name for group in groups for name in group["split"].unique().to_pylist()}
        except (OSError, pa.ArrowException) as error:
            raise BadSource(f"cannot read {path} as Parquet: {error}") from error
        self._splits = chosen_splits({str(name) for name in named}, split, path)

    @abstractmethod
    def item(self, row: Row) -> Item: ...

    def __aiter__(self) -> AsyncGenerator[Item, None]:
        """Raises BadSource where the file turns out to be damaged."""
        return in_thread(map(self.item, self._rows()), chunk=self.rows_per_chunk)

    def _rows(self) -> Iterator[Row]:
        try:
            with pq.ParquetFile(self._path) as file:
                optional = self.optional_columns & set(file.schema_arrow.names)
                yield from self._rows_of(file, sorted({*self.columns, "split", *optional}))
        except (OSError, pa.ArrowException) as error:
            raise BadSource(f"cannot read {self._path} as Parquet: {error}") from error

    def count(self) -> int:
        """How many rows there are of these splits. Raises BadSource as reading does."""
        try:
            with pq.ParquetFile(self._path) as file:
                groups = (file.read_row_group(group, columns=["split"]) for group in range(file.num_row_groups))
                return sum(str(name) in self._splits for group in groups for name in group["split"].to_pylist())
        except (OSError, pa.ArrowException) as error:
            raise BadSource(f"cannot read {self._path} as Parquet: {error}") from error

    def _rows_of(self, file: pq.ParquetFile, columns: list[str]) -> Iterator[Row]:
        number = 0
        for group in range(file.num_row_groups):
            # Pictures of other splits are most of the file: their row groups are not read at all.
            splits = file.read_row_group(group, columns=["split"])["split"].to_pylist()
            if self._splits.isdisjoint(splits):
                number += len(splits)
                continue
            for batch in file.iter_batches(self.rows_per_chunk, row_groups=[group], columns=columns):
                for values in batch.to_pylist():
                    number += 1
                    if str(values["split"]) in self._splits:
                        yield Row(number, values)


def columns_of(path: Path) -> frozenset[str]:
    """Of a Parquet file. Raises BadSource if it is none."""
    try:
        return frozenset(pq.read_schema(path).names)
    except (OSError, pa.ArrowException) as error:
        raise BadSource(f"cannot read {path} as Parquet: {error}") from error
