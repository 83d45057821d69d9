"""`moodstream replay`: an archived feed through the whole pipeline, every post accounted for, and how right it was.

Ends by itself; after an interruption, `kill -9` included, `--resume` goes on with it to the same result. Exit code 1 if
posts were lost, 4 if a condition of --fail-under is not met; with --json the last line on stdout is one JSON object,
then too.
"""

from __future__ import annotations

import argparse
import logging
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dashboard.report.words import flag_of
from deploy.archives import checked, ingest_settings_from_env, namespace_of, open_archive
from deploy.arguments import moment, workers
from deploy.beginning import begin, resume
from deploy.conclusion import tell
from deploy.errors import DeployError, Misuse, StackFailed
from deploy.passage import pass_through
from deploy.settings import Settings
from deploy.signals import INTERRUPTED, run_until_signalled
from deploy.undertaking import Undertaking
from deploy.verdict import add_judging, unmet
from ingest.arguments import Request
from ingest.arguments import add_arguments as add_ingest_arguments
from ingest.errors import IngestError

if TYPE_CHECKING:
    from ingest.settings import Settings as IngestSettings

SPEEDS: Final = (1.0, 10_000.0)

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_ingest_arguments(parser, needs_source=False)
    parser.add_argument(
        "--from", type=moment, dest="start", metavar="TIME", help="only what was posted then or later (ISO 8601)"
    )
    parser.add_argument("--to", type=moment, dest="end", metavar="TIME", help="only what was posted before (ISO 8601)")
    parser.add_argument("--namespace", metavar="NS", help="where results go (default: the file's name and the time)")
    parser.add_argument(
        "--report", type=Path, metavar="DIR", help="folder of the replay (default: MOODSTREAM_RUNS/NAMESPACE)"
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep the embedded store's file and the logs in that folder afterwards"
    )
    parser.add_argument("--workers", type=workers, default=1, help="number of worker processes (default: %(default)s)")
    add_judging(parser)
    parser.add_argument(
        "--resume",
        metavar="RUN",
        help="go on with an interrupted replay, named by its folder or namespace, with the options it was begun with",
    )


def run(options: argparse.Namespace) -> int:
    settings, ingest_settings = Settings.from_env(), ingest_settings_from_env()
    with ExitStack() as stack:
        if options.resume is not None:
            _check_alone(options)
            undertaking = resume(options.resume, settings, stack)
        else:
            _check(options, ingest_settings)
            namespace = checked(options.namespace or _new_namespace(Path(options.source)))
            undertaking = begin(options, settings, ingest_settings, namespace, stack)
        with undertaking.room_needed():
            return _run(undertaking, settings, ingest_settings, as_json=options.json)


def _check_alone(options: argparse.Namespace) -> None:
    """Options beside --resume would not be those the replay was begun with."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    plain = vars(parser.parse_args([]))
    given = [name for name, value in vars(options).items() if name in plain and value != plain[name]]
    if others := ["SOURCE" if name == "source" else flag_of(name) for name in given if name not in ("resume", "json")]:
        raise Misuse(f"--resume {options.resume}: it goes on as it was begun: leave out {', '.join(sorted(others))}")


def _check(options: argparse.Namespace, ingest_settings: IngestSettings) -> None:
    """Raises Misuse before anything is made."""
    if options.source is None:
        raise Misuse("replay takes SOURCE, an archive, or --resume RUN")
    open_archive(Request.of(options), ingest_settings)
    if options.speed is not None and not SPEEDS[0] <= options.speed <= SPEEDS[1]:
        raise Misuse(f"--speed {options.speed:g}: use max, or a factor from {SPEEDS[0]:g} to {SPEEDS[1]:g}")
    if options.start is not None and options.end is not None and options.start >= options.end:
        raise Misuse(f"--from {options.start.isoformat()} is not before --to {options.end.isoformat()}")


def _new_namespace(archive: Path) -> str:
    return f"{namespace_of(archive)}-{datetime.now(UTC):%Y%m%dt%H%M%S}"


def _run(undertaking: Undertaking, settings: Settings, ingest_settings: IngestSettings, *, as_json: bool) -> int:
    """Exit code; whatever ends it is noted in the folder, but for a full disk: it can be resumed as it stands."""
    try:
        code = run_until_signalled(
            _replay(undertaking, settings, ingest_settings, as_json=as_json), when_ended=INTERRUPTED
        )
    except (DeployError, IngestError) as error:
        if isinstance(error, StackFailed):
            undertaking.check_room()  # without any, servers and workers only say that they ended
        if isinstance(error, Misuse):  # nothing was begun, so nothing is in the way of the same command
            undertaking.withdraw()
        undertaking.end("failed", error=str(error).partition("\n")[0])
        raise
    if code == INTERRUPTED:
        undertaking.withdraw()
        undertaking.end("interrupted")
        log.info("interrupted: %s", undertaking.remedy)
    elif undertaking.run.status == "done":
        undertaking.clean()
    return code


async def _replay(
    undertaking: Undertaking, settings: Settings, ingest_settings: IngestSettings, *, as_json: bool
) -> int:
    account, result = await pass_through(undertaking, settings, ingest_settings)
    for line in account.left_out():
        log.warning("%s", line)
    tell(result, undertaking.folder, as_json=as_json)
    return 1 if account.lost else unmet(undertaking.folder, undertaking.options.fail_under)
