"""Name or path → source, told by its contents rather than by how the file is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Final

from ingest.authors import AuthorHash
from ingest.errors import BadSource
from ingest.sources import hfm, jetstream_archive, mastodon_archive, target_tweets, x_archive, x_v1_archive
from ingest.sources.archive import OwnArchive, is_own, recorded_files
from ingest.sources.archive_parquet import is_own_parquet
from ingest.sources.csv_archive import CsvArchive
from ingest.sources.data_set import columns_of
from ingest.sources.hfm import HfmFolder
from ingest.sources.items import Source
from ingest.sources.jsonl_archive import jsonl_format
from ingest.sources.line_archive import Fields, Format, LineArchive, looks, objects_in
from ingest.sources.live import LIVE
from ingest.sources.memotion import COLUMNS as MEMOTION_COLUMNS
from ingest.sources.memotion import LABEL_FILE as MEMOTION_LABELS
from ingest.sources.memotion import MemotionFolder, MemotionParquet
from ingest.sources.mvsa import COLUMNS as MVSA_COLUMNS
from ingest.sources.mvsa import LABEL_FILE as MVSA_LABELS
from ingest.sources.mvsa import MvsaFolder, MvsaParquet
from ingest.sources.opened import Member, described, members
from ingest.sources.sample import SampleFeed
from ingest.sources.target_tweets import TargetTweets
from ingest.sources.tweet_sentiment import COLUMNS as TWEET_COLUMNS
from ingest.sources.tweet_sentiment import TweetSentiment

FORMATS: Final = (
    x_archive.FORMAT,
    x_v1_archive.FORMAT,
    *jetstream_archive.FORMATS,
    *mastodon_archive.FORMATS,
)
MEMBERS_TRIED: Final = 100
"""Files of a folder or tar looked at for one of a known kind; what comes before it is counted when it is read."""
READS: Final = (
    "'sample'; CSV, TSV and JSON Lines (with --map), X API v2 and v1.1 JSON, Jetstream and Mastodon captures, our own "
    "archives, each plain, gzip, zstd, bzip2, xz, in a tar or a folder; our own archive, MVSA, Memotion and tweet "
    "sentiment as Parquet; folders of MVSA, Memotion, Twitter-15/17, HFM and of a recording; or live: "
    f"{', '.join(LIVE)}"
)
_CONTROL: Final = bytes(sorted(set(range(32)) - set(b"\t\n\r\f\x1b")))


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """What the user may say about a source; an option that does not fit the source is an error.

    split: of a data set; column_map: field → column, of a CSV, TSV or JSON Lines file; in_time_order: sort the rows of
    a plain CSV file by event time; other archives are written in time order, more or less, and keep their own.
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
    if path.is_dir() and (folder := _data_set_folder(path, options)) is not None:
        return folder
    if path.is_file() and _start(path) == b"PAR1":
        return _parquet(path, options)
    return _lines(path, options)


def _data_set_folder(path: Path, options: SourceOptions) -> Source | None:
    """A folder whose files belong together; None for one of files that stand for themselves."""
    name, split = str(path), options.split
    if recorded_files(path):
        _refuse(name, options, split=True, column_map=True)
        return OwnArchive(path, form="Moodstream archive, recorded")
    if (path / MVSA_LABELS).is_file():
        _refuse(name, options, column_map=True)
        return MvsaFolder(path, split=split)
    if (path / MEMOTION_LABELS).is_file() and (path / "images").is_dir():
        _refuse(name, options, column_map=True)
        return MemotionFolder(path, split=split)
    if hfm.is_folder(path):
        _refuse(name, options, column_map=True)
        return HfmFolder(path, split=split)
    if target_tweets.is_folder(path) and not options.column_map:
        return TargetTweets(path, split=split)
    return None


def _parquet(path: Path, options: SourceOptions) -> Source:
    if is_own_parquet(path):
        _refuse(str(path), options, split=True, column_map=True)
        return OwnArchive(path, form="Moodstream archive, Parquet")
    _refuse(str(path), options, column_map=True)
    columns = columns_of(path)
    if columns >= MEMOTION_COLUMNS:
        return MemotionParquet(path, split=options.split)
    if columns >= MVSA_COLUMNS:
        return MvsaParquet(path, split=options.split)
    if columns >= TWEET_COLUMNS:
        return TweetSentiment(path, split=options.split)
    raise BadSource(
        f"{path} is a Parquet file of an unknown layout, with the columns {', '.join(sorted(columns)) or 'none'}: "
        f"write it as CSV and use --map; Parquet known here is our own, MVSA, Memotion and tweet sentiment"
    )


