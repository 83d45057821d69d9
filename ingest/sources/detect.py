"""Name or path → source, told by its contents rather than by how the file is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Final

from ingest.authors import AuthorHash
from ingest.errors import BadSource
from ingest.sources.archive import ZSTD_MAGIC, OwnArchive, recorded_files
from ingest.sources.archive_parquet import is_own_parquet
from ingest.sources.csv_archive import CsvArchive
from ingest.sources.items import Source
from ingest.sources.live import LIVE
from ingest.sources.mvsa import LABEL_FILE, MvsaFolder, MvsaParquet
from ingest.sources.sample import SampleFeed

READS: Final = (
    "'sample', a CSV file, an archive (.jsonl.zst, .jsonl or .parquet, or the folder of a recording), an MVSA Parquet "
    f"file, an MVSA folder (with {LABEL_FILE} and data/), or live: {', '.join(LIVE)}"
)


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """What the user may say about a source; an option that does not fit the source is an error.

    split: of a data set; column_map: field → column, of a CSV file; in_time_order: sort CSV rows by event time,
    which a paced replay needs.
    Of live sources: hosts (servers to use instead of the public ones, as URLs), channels (what to read there: a
    hashtag, a subreddit, a feed's URL), cursor (where an earlier run stopped), queries (the topics' queries by name,
    for upstreams that filter), environ (where credentials are looked for).
    """

    authors: AuthorHash
    split: str | None = None
    column_map: Mapping[str, str] = field(default_factory=dict)
    in_time_order: bool = False
    hosts: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    cursor: str | None = None
    queries: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)


def open_source(name_or_path: str, options: SourceOptions) -> Source:
    """Raises BadSource naming what is missing or unknown, and what would do; BadCredentials for a live source."""
    if name_or_path in LIVE:
        _refuse(name_or_path, options, split=True, column_map=True)
        if options.in_time_order:
            raise BadSource(f"--speed: {name_or_path} keeps its own time; leave it out")
        module = import_module(f"ingest.sources.{name_or_path}")  # its clients load only if it is used
        live: Source = getattr(module, f"open_{name_or_path}")(options)
        return live
    _refuse_live(name_or_path, options)
    if name_or_path == "sample":
        _refuse(name_or_path, options, split=True, column_map=True)
        return SampleFeed()
    path = Path(name_or_path)
    if not path.exists():
        raise BadSource(f"there is no source or file {name_or_path!r}; ingest reads {READS}")
    if path.is_dir() and recorded_files(path):
        _refuse(name_or_path, options, split=True, column_map=True)
        return OwnArchive(path)
    if path.is_dir():
        _refuse(name_or_path, options, column_map=True)
        return MvsaFolder(path, split=options.split)
    start = _start(path)
    if start.startswith(b"PAR1") and is_own_parquet(path):
        _refuse(name_or_path, options, split=True, column_map=True)
        return OwnArchive(path)
    if start.startswith(b"PAR1"):
        _refuse(name_or_path, options, column_map=True)
        return MvsaParquet(path, split=options.split)
    if start.startswith(ZSTD_MAGIC) or start.lstrip().startswith(b'{"type":'):
        _refuse(name_or_path, options, split=True, column_map=True)
        return OwnArchive(path)
    if b"\0" in start or start.lstrip()[:1] in (b"{", b"[", b"<", b""):
        raise BadSource(f"{name_or_path} is of no kind known here; ingest reads {READS}")
    _refuse(name_or_path, options, split=True)
    return CsvArchive(path, column_map=options.column_map, authors=options.authors, in_time_order=options.in_time_order)


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(512)
    except OSError as error:
        raise BadSource(f"cannot read {path}: {error.strerror}") from error


def _refuse(name: str, options: SourceOptions, *, split: bool = False, column_map: bool = False) -> None:
    """Raises BadSource if an option is given that this kind of source has no use for."""
    if split and options.split is not None:
        raise BadSource(f"--split {options.split}: {name} has no splits; leave it out")
    if column_map and options.column_map:
        raise BadSource(f"--map: only a CSV file has columns to map, {name} is none; leave it out")


def _refuse_live(name: str, options: SourceOptions) -> None:
    """Raises BadSource if an option is given that only live sources know."""
    for option, given in (("--host", options.hosts), ("--channel", options.channels)):
        if given:
            raise BadSource(f"{option} {given[0]}: only live sources ({', '.join(LIVE)}) have that; leave it out")
