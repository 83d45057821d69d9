"""Predictions of a replay as they are drained: a folder of Parquet files, whole or absent each, merged at the end.

A part is named after the last entry of the results stream in it, so that after a crash one can tell which entries of
the stream are in a file already: those up to that of the newest part.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dashboard.predictions import SCHEMA, table_of
from inference_worker.contract import Prediction

ROWS_AT_ONCE: Final = 50_000
"""Of the merged file: about 30 MB held at a time."""
PARTS_AT_HAND: Final = 16

Withdrawn = Callable[[Sequence[str]], set[str]]
"""Which of these posts have been deleted since they were drained."""


class Parts:
    """The folder, made if it is missing; what a crash left unfinished is removed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for unfinished in folder.glob("*.part"):
            unfinished.unlink()

    def last_id(self, shard: int) -> str | None:
        """The last entry of a shard's results stream that is in a part."""
        newest = max(self.folder.glob(f"{shard:04d}-*.parquet"), default=None)
        if newest is None:
            return None
        _, milliseconds, number = newest.stem.split("-")
        return f"{int(milliseconds)}-{int(number)}"

    def write(self, shard: int, last_id: str, predictions: Sequence[Prediction]) -> None:
        """Returns when the part is on the disk."""
        milliseconds, number = map(int, last_id.split("-"))
        path = self.folder / f"{shard:04d}-{milliseconds:015d}-{number:010d}.parquet"
        unfinished = path.with_suffix(".part")
        with unfinished.open("wb") as file:
            pq.write_table(table_of(predictions), file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)

    def merge(self, path: Path, *, withdrawn: Withdrawn = lambda ids: set()) -> int:
        """All of them into one file, by event time and id, each post once in its highest revision; returns the rows.

        Holds the ids of all rows and ROWS_AT_ONCE whole rows.
        """
        parts = sorted(self.folder.glob("*.parquet"))
        read = lru_cache(maxsize=PARTS_AT_HAND)(lambda number: pq.read_table(parts[number], schema=SCHEMA))
        starts = np.cumsum([0, *(pq.read_metadata(part).num_rows for part in parts)])
        order = _order(parts, withdrawn)
        unfinished = path.with_name(f"{path.name}.part")
        with pq.ParquetWriter(unfinished, SCHEMA, compression="zstd") as writer:
            for begin in range(0, len(order), ROWS_AT_ONCE):
                writer.write_table(_gather(order[begin : begin + ROWS_AT_ONCE], starts, read))
        unfinished.replace(path)
        return len(order)


def _order(parts: Sequence[Path], withdrawn: Withdrawn) -> np.ndarray:
    """Numbers of the rows to keep, counted through all parts, in the order of the merged file."""
    empty = pa.table({"id": pa.array([], pa.string()), "revision": pa.array([], pa.int32()), "created_at": []})
    columns = ["id", "revision", "created_at"]
    rows = pa.concat_tables([pq.read_table(part, columns=columns) for part in parts]) if parts else empty
    rows = rows.append_column("row", pa.array(np.arange(rows.num_rows)))
    rows = rows.take(pc.sort_indices(rows, [("id", "ascending"), ("revision", "descending"), ("row", "ascending")]))
    ids = rows["id"].combine_chunks()
    if len(ids):
        is_first = pc.not_equal(ids.slice(1), ids.slice(0, len(ids) - 1))
        rows = rows.filter(pa.concat_arrays([pa.array([True]), is_first]))
    gone: set[str] = set()
    for some in _slices(rows["id"]):
        gone |= withdrawn(some)
    if gone:
        rows = rows.filter(pc.invert(pc.is_in(rows["id"], value_set=pa.array(sorted(gone)))))
    rows = rows.take(pc.sort_indices(rows, [("created_at", "ascending"), ("id", "ascending")]))
    return np.asarray(rows["row"].to_numpy())


def _slices(ids: pa.ChunkedArray) -> Iterator[list[str]]:
    for begin in range(0, len(ids), 10_000):
        yield ids.slice(begin, 10_000).to_pylist()


def _gather(rows: np.ndarray, starts: np.ndarray, read: Callable[[int], pa.Table]) -> pa.Table:
    """The rows, in the order given, from whichever parts they are in."""
    of_part = np.searchsorted(starts, rows, side="right") - 1
    by_part = np.argsort(of_part, kind="stable")
    tables = [read(part).take(rows[of_part == part] - starts[part]) for part in np.unique(of_part).tolist()]
    places = np.empty_like(by_part)
    places[by_part] = np.arange(len(rows))
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks().take(places)
