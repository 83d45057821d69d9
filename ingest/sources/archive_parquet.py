"""Our own archive as Parquet, for other tools to read: a row a record, the fields of the contract, images inline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from ingest.contract import SCHEMA_VERSION, Record
from ingest.errors import BadSource

ROWS_WRITTEN: Final = 512
ROWS_READ: Final = 64
_VERSION: Final = b"moodstream.schema"
_TIME: Final = pa.timestamp("us", "UTC")
_IMAGE: Final = pa.struct(
    [
        ("jpeg", pa.binary()),
        ("sha256", pa.binary()),
        ("phash", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("alt", pa.string()),
        ("words", pa.string()),
    ]
)
SCHEMA: Final = pa.schema(
    [
        ("type", pa.string()),
        ("id", pa.string()),
        ("source", pa.string()),
        ("created_at", _TIME),
        ("ingested_at", _TIME),
        ("schema", pa.int32()),
        ("revision", pa.int32()),
        ("original_created_at", _TIME),
        ("text", pa.string()),
        ("lang", pa.string()),
        ("author", pa.string()),
        ("reach", pa.int64()),
        ("url", pa.string()),
        ("sensitive", pa.bool_()),
        ("images", pa.list_(_IMAGE)),
        ("topics", pa.list_(pa.string())),
        ("label", pa.string()),
        ("deleted_at", _TIME),
        ("post_id", pa.string()),
    ],
    metadata={_VERSION: str(SCHEMA_VERSION)},
)
"""`type` is "post" or "deletion", which alone has the last two columns."""


def is_own_parquet(path: Path) -> bool:
    """False for any other file, also one that is no Parquet."""
    try:
        return _VERSION in (pq.read_schema(path).metadata or {})
    except (pa.ArrowException, OSError):
        return False


def rows_in(path: Path) -> int:
    return int(pq.read_metadata(path).num_rows)


def write_parquet(path: Path, records: Iterable[Record]) -> None:
    """In constant memory."""
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        rows = (msgspec.to_builtins(record, builtin_types=(bytes, datetime)) for record in records)
        while some := list(islice(rows, ROWS_WRITTEN)):
            writer.write_table(pa.Table.from_pylist(some, SCHEMA))


def read_parquet(path: Path) -> Iterator[Record]:
    """In constant memory. Raises BadSource if it is damaged, or of a newer schema."""
    try:
        with pq.ParquetFile(path) as file:
            version = int((file.schema_arrow.metadata or {}).get(_VERSION, 0))
            if version > SCHEMA_VERSION:
                raise BadSource(f"{path}: schema {version}, this reads up to {SCHEMA_VERSION}: upgrade Moodstream")
            for batch in file.iter_batches(ROWS_READ):
                yield from map(_record, batch.to_pylist())
    except (pa.ArrowException, OSError, msgspec.ValidationError) as error:
        raise BadSource(f"cannot read {path}: {error}") from error


def _record(row: dict[str, Any]) -> Record:
    given = {name: value for name, value in row.items() if value is not None}
    record: Record = msgspec.convert(given, Record)
    return record
