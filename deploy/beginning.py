"""A replay begun, or found again after an interruption with the very options it was started with."""

from __future__ import annotations

import argparse
import shutil
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import msgspec

from dashboard.runs import (
    LOCK_FILE,
    RUN_FILE,
    STORE_FOLDER,
    TOPICS_FILE,
    Run,
    RunInUse,
    UnknownRun,
    locked,
    read_run,
    run_folder,
)
from deploy.archives import checked, items_in
from deploy.errors import Misuse
from deploy.provenance import model_of, processor, sha256_of, versions
from deploy.settings import Settings
from deploy.undertaking import Undertaking
from ingest.arguments import Request

if TYPE_CHECKING:
    from ingest.settings import Settings as IngestSettings

NOT_KEPT: Final = ("run", "name", "json", "resume", "report", "namespace")
"""Options that are not the replay's own, or stand in its folder anyway."""
TIMES: Final = ("start", "end")


def begin(
    options: argparse.Namespace,
    settings: Settings,
    ingest_settings: IngestSettings,
    namespace: str,
    stack: ExitStack,
    *,
    needs_servers: bool = True,
) -> Undertaking:
    """Makes the folder and locks it until `stack` is closed. Raises Misuse if it holds a replay already.

    To be started once its servers are there.
    needs_servers: Kafka and Redis take part; what needs none cannot be gone on with.
    """
    folder: Path = options.report or run_folder(settings.runs, checked(namespace))
    is_new = not folder.exists()
    _make(folder, is_chosen=options.report is not None)
    _lock(folder, stack)
    _check_free(folder, namespace, is_chosen=options.report is not None)
    archive = Path(options.source).absolute()
    model = model_of(settings.outcome)
    topics = options.topics or ingest_settings.topics_of("replay")
    is_own_topics = needs_servers and topics != type(ingest_settings).topics_path
    run = Run(
        run=f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid4().hex[:8]}",
        namespace=namespace,
        archive=options.source,
        status="running",
        started_at=datetime.now(UTC),
        archive_sha256=_hash(archive),
        options=_plain(options) | {"source": str(archive), "topics": str(topics) if is_own_topics else None},
        variables={**settings.outcome, "MOODSTREAM_PARTITIONS": str(ingest_settings.partitions)},
        stack="none" if not needs_servers else "own" if settings.redis else "embedded",
        model=model.folder,
        model_sha256=model.sha256,
        versions=versions(),
        processor=processor(),
        expected=items_in(Request.of(options), ingest_settings, options.limit),
    )
    return Undertaking(folder=folder, options=_options_of(run, folder), run=run, topics=topics, is_new=is_new)


def resume(asked: str, settings: Settings, stack: ExitStack) -> Undertaking:
    """The replay in a folder, or of a namespace, to be gone on with; its folder is locked until `stack` is closed.

    Raises Misuse if there is none, if it is finished or in use, or if archive, model or servers are not what they were.
    """
    folder = folder_of(asked, settings)
    _lock(folder, stack)
    try:
        run = read_run(folder)
    except UnknownRun as error:
        raise Misuse(str(error)) from error
    if run.status == "done":
        raise Misuse(f"--resume {asked}: that replay was finished at {run.finished_at:%Y-%m-%d %H:%M} UTC: replay anew")
    if run.stack == "none":
        raise Misuse(f"--resume {asked}: that is an evaluation: run `moodstream evaluate` again")
    archive = Path(run.options["source"])
    if not archive.exists():
        raise Misuse(f"--resume {asked}: its archive {archive} is gone: put it back, or replay anew")
    if _hash(archive) != run.archive_sha256:
        raise Misuse(f"--resume {asked}: {archive} has changed since it was begun: put it back, or replay anew")
    if (run.stack == "own") != bool(settings.redis):
        remedy = "unset MOODSTREAM_REDIS" if run.stack == "embedded" else "let MOODSTREAM_REDIS name it again"
        raise Misuse(f"--resume {asked}: it was begun on {_servers(run)}: {remedy}")
    if run.model_sha256 and model_of(run.variables).sha256 != run.model_sha256:
        raise Misuse(f"--resume {asked}: the model is not the one it was begun with: put it back, or replay anew")
    run = msgspec.structs.replace(
        run, status="running", error="", finished_at=None, resumed_at=(*run.resumed_at, datetime.now(UTC))
    )
    return Undertaking(folder=folder, options=_options_of(run, folder), run=run)


def folder_of(asked: str, settings: Settings) -> Path:
    """The folder itself, or that of the namespace. Raises Misuse if there is no run in it."""
    folder = Path(asked)
    if not (folder / RUN_FILE).is_file():
        with suppress(ValueError):
            folder = run_folder(settings.runs, asked)
    if not (folder / RUN_FILE).is_file():
        raise Misuse(f"no replay in {asked!r}, nor one of that name in {settings.runs}: see `moodstream runs list`")
    return folder


def _make(folder: Path, *, is_chosen: bool) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LOCK_FILE).touch()
    except OSError as error:
        option = f"--report {folder}" if is_chosen else f"MOODSTREAM_RUNS: {folder}"
        raise Misuse(f"{option}: {error.strerror}: name a folder that can be written to") from error


def _lock(folder: Path, stack: ExitStack) -> None:
    try:
        stack.enter_context(locked(folder))
    except RunInUse as error:
        raise Misuse(str(error)) from error


def _hash(archive: Path) -> str:
    """Raises Misuse if it cannot be read to its end."""
    try:
        return sha256_of(archive)
    except OSError as error:
        name = error.filename or archive
        raise Misuse(f"{name}: {error.strerror}: make it readable; if it is being recorded, end that first") from error


def _check_free(folder: Path, namespace: str, *, is_chosen: bool) -> None:
    """What is finished, or cannot be gone on with, will be replaced, but only in a folder that was named."""
    if not (folder / RUN_FILE).is_file():
        return
    try:
        run = read_run(folder)
    except UnknownRun as error:
        raise Misuse(f"{error}; or name another folder with --report") from error
    if run.status != "done" and run.stack != "none":
        raise Misuse(f"{folder} holds a replay that is not finished: --resume {folder}, or delete the folder")
    if not is_chosen:
        raise Misuse(
            f"there is a replay {namespace!r} already: `moodstream runs delete {namespace}`, or another --namespace"
        )
    shutil.rmtree(folder / STORE_FOLDER, ignore_errors=True)  # the servers that will be asked have theirs there


def _plain(options: argparse.Namespace) -> dict[str, Any]:
    """As JSON holds them."""
    kept = {name: value for name, value in vars(options).items() if name not in NOT_KEPT}
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(kept, enc_hook=str))
    return plain


def _options_of(run: Run, folder: Path) -> argparse.Namespace:
    """As they were given; the topics are those of the beginning."""
    options = argparse.Namespace(**run.options)
    for name in TIMES:
        if (text := getattr(options, name)) is not None:
            setattr(options, name, datetime.fromisoformat(text))
    options.topics = folder / TOPICS_FILE
    return options


def _servers(run: Run) -> str:
    return "a Redis of yours" if run.stack == "own" else "its embedded store"
