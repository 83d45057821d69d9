"""The folder of a replay: what was asked, how far it came, and how right it was; written by `moodstream replay`.

    <runs>/<namespace>/run.json              this module's `Run`; rewritten atomically as the replay goes
                       parts/                predictions drained so far, while it runs
                       predictions.parquet   all of them, once it is through
                       result.json           every post accounted for
                       topics.toml           what its posts are tagged by
                       store/                the embedded store's file and the logs, while it runs
                       lock, pause           held by the process that replays; there while it is paused
                       judgement.json        what evaluation made of the predictions
                       report.html, .md      the same for people

Free of Streamlit: pages, reports and commands read runs through it.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from inference_worker.contract import check_namespace

RUN_FILE: Final = "run.json"
PREDICTIONS_FILE: Final = "predictions.parquet"
RESULT_FILE: Final = "result.json"
JUDGEMENT_FILE: Final = "judgement.json"
REPORT_FILE: Final = "report.html"
SUMMARY_FILE: Final = "report.md"
PARTS_FOLDER: Final = "parts"
STORE_FOLDER: Final = "store"
TOPICS_FILE: Final = "topics.toml"
LOCK_FILE: Final = "lock"
PAUSE_FILE: Final = "pause"

LOCK_TRIES: Final = 100
LOCK_PAUSE_S: Final = 0.01

Status = Literal["running", "interrupted", "done", "failed"]
Stack = Literal["embedded", "own", "none"]


class UnknownRun(LookupError):
    """There is no such run, or its run.json cannot be read."""


class RunInUse(RuntimeError):
    """Another process replays into this folder."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One replay. Everything a stranger needs to know where its numbers come from.

    archive: as the user named it; archive_sha256: of its bytes (of a folder: of its files' names and hashes);
    format: what the archive was taken for; options: as given on the command line, those that change the outcome;
    variables: those of MOODSTREAM_… that change the outcome; stack: whose Kafka and Redis hold what there is so far,
    none if the model was asked without them (`moodstream evaluate`); model, model_sha256: name and hash of the
    artifact's manifest; versions: of Moodstream, Python and the libraries that matter; read, settled: items read from
    the archive, records accounted for; expected: items in all, if known.
    """

    run: str
    namespace: str
    archive: str
    status: Status
    started_at: datetime
    archive_sha256: str = ""
    format: str = ""
    options: dict[str, Any] = {}
    variables: dict[str, str] = {}
    stack: Stack = "embedded"
    model: str = ""
    model_sha256: str = ""
    versions: dict[str, str] = {}
    processor: str = ""
    finished_at: datetime | None = None
    resumed_at: tuple[datetime, ...] = ()
    read: int = 0
    settled: int = 0
    expected: int | None = None
    error: str = ""


_decoder = msgspec.json.Decoder(Run)


def read_run(folder: Path) -> Run:
    """Raises UnknownRun."""
    path = folder / RUN_FILE
    try:
        return _decoder.decode(path.read_bytes())
    except OSError as error:
        raise UnknownRun(f"{path}: {error.strerror}: name the folder of a replay") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise UnknownRun(f"{path} is no record of a replay: {error}") from error


def write_run(folder: Path, run: Run) -> None:
    """Whole or not at all."""
    unfinished = folder / f"{RUN_FILE}.part"
    unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=2) + b"\n")
    unfinished.replace(folder / RUN_FILE)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes from replaying into the folder, or deleting it, as long as this one lives.

    Raises RunInUse.
    """
    with (folder / LOCK_FILE).open("ab") as file:
        for attempt in range(LOCK_TRIES):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:  # somebody may only be looking, see `is_in_use`
                if attempt + 1 == LOCK_TRIES:
                    raise RunInUse(f"{folder} is in use by a replay that runs: wait for its end, or stop it") from error
                time.sleep(LOCK_PAUSE_S)
        yield


def is_in_use(folder: Path) -> bool:
    """A replay into the folder runs now. Looking keeps nobody from starting one: it shares the lock, for an instant."""
    try:
        with (folder / LOCK_FILE).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def status_of(folder: Path, run: Run) -> Status:
    """As it is now: a killed process leaves a run that says it is running."""
    return "interrupted" if run.status == "running" and not is_in_use(folder) else run.status


def run_folder(runs: Path, namespace: str) -> Path:
    """Raises ValueError for what cannot be a namespace: it must not lead out of the folder of runs."""
    return runs / check_namespace(namespace)


def state_of(folder: Path, run: Run) -> str:
    """The same for people: one that runs may be paused; of another user's, whose lock cannot be read, what it says."""
    try:
        status = status_of(folder, run)
    except OSError:
        return run.status
    return "paused" if status == "running" and (folder / PAUSE_FILE).exists() else status


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One run of a listing. judged_ns: when its judgement was written, 0 without one: a cache's key."""

    folder: Path
    run: Run
    status: str
    judged_ns: int

    @property
    def name(self) -> str:
        """The folder's own: what a link says, and what a command takes."""
        return self.folder.name


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Runs, the newest first; broken: folders whose run.json cannot be read."""

    entries: tuple[Entry, ...]
    broken: int

    def find(self, name: str | None) -> Entry | None:
        return next((entry for entry in self.entries if entry.name == name), None)


def listing(runs: Path, *, limit: int | None = None) -> Listing:
    """What a folder of runs holds now, at most `limit` of them; no folder is no runs."""
    entries, broken = [], 0
    for path in sorted(runs.glob(f"*/{RUN_FILE}")):
        try:
            entries.append(entry_of(path.parent))
        except UnknownRun:
            broken += 1
    entries.sort(key=lambda entry: entry.run.started_at, reverse=True)
    return Listing(entries=tuple(entries[:limit]), broken=broken)


def entry_of(folder: Path) -> Entry:
    """Raises UnknownRun."""
    run = read_run(folder)
    return Entry(folder=folder, run=run, status=state_of(folder, run), judged_ns=changed_ns(folder / JUDGEMENT_FILE))


def changed_ns(path: Path) -> int:
    """When a file was last written; 0 if it is not there."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
