"""Archives that are damaged or were made to do harm: counted or explained, nothing written, memory bounded."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from ingest.errors import BadSource
from ingest.sources.items import Skipped
from ingest.sources.unpacked import DAMAGED, SWELLING
from tests.ingest.made_archives import STATUS, X_V1, X_V2, lines, tar_of
from tests.ingest.test_formats import drafts, open_it, read, told

MIB = 1 << 20
MAX_GROWTH = 100 * MIB
"""More than a 16 MiB line in its buffers, less than anything that grows with the archive."""
READING = """
import asyncio, json, sys
from collections import Counter
from ingest.authors import AuthorHash
from ingest.sources.detect import SourceOptions, open_source
from ingest.sources.items import Draft, Skipped
import pyarrow.parquet

async def read():
    counts, source = Counter(), open_source(sys.argv[1], SourceOptions(authors=AuthorHash(b"key"), column_map=options))
    async for item in source:
        counts[item.reason if isinstance(item, Skipped) else type(item).__name__] += 1
    return counts

def peak():  # not of getrusage: that begins with the peak of the process that started this one
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

options = json.loads(sys.argv[2])
before = peak()
counts = asyncio.run(read())
print(json.dumps([counts, peak() - before]))
"""


def counted(path: Path, **column_map: str) -> dict[str, int]:
    """What comes out of an archive read by a process of its own, whose memory is watched and stays bounded."""
    command = [sys.executable, "-c", READING, str(path), json.dumps(column_map)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    counts, growth = json.loads(done.stdout)
    assert growth < MAX_GROWTH, f"memory grew by {growth // MIB} MiB"
    return dict(counts)


def many(count: int) -> bytes:
    """Lines that do not shrink much."""
    return b"".join(b'{"body": "%s"}\n' % os.urandom(60).hex().encode() for _ in range(count))


@pytest.fixture(autouse=True)
def nothing_else_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The working directory stays as it is, and so does what is above it."""
    inside = tmp_path / "cwd" / "deep"
    inside.mkdir(parents=True)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.chdir(inside)
    before = {path for path in tmp_path.rglob("*") if path.is_relative_to(tmp_path / "cwd")}
    yield
    assert {path for path in tmp_path.rglob("*") if path.is_relative_to(tmp_path / "cwd")} == before


def _zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


