"""What data sets share: splits and their other names, made-up times, pictures beside the text, Parquet by splits."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ingest.contract import Label, Post
from ingest.errors import BadSource
from ingest.sources.items import Picture

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


class SplitParquet:
    """The rows of some splits. Raises BadSource for a file that lacks a column, or has no such split."""

    def __init__(self, path: Path, columns: Collection[str], *, split: str | None, rows_per_chunk: int) -> None:
        self._path, self._rows_per_chunk = path, rows_per_chunk
        try:
            with pq.ParquetFile(path) as file:
                missing = {*columns, "split"} - set(file.schema_arrow.names)
                if missing:
                    raise BadSource(f"{path} lacks the column {', '.join(sorted(missing))}")
                groups = (file.read_row_group(group, columns=["split"]) for group in range(file.num_row_groups))
                named = {name for group in groups for name in group["split"].unique().to_pylist()}
        except (OSError, pa.ArrowException) as error:
            raise BadSource(f"cannot read {path} as Parquet: {error}") from error
        self._columns = [*sorted({*columns, "split"})]
        self._splits = chosen_splits({str(name) for name in named}, split, path)

    def rows(self, extra: Collection[str] = ()) -> Iterator[Row]:
        """`extra`: columns read where they are there. Raises BadSource where the file turns out to be damaged."""
        try:
            with pq.ParquetFile(self._path) as file:
                columns = [*self._columns, *sorted(set(extra) & set(file.schema_arrow.names))]
                yield from self._rows(file, columns)
        except (OSError, pa.ArrowException) as error:
            raise BadSource(f"cannot read {self._path} as Parquet: {error}") from error

    def count(self) -> int:
        """How many rows there are of these splits. Raises BadSource as `rows` does."""
        try:
            with pq.ParquetFile(self._path) as file:
                groups = (file.read_row_group(group, columns=["split"]) for group in range(file.num_row_groups))
                return sum(str(name) in self._splits for group in groups for name in group["split"].to_pylist())
        except (OSError, pa.ArrowException) as error:
            raise BadSource(f"cannot read {self._path} as Parquet: {error}") from error

    def _rows(self, file: pq.ParquetFile, columns: list[str]) -> Iterator[Row]:
        number = 0
        for group in range(file.num_row_groups):
            # Pictures of other splits are most of the file: their row groups are not read at all.
            splits = file.read_row_group(group, columns=["split"])["split"].to_pylist()
            if self._splits.isdisjoint(splits):
                number += len(splits)
                continue
            for batch in file.iter_batches(self._rows_per_chunk, row_groups=[group], columns=columns):
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