def _lines(path: Path, options: SourceOptions) -> Source:
    """By the first file of a known kind."""
    _refuse(str(path), options, split=True)
    first = None
    for found in islice(members(path), MEMBERS_TRIED):
        if not isinstance(found, Member):
            continue
        source = _of_member(path, found, options)
        if source is not None:
            return source
        if first is None or (found.beginning and not first.beginning):
            first = found
    raise BadSource(_unknown(path, first))


def _of_member(path: Path, member: Member, options: SourceOptions) -> Source | None:
    beginning, authors = member.beginning, options.authors
    objects = objects_in(beginning)
    if any(map(is_own, objects)):
        _refuse(str(path), options, column_map=True)
        return OwnArchive(path, form=described("Moodstream archive", member, path))
    if objects and options.column_map:
        return LineArchive(path, jsonl_format(path, beginning, options.column_map), member, authors=authors)
    form = _format_of(beginning, objects)
    if form is not None:
        _refuse(str(path), options, column_map=True)
        return LineArchive(path, form, member, authors=authors)
    if objects:
        return None
    if not _is_table(beginning) or (_is_inside(path, member) and not _fits(path, member, options)):
        return None
    return CsvArchive(
        path, column_map=options.column_map, authors=authors, in_time_order=options.in_time_order, member=member
    )


def _format_of(beginning: bytes, objects: list[Fields]) -> Format | None:
    """The format of the first line that is of any."""
    for form in FORMATS:
        if form.begins(beginning):
            return form
    return next((form for fields in objects for form in FORMATS if form.recognises(fields)), None)


def _is_table(beginning: bytes) -> bool:
    start = beginning[:4096].removeprefix(b"\xef\xbb\xbf")
    is_text = len(start.translate(None, _CONTROL)) == len(start) and not start.startswith((b"\xff\xfe", b"\xfe\xff"))
    return is_text and start.lstrip()[:1] not in (b"{", b"[", b"<", b"")


def _is_inside(path: Path, member: Member) -> bool:
    return path.is_dir() or "tar" in member.packed


def _fits(path: Path, member: Member, options: SourceOptions) -> bool:
    """A README among the files is no table."""
    try:
        CsvArchive(path, column_map=options.column_map, authors=options.authors, member=member)
    except BadSource:
        return False
    return True


def _unknown(path: Path, member: Member | None) -> str:
    if member is not None and not member.beginning and (trouble := member.trouble()) is not None:
        return f"{path} is damaged from its beginning ({trouble.item}): get it anew"
    if member is None or not member.beginning:
        return f"{path} is empty, or holds nothing that can be read; ingest reads {READS}"
    name = f"{path} ({member.name})" if member.name else str(path)
    beginning = member.beginning
    if beginning.startswith((b"\xff\xfe", b"\xfe\xff")) or beginning[1:8:2] in (b"\0\0\0\0", b"\0\0\0"):
        return f"{name} is UTF-16 text: turn it into UTF-8 first, for example iconv -f UTF-16 -t UTF-8 FILE > NEW"
    if beginning.startswith(b"PK\x03\x04"):
        return f"{name} is a ZIP file: unpack it first, and name the folder"
    if beginning.lstrip().startswith(b"["):
        return f"{name} is a JSON array: one object a line is read, for example from jq -c '.[]' FILE > NEW.jsonl"
    if objects := objects_in(beginning):
        fields = ", ".join(repr(field[:80]) for field in list(objects[0])[:50]) or "none"
        return (
            f"{name} is JSON Lines of an unknown layout: say which field holds what, for example "
            f"--map text=FIELD created_at=FIELD author=user.name; its fields are {fields}"
        )
    return f"{name} is of no kind known here, it begins with {looks(beginning)}; ingest reads {READS}"


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4)
    except OSError as error:
        raise BadSource(f"cannot read {path}: {error.strerror}") from error


def _refuse(name: str, options: SourceOptions, *, split: bool = False, column_map: bool = False) -> None:
    """Raises BadSource if an option is given that this kind of source has no use for."""
    if split and options.split is not None:
        raise BadSource(f"--split {options.split}: {name} has no splits; leave it out")
    if column_map and options.column_map:
        raise BadSource(
            f"--map: only CSV, TSV and JSON Lines have columns to map, {name} is none of them; leave it out"
        )


def _refuse_live(name: str, options: SourceOptions) -> None:
    """Raises BadSource if an option is given that only live sources know."""
    for option, given in (("--host", options.hosts), ("--channel", options.channels)):
        if given:
            raise BadSource(f"{option} {given[0]}: only live sources ({', '.join(LIVE)}) have that; leave it out")
