"""How many items an archive has, as far as that can be told before it is read."""

from __future__ import annotations

import asyncio
import gzip
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deploy.archives import items_in, open_archive
from ingest.arguments import Request
from ingest.contract import Post
from ingest.errors import BadSource
from ingest.settings import Settings
from ingest.sources.archive import write_archive
from ingest.sources.archive_parquet import write_parquet
from ingest.sources.items import Counted

QUOTED = 'id,words\n1,"two\nlines"\n2,plain\n\n3,"a ""quote"" and\n\nmore"\n4,a stray " quote\n5\n'
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def asked(path: Path, split: str | None = None, **columns: str) -> Request:
    return Request(source=str(path), split=split, column_map=columns)


def read(request: Request) -> int:
    """Items that come out of it, those skipped included."""

    async def count() -> int:
        return sum([1 async for _ in open_archive(request, Settings()).source])

    return asyncio.run(count())


def table_file(folder: Path, ending: str = "\n") -> Request:
    path = folder / "feed.csv"
    path.write_text(QUOTED.removesuffix("\n") + ending)
    return asked(path, text="words")


@pytest.mark.parametrize("ending", ["\n", ""])
def test_rows_of_quoted_lines_count_once(tmp_path: Path, ending: str) -> None:
    request = table_file(tmp_path, ending)
    assert items_in(request, Settings(), None) == read(request) == 5
    assert items_in(request, Settings(), 3) == 3
    assert items_in(request, Settings(), 30) == 5


def test_only_the_split_asked_for_counts(tmp_path: Path) -> None:
    path = tmp_path / "set.parquet"
    rows = [
        {"id": str(n), "split": ("train", "test", "val")[n % 3], "text": "x", "label": "neutral"} for n in range(10)
    ]
    pq.write_table(pa.Table.from_pylist([{**row, "created_at_ms": 1} for row in rows]), path, row_group_size=4)
    for split, expected in ((None, 10), ("train", 4), ("validation", 3)):
        request = asked(path, split)
        assert items_in(request, Settings(), None) == read(request) == expected


def test_lines_of_mapped_json_count_and_blank_ones_do_not(tmp_path: Path) -> None:
    path = tmp_path / "feed.jsonl"
    path.write_text('{"words": "a"}\n\n{"words": "b"}\nno json\n{"other": 1}')
    request = asked(path, text="words")
    assert items_in(request, Settings(), None) == read(request) == 4


def test_our_own_archive_tells_as_parquet_alone(tmp_path: Path) -> None:
    posts = [Post(id=f"a:{n}", source="a", created_at=NOON, ingested_at=NOON, text="x") for n in range(3)]
    write_parquet(tmp_path / "own.parquet", posts)
    write_archive(tmp_path / "own.jsonl.zst", posts)
    assert items_in(asked(tmp_path / "own.parquet"), Settings(), None) == 3
    assert items_in(asked(tmp_path / "own.jsonl.zst"), Settings(), None) is None


def test_what_is_packed_or_a_folder_has_to_be_read_to_be_counted(tmp_path: Path) -> None:
    table_file(tmp_path)
    packed = tmp_path / "feed.csv.gz"
    packed.write_bytes(gzip.compress(QUOTED.encode()))
    assert items_in(asked(packed, text="words"), Settings(), None) is None
    assert items_in(asked(packed, text="words"), Settings(), 7) == 7
    packed.unlink()
    assert items_in(asked(tmp_path, text="words"), Settings(), None) is None


def test_a_data_set_damaged_since_it_was_opened_is_told(tmp_path: Path) -> None:
    path = tmp_path / "set.parquet"
    rows = [{"id": str(n), "split": "test", "text": "x", "label": "neutral", "created_at_ms": 1} for n in range(10)]
    pq.write_table(pa.Table.from_pylist(rows), path)
    source = open_archive(asked(path), Settings()).source
    path.write_bytes(b"PAR1 and no more")
    assert isinstance(source, Counted)
    with pytest.raises(BadSource, match="cannot read .*set.parquet as Parquet"):
        source.count()
