"""`moodstream runs`: the replays there are, one of them, pausing and going on, two compared, and one removed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from dashboard.runs import PAUSE_FILE, RESULT_FILE, Entry, UnknownRun, entry_of, is_in_use, listing
from deploy.beginning import folder_of
from deploy.comparing import compare_two
from deploy.deletion import KEYS_AT_ONCE, delete
from deploy.errors import Misuse
from deploy.own_redis import own_redis
from deploy.printing import print_done, print_json, print_line
from deploy.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    listed = actions.add_parser("list", help="those in MOODSTREAM_RUNS, and in the Redis of MOODSTREAM_REDIS")
    listed.set_defaults(act=list_all)
    for name, act, summary in (
        ("show", show, "what was asked, how far it came, how right it was"),
        ("delete", delete, "its folder, and its keys, topics and consumer group where Redis and Kafka answer"),
        ("pause", pause, "until `runs resume`; what was read before is still scored"),
        ("resume", go_on, "the opposite of pause (an interrupted replay goes on with `replay --resume`)"),
    ):
        action = actions.add_parser(name, help=summary)
        action.add_argument("run_name", metavar="RUN", help="namespace or folder of a replay")
        action.set_defaults(act=act)
        if name == "delete":
            action.add_argument("--yes", action="store_true", help="do not ask")
    comparing = actions.add_parser("compare", help="two replays of one labelled archive: which is right more often")
    comparing.add_argument("first", metavar="RUN", help="namespace or folder of a replay")
    comparing.add_argument("second", metavar="RUN", help="the other one")
    comparing.set_defaults(act=compare_two)
    for action in actions.choices.values():
        action.add_argument("--json", action="store_true", help="one JSON object, last on stdout")


def run(options: argparse.Namespace) -> int:
    try:
        return int(options.act(options, Settings.from_env()))
    except UnknownRun as error:
        raise Misuse(f"{error}; if nothing in that folder is worth keeping, delete it") from error


def list_all(options: argparse.Namespace, settings: Settings) -> int:
    found = listing(settings.runs)
    rows = [_row(entry) for entry in found.entries]
    known = {row["namespace"] for row in rows}
    rows += [row for row in _rows_in_redis(settings) if row["namespace"] not in known]
    if options.json:
        print_json({"runs": rows, "broken": found.broken})
        return 0
    for row in rows:
        print_line(f"{row['name']:32} {row['status']:12} {row['started_at'] or '':19.19} {row['settled']:>9} posts")
    if not rows:
        print_line(f"no replays in {settings.runs}")
    if found.broken:
        print_line(f"passed over, as run.json cannot be read: {found.broken} in {settings.runs}")
    return 0


def show(options: argparse.Namespace, settings: Settings) -> int:
    folder = folder_of(options.run_name, settings)
    entry = entry_of(folder)
    run = entry.run
    shown = {**_row(entry), "run": msgspec.to_builtins(run), "result": _result(folder)}
    if options.json:
        print_json(shown)
        return 0
    print_line(f"{run.namespace}: {entry.status}, {run.archive}, {run.settled} posts accounted for, in {folder}")
    for name, value in shown["run"].items():
        if value not in ("", [], {}, None):
            print_line(f"  {name:24}{value}")
    for name, value in (shown["result"] or {}).items():
        if isinstance(value, int | float | str):
            print_line(f"  {name:24}{value}")
    return 0


def pause(options: argparse.Namespace, settings: Settings) -> int:
    folder = folder_of(options.run_name, settings)
    if not is_in_use(folder):
        raise Misuse(f"no replay runs in {folder}: there is nothing to pause")
    try:
        (folder / PAUSE_FILE).touch()
    except OSError as error:
        raise Misuse(f"{folder} cannot be paused ({error.strerror}): a file is made there for it") from error
    return print_done(options, f"{folder} is paused: `moodstream runs resume {options.run_name}` lets it go on")


def go_on(options: argparse.Namespace, settings: Settings) -> int:
    folder = folder_of(options.run_name, settings)
    if not (folder / PAUSE_FILE).exists():
        raise Misuse(f"{folder} is not paused; an interrupted one goes on with `moodstream replay --resume {folder}`")
    (folder / PAUSE_FILE).unlink()
    return print_done(options, f"{folder} goes on")


def _rows_in_redis(settings: Settings) -> Iterator[dict[str, Any]]:
    """Replays of the user's Redis, whether they have a folder here or not."""
    from inference_worker.contract import Results

    with own_redis(settings) as redis:
        if redis is None:
            return
        for key in sorted(redis.scan_iter(match="{*}:meta", count=KEYS_AT_ONCE)):
            namespace = key.decode().partition("}")[0][1:]
            results = Results(redis, namespace)
            meta = results.meta()
            if meta.kind == "replay":
                yield {
                    "name": namespace,
                    "namespace": namespace,
                    "status": "in Redis",
                    "archive": meta.source,
                    "started_at": meta.created_at.isoformat() if meta.created_at else None,
                    "settled": results.counters().get("scored", 0),
                    "folder": None,
                }


def _row(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "namespace": entry.run.namespace,
        "status": entry.status,
        "archive": entry.run.archive,
        "started_at": entry.run.started_at.isoformat(),
        "settled": entry.run.settled,
        "folder": str(entry.folder),
    }


def _result(folder: Path) -> dict[str, Any] | None:
    path = folder / RESULT_FILE
    return msgspec.json.decode(path.read_bytes()) if path.is_file() else None
