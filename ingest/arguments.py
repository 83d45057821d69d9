"""Command line of ingest, alike for `python -m ingest` and the commands of `moodstream` that read a source."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ingest.sources.live import LIVE


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked of ingest; options as `add_arguments` describes them."""

    source: str
    split: str | None = None
    column_map: Mapping[str, str] = field(default_factory=dict)
    speed: float | None = None
    hosts: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    keep_all: bool = False
    topics: Path | None = None

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Request:
        return cls(
            source=arguments.source,
            split=arguments.split,
            column_map=dict(arguments.column_map),
            speed=arguments.speed,
            hosts=tuple(arguments.hosts),
            channels=tuple(arguments.channels),
            keep_all=arguments.keep_all,
            topics=arguments.topics,
        )

    @property
    def is_live(self) -> bool:
        return self.source in LIVE

    def command_line(self) -> list[str]:
        """The arguments that ask for the same."""
        given = [self.source]
        given += ["--split", self.split] if self.split is not None else []
        given += ["--map", *(f"{name}={column}" for name, column in self.column_map.items())] if self.column_map else []
        given += ["--speed", str(self.speed)] if self.speed is not None else []
        given += [part for host in self.hosts for part in ("--host", host)]
        given += [part for channel in self.channels for part in ("--channel", channel)]
        given += ["--all"] if self.keep_all else []
        given += ["--topics", str(self.topics)] if self.topics is not None else []
        return given


def add_arguments(parser: argparse.ArgumentParser, *, needs_source: bool = True) -> None:
    """SOURCE and the options of a run."""
    parser.add_argument(
        "source",
        nargs=None if needs_source else "?",
        metavar="SOURCE",
        help=f"{', '.join(LIVE)}, sample, or an archive: CSV, TSV, JSON Lines, X API JSON (v2, v1.1), Jetstream and "
        "Mastodon captures, our own; plain, gzip, zstd, bzip2, xz, tar or a folder; MVSA, Memotion and other data sets",
    )
    parser.add_argument("--split", help="only this split of a data set: train, val (or dev, validation) or test")
    add_column_map(parser)
    parser.add_argument(
        "--speed", type=speed_of, default=None, help="'max' (default) or a factor: 60 is 60 x event time"
    )
    add_live_arguments(parser)
    parser.add_argument("--limit", type=number_of_items, help="stop after reading so many items")
    parser.add_argument("--topics", type=Path, help="topics.toml to use instead of MOODSTREAM_TOPICS")
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object, last on stdout")


def add_column_map(parser: argparse.ArgumentParser) -> None:
    """--map, of commands that read CSV, TSV or JSON Lines."""
    parser.add_argument(
        "--map",
        action="extend",
        nargs="+",
        type=column_of,
        default=[],
        dest="column_map",
        metavar="FIELD=COLUMN",
        help="columns of CSV, TSV or JSON Lines, e.g. text=tweet created_at=date label=sentiment author=user.name",
    )


def add_live_arguments(parser: argparse.ArgumentParser) -> None:
    """--host, --channel and --all, of commands that read a live source."""
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        dest="hosts",
        metavar="URL",
        help="of a live source: a server to use instead of the public one; give it again for more",
    )
    parser.add_argument(
        "--channel",
        action="append",
        default=[],
        dest="channels",
        metavar="NAME",
        help="of a live source: what to read there, e.g. hashtag:NAME, r/NAME or a feed's URL; again for more",
    )
    parser.add_argument(
        "--all", action="store_true", dest="keep_all", help="of a live source: also posts that match no topic"
    )


def column_of(text: str) -> tuple[str, str]:
    """`field=column` → pair."""
    field, separator, column = text.partition("=")
    if not separator or not field or not column:
        raise argparse.ArgumentTypeError(f"{text!r} is not FIELD=COLUMN, for example text=tweet")
    return field.strip(), column.strip()


def number_of_items(text: str) -> int:
    """A whole number, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number, 0 or more")
    return int(text)


def speed_of(text: str) -> float | None:
    """`max` → None; a factor above 0 → itself."""
    return None if text == "max" else above_zero(text, "neither 'max' nor a factor above 0")


def above_zero(text: str, otherwise: str = "not a number above 0") -> float:
    """A finite number above 0; `otherwise` is what any other text is."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is {otherwise}")
    return number