@pytest.mark.parametrize("pack", [_zstd, gzip.compress])
def test_a_truncated_stream_gives_what_came_before_and_one_skip(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    packed = pack(many(20_000))
    path = tmp_path / "feed"
    path.write_bytes(packed[: len(packed) // 2])
    counts = counted(path, text="body")
    assert counts.keys() == {"Draft", DAMAGED}
    assert 9_000 < counts["Draft"] < 11_000
    assert counts[DAMAGED] == 1


def test_a_small_truncated_stream_says_so_too(tmp_path: Path) -> None:
    path = tmp_path / "feed"
    path.write_bytes(gzip.compress(X_V1)[:-6])
    assert told(read(path))[-1] == f"!{DAMAGED}"


def test_a_stream_that_is_damaged_from_its_beginning_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "feed"
    path.write_bytes(_zstd(X_V1)[:-6])
    with pytest.raises(BadSource, match=r"feed is damaged from its beginning \(it ends too soon\): get it anew"):
        open_it(path)


def test_a_damaged_byte_ends_the_stream_with_one_skip(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(many(20_000)))
    packed[len(packed) // 2] ^= 0xFF
    path = tmp_path / "feed"
    path.write_bytes(packed)
    counts = counted(path, text="body")
    assert counts[DAMAGED] == 1
    assert counts["Draft"] > 9_000


def test_something_else_after_a_stream_is_told(tmp_path: Path) -> None:
    path = tmp_path / "feed"
    path.write_bytes(gzip.compress(X_V2) + b"and something else")
    items = read(path)
    assert len(drafts(items)) == 3
    assert isinstance(items[-1], Skipped) and items[-1].reason == DAMAGED
    assert items[-1].item == "line 4: something else follows"


def test_frames_of_zstd_that_hold_nothing_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "feed"
    empty = b"\x50\x2a\x4d\x18\x04\0\0\0none"
    path.write_bytes(empty + _zstd(X_V2) + empty)
    assert len(read(path)) == 4 == len(drafts(read(path))) + 1


def test_a_stream_of_events_without_end_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "feed"
    with path.open("wb") as file:
        file.write(b"event: update\n")
        for _ in range(200):
            file.write(b"data: " + b"x" * MIB + b"\n")
        file.write(b"\nevent: update\ndata: " + json.dumps(STATUS).encode() + b"\n\n")
    assert counted(path) == {"malformed status": 1, "Draft": 1}


def test_an_id_or_a_time_of_a_megabyte_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "feed"
    path.write_bytes(lines({"a": "text", "b": "7" * MIB}, {"a": "text", "c": "7" * MIB, "b": "1"}))
    items = read(path, column_map={"text": "a", "id": "b", "created_at": "c"})
    assert told(items) == ["!row whose id is too long", "!row without a readable time"]


def test_mixed_schemas_are_counted_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "feed.jsonl"
    path.write_bytes(X_V2 + lines(STATUS, {"a": 1}, [1, 2]) + b"no JSON\n" + X_V1)
    items = read(path)
    assert len(drafts(items)) == 3
    assert Counter(told(items)[3:]) == {"!message without posts": 6, "!unreadable line": 4}


def test_utf_16_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "feed.csv"
    path.write_bytes("text,mood\nzwölf,pos\n".encode("utf-16"))
    with pytest.raises(BadSource, match="UTF-16 text: turn it into UTF-8 first, for example iconv"):
        open_it(path, column_map={"text": "text"})


def test_latin_1_lines_of_json_are_counted_and_the_rest_read(tmp_path: Path) -> None:
    path = tmp_path / "feed.jsonl"
    path.write_bytes('{"body": "ascii"}\n{"body": "zwölf"}\n{"body": "more"}\n'.encode("latin-1"))
    assert told(read(path, column_map={"text": "body"})) == ["jsonl:feed#1", "!unreadable line", "jsonl:feed#3"]


def test_latin_1_cells_of_csv_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "feed.csv"
    path.write_bytes("text\nzwölf\nplain\n".encode("latin-1"))
    first, second = drafts(read(path, column_map={"text": "text"}))
    assert first.post.text == "zw\ufffdlf"
    assert "letters that are not UTF-8 shown as \ufffd" in first.warnings
    assert "letters that are not UTF-8 shown as \ufffd" not in second.warnings


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_line_of_200_mb_is_read_past(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "feed"
    with path.open("wb") as raw:
        file: Any = raw if pack is bytes else gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1)
        file.write(b'{"body": "before"}\n{"body": "')
        for _ in range(200):
            file.write(b"x" * MIB)
        file.write(b'"}\n{"body": "after"}\n')
        file.close()
    assert counted(path, text="body") == {"Draft": 2, "line too long": 1}


def test_a_file_that_is_one_endless_line_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "feed"
    with path.open("wb") as file:
        file.write(b'{"body": "')
        for _ in range(40):
            file.write(b"x" * MIB)
    with pytest.raises(BadSource, match='of no kind known here, it begins with \'{"body": "xxx'):
        open_it(path, column_map={"text": "body"})


def _gzip_bomb() -> bytes:
    """512 MiB in half a megabyte: a line to be recognised, then one without end."""
    packer = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    parts = [packer.compress(b'{"body": "before"}\n')]
    parts += [packer.compress(b"0" * (16 * MIB)) for _ in range(32)]
    return b"".join([*parts, packer.flush()])


def _zstd_bomb() -> bytes:
    """512 MiB in 50 KB."""
    packer = zstandard.ZstdCompressor(level=3).compressobj()
    parts = [packer.compress(b'{"body": "before"}\n')]
    parts += [packer.compress(b"0" * (16 * MIB)) for _ in range(32)]
    return b"".join([*parts, packer.flush()])


@pytest.mark.parametrize("bomb", [_gzip_bomb, _zstd_bomb])
@pytest.mark.parametrize("is_in_tar", [False, True])
def test_a_zip_bomb_is_left_before_it_swells(bomb: Callable[[], bytes], is_in_tar: bool, tmp_path: Path) -> None:
    path = tmp_path / "feed"
    path.write_bytes(tar_of({"a": bomb(), "b": b'{"body": "next"}\n'}) if is_in_tar else bomb())
    counts = counted(path, text="body")
    assert counts == {"Draft": 2 if is_in_tar else 1, "line too long": 1, SWELLING: 1}


def test_a_bomb_in_a_bomb_is_not_opened(tmp_path: Path) -> None:
    data = X_V2
    for _ in range(5):
        data = gzip.compress(data)
    (tmp_path / "feed").write_bytes(data)
    with pytest.raises(BadSource, match="is empty, or holds nothing that can be read"):
        open_it(tmp_path / "feed")


def test_a_tar_is_never_unpacked_and_its_names_are_no_paths(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ("../outside.jsonl", "/tmp/absolute.jsonl", "inside.jsonl"):
            header = tarfile.TarInfo(name)
            header.size = len(X_V2)
            tar.addfile(header, io.BytesIO(X_V2))
        for name, kind in (
            ("link", tarfile.SYMTYPE),
            ("hard", tarfile.LNKTYPE),
            ("null", tarfile.CHRTYPE),
            ("disk", tarfile.BLKTYPE),
            ("pipe", tarfile.FIFOTYPE),
        ):
            header = tarfile.TarInfo(name)
            header.type, header.linkname = kind, "/etc/passwd"
            tar.addfile(header)
    (tmp_path / "feed").write_bytes(out.getvalue())
    items = read(tmp_path / "feed")
    assert len(drafts(items)) == 9
    odd = [item.item for item in items if isinstance(item, Skipped) and item.reason.startswith("no file")]
    assert odd == ["link", "hard", "null", "disk", "pipe"]


@pytest.mark.parametrize("part", [0.3, 0.5, 0.9])
def test_a_tar_cut_in_the_middle_gives_what_came_before_and_one_skip(part: float, tmp_path: Path) -> None:
    data = tar_of({f"{number}": many(1000) for number in range(10)})
    path = tmp_path / "feed"
    path.write_bytes(data[: int(len(data) * part)])
    counts = counted(path, text="body")
    assert counts.pop(DAMAGED) == 1
    assert counts.keys() == {"Draft"}
    assert abs(counts["Draft"] - 10_000 * part) < 150


def test_a_tar_cut_between_its_members_says_so(tmp_path: Path) -> None:
    data = tar_of({"a": X_V2, "b": X_V2})
    whole_member = 512 + -(-len(X_V2) // 512) * 512
    (tmp_path / "feed").write_bytes(data[:whole_member])
    assert told(read(tmp_path / "feed"))[-1] == f"!{DAMAGED}"


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_cut_never_goes_unsaid(cut: int, tmp_path: Path) -> None:
    """Wherever a compressed tar ends too soon: in a member, between two, or in the blocks that end it."""
    packed = gzip.compress(tar_of({"a": X_V2 + many(20), "b": X_V1}))
    (tmp_path / "feed").write_bytes(packed[: -cut * (len(packed) // 60)])
    assert told(read(tmp_path / "feed")).count(f"!{DAMAGED}") == 1


def test_a_tar_header_that_claims_gigabytes_is_not_believed(tmp_path: Path) -> None:
    good = tar_of({"a": X_V2})[: 512 + -(-len(X_V2) // 512) * 512]
    header = tarfile.TarInfo("long")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 3 << 30
    (tmp_path / "feed").write_bytes(good + header.tobuf(tarfile.GNU_FORMAT) + b"x" * 4096)
    items = read(tmp_path / "feed")
    assert len(drafts(items)) == 3
    assert isinstance(items[-1], Skipped) and items[-1].item == "tar: a header of 3221225472 bytes"


def test_an_empty_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "feed").touch()
    with pytest.raises(BadSource, match="is empty, or holds nothing that can be read"):
        open_it(tmp_path / "feed")


@pytest.mark.parametrize("seed", range(5))
def test_binary_garbage_is_explained(seed: int, tmp_path: Path) -> None:
    state, data = seed + 1, bytearray()
    for _ in range(5000):
        state = state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
        data.append(state >> 56)
    (tmp_path / "feed").write_bytes(data)
    with pytest.raises(BadSource, match="of no kind known here, it begins with"):
        open_it(tmp_path / "feed", column_map={"text": "text"})
