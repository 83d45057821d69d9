"""Command line of ingest, alike for `python -m ingest` and `moodstream ingest`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SOURCE and the options of a run."""
    parser.add_argument("source", metavar="SOURCE", help="'sample', or a CSV, archive, MVSA Parquet file or folder")
    parser.add_argument("--split", help="only this split of a data set: train, val or test")
    parser.add_argument(
        "--map",
        action="extend",
        nargs="+",
        type=column_of,
        default=[],
        dest="column_map",
        metavar="FIELD=COLUMN",
        help="columns of a CSV file, e.g. text=tweet created_at=date label=sentiment",
    )
    parser.add_argument(
        "--speed", type=speed_of, default=None, help="'max' (default) or a factor: 60 is 60 x event time"
    )
    parser.add_argument("--limit", type=int, help="stop after reading so many items")
    parser.add_argument("--topics", type=Path, help="topics.toml to use instead of MOODSTREAM_TOPICS")
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object, last on stdout")


def column_of(text: str) -> tuple[str, str]:
    """`field=column` → pair."""
    field, separator, column = text.partition("=")
    if not separator or not field or not column:
        raise argparse.ArgumentTypeError(f"{text!r} is not FIELD=COLUMN, for example text=tweet")
    return field.strip(), column.strip()


def speed_of(text: str) -> float | None:
    """`max` → None; a factor above 0 → itself."""
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither 'max' nor a factor above 0")
    return speed
