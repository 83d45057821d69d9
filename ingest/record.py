"""`moodstream record SOURCE --out DIR`: any source into an archive of ours, so that today's feed can be replayed.

Topics, pictures and cursors are as for `moodstream ingest`. What its authors delete is left out of replays at once and
erased from the files within half an hour, and when the recording stops; `--compact` does that for a folder at rest.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from zlib import crc32

import msgspec

from ingest import arguments as ingest_arguments
from ingest.arguments import Request, above_zero
from ingest.errors import ArchiveUnwritable, BadSource, IngestError, Misuse
from ingest.opening import open_asked
from ingest.recording.files import JSONL, PARQUET, ClosedFiles, Contents, locked
from ingest.recording.recorder import Recorder, Rotation
from ingest.recording.tombstones import Tombstones
from ingest.report import IngestReport
from ingest.service import run as run_ingest
from ingest.settings import Settings
from ingest.sources.archive import recorded_files

SUFFIXES: Final = {"jsonl": JSONL, "parquet": PARQUET}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    ingest_arguments.add_arguments(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to record to")
    parser.add_argument(
        "--format", choices=SUFFIXES, help="of the files once closed: jsonl (.jsonl.zst, default) or parquet"
    )
    parser.add_argument("--rotate-mb", type=above_zero, default=256, metavar="MB", help="close a file at this size")
    parser.add_argument(
        "--rotate-minutes", type=above_zero, default=60, metavar="MINUTES", help="close a file after this time"
    )
    parser.add_argument(
        "--keep-days", type=above_zero, metavar="DAYS", help="remove files older than this (default: never)"
    )
    parser.add_argument(
        "--compact", action="store_true", help="SOURCE is a folder recorded to: erase what was deleted since, and end"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 the source or the folder is out of reach, 2 misuse."""
    parser = argparse.ArgumentParser(prog="moodstream record", description=__doc__.partition("\n")[0])
    add_arguments(parser)
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs the URL of each request, with what is in its query
    try:
        answer = _compact(options) if options.compact else _record(options)
    except IngestError as error:
        print(f"record: {error}", file=sys.stderr)  # noqa: T201  # the one line a user sees
        return 2 if isinstance(error, Misuse) else 1
    if options.json:
        print(json.dumps(answer))  # noqa: T201  # the answer asked for
    else:
        logging.getLogger("ingest").info("done: %s", json.dumps(answer))
    return 0


def _record(options: argparse.Namespace) -> dict[str, object]:
    if options.out is None:
        raise BadSource("record needs --out DIR, the folder to record to")
    settings = Settings.from_env()
    # The name of the cursor file: a recording goes on where it stopped itself, not where another or ingest did.
    name = f"record-{crc32(str(options.out.resolve()).encode()):08x}"
    settings = replace(settings, namespace=name, keep_all=settings.keep_all or options.keep_all)
    asked = open_asked(Request.of(options), settings)
    recorder = Recorder(
        options.out,
        Rotation(
            suffix=SUFFIXES.get(options.format),
            max_bytes=int(options.rotate_mb * (1 << 20)),
            max_age=timedelta(minutes=options.rotate_minutes),
            keep=_keep(options),
        ),
    )
    report: IngestReport = asyncio.run(
        run_ingest(
            asked.source,
            settings,
            topics=asked.topics.topics,
            topics_file=asked.topics,
            speed=options.speed,
            limit=options.limit,
            sink=recorder,
        )
    )
    return {**msgspec.to_builtins(report), "folder": str(options.out), "erased": recorder.compacted.erased}


def _compact(options: argparse.Namespace) -> dict[str, object]:
    folder = Path(options.source)
    files = recorded_files(folder)
    if not files:
        raise BadSource(f"{folder} is no folder with files of `moodstream record`; name the one given to --out")
    done = compact(folder, suffix=SUFFIXES.get(options.format), keep=_keep(options))
    return {"folder": str(folder), "files": len(recorded_files(folder)), "erased": done.erased}


def compact(folder: Path, *, suffix: str | None = None, keep: timedelta | None = None) -> Contents:
    """Erases what was deleted from a folder nobody records to.

    suffix: to give its files another format; keep: older files go. Raises ArchiveUnwritable.
    """
    with locked(folder):
        try:
            tombstones = Tombstones(folder)
            files = ClosedFiles(folder, suffix=suffix)
            done = files.tidy(tombstones, tombstones.pending())
            if keep is not None:
                files.drop_before(datetime.now(UTC) - keep)
        except OSError as error:
            raise ArchiveUnwritable(folder, error) from error
    return done


def _keep(options: argparse.Namespace) -> timedelta | None:
    return timedelta(days=options.keep_days) if options.keep_days is not None else None


if __name__ == "__main__":
    sys.exit(main())
