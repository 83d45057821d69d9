"""`moodstream dead-letters`: the records no worker could score: list them, show one, send some again, drop some.

They are those of MOODSTREAM_NAMESPACE (or --namespace), in the Redis and the Kafka the worker uses.
"""

from __future__ import annotations

import argparse
import asyncio
import re
from collections.abc import Coroutine, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from deploy.archives import checked
from deploy.arguments import limit
from deploy.asking import confirm
from deploy.errors import Misuse, StackFailed
from deploy.own_redis import own_redis
from deploy.printing import print_json, print_line, shown
from deploy.settings import Settings
from ingest.kafka_access import refused_by, why_refused

if TYPE_CHECKING:
    from inference_worker.contract import DeadLetter, Results
    from inference_worker.dead_letters import Letter
    from inference_worker.settings import Settings as WorkerSettings

T = TypeVar("T")
PLACE: Final = re.compile(r"\d{1,9}:\d{1,18}:\d{1,18}")
SHOWN: Final = 4000
"""Characters of a value shown to people."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    for name, act, summary in (
        ("list", list_all, "the newest first: place, when, post, who gave it up, reason"),
        ("show", show, "one of them whole, with its record as Kafka has it"),
        ("retry", retry, "send them to the workers again; each is counted once, as what becomes of it in the end"),
        ("drop", drop, "take them off the list for good"),
    ):
        action = actions.add_parser(name, help=summary)
        action.set_defaults(act=act)
        action.add_argument("--namespace", metavar="NS", help="instead of MOODSTREAM_NAMESPACE")
        action.add_argument("--json", action="store_true", help="one JSON object, last on stdout")
        if name == "show":
            action.add_argument("places", nargs=1, metavar="PLACE", help="partition:offset:timestamp, as listed")
            continue
        action.add_argument("--id", metavar="POST", help="those of one post")
        action.add_argument("--reason", metavar="TEXT", help="those with this in their reason, in any case")
        if name == "list":
            action.add_argument("--limit", type=limit, default=100, help="so many at most (default: %(default)s)")
            continue
        action.add_argument("places", nargs="*", metavar="PLACE", help="partition:offset:timestamp, as listed")
        action.add_argument("--all", action="store_true", help="all there are")
        if name == "drop":
            action.add_argument("--yes", action="store_true", help="do not ask")


def run(options: argparse.Namespace) -> int:
    from inference_worker.contract import Results, UnknownNamespace
    from inference_worker.settings import Settings as WorkerSettings

    try:
        worker = WorkerSettings.from_env()
    except ValueError as error:
        raise Misuse(str(error)) from error
    namespace = checked(options.namespace) if options.namespace else worker.namespace
    for place in getattr(options, "places", ()):
        if not PLACE.fullmatch(place):
            raise Misuse(
                f"{place!r} is no place: use partition:offset:timestamp as `moodstream dead-letters list` has it"
            )
    try:
        with own_redis(replace(Settings.from_env(), redis=worker.redis)) as redis:
            results = Results(redis, namespace)
            if results.meta().kind == "replay":  # keeps all
                worker = replace(worker, post_retention_s=0, rollup_retention_s=0)
            return int(options.act(options, results, worker))
    except UnknownNamespace as error:
        raise Misuse(str(error)) from error


def list_all(options: argparse.Namespace, results: Results, _: WorkerSettings) -> int:
    found = _matching(options, results.dead_letters_by_place())
    listed = list(found.items())[: options.limit]
    if options.json:
        rows = [_row(place, letter) for place, letter in listed]
        print_json({"namespace": results.namespace, "total": len(found), "letters": rows})
        return 0
    for place, letter in listed:
        again = f"sent again {letter.retried_at:%Y-%m-%d %H:%M:%S}, " if letter.retried_at else ""
        who = "/".join(filter(None, (letter.engine, letter.worker))) or "-"
        print_line(
            f"{place}  {letter.failed_at:%Y-%m-%d %H:%M:%S}  {shown(letter.key or '-')}  {shown(who)}  "
            f"{again}{shown(letter.error)}"
        )
    if len(found) > len(listed):
        print_line(f"{len(listed)} of {len(found)} dead letters of {results.namespace}: --limit shows more")
    elif not found:
        print_line(f"no dead letters in {results.namespace}" + (" like that" if options.id or options.reason else ""))
    return 0


def show(options: argparse.Namespace, results: Results, worker: WorkerSettings) -> int:
    from inference_worker.dead_letters import letters

    (place,) = options.places
    mirrored = _named(options, results)[place]

    async def last() -> Letter | None:
        """What it failed of last comes last."""
        found = None
        async with aclosing(letters(worker.kafka, results.namespace, {place}, worker.kafka_access)) as all_of_it:
            async for letter in all_of_it:
                found = letter
        return found

    letter = _run_with_kafka(worker, last())
    whole = {**_row(place, mirrored), "record": _record(letter) if letter is not None else None}
    if options.json:
        print_json(whole)
        return 0
    record = whole.pop("record") or {"record": "no longer in Kafka"}
    for name, value in {**whole, **record}.items():
        if value is not None:
            print_line(f"{name:14}{shown(_brief(value))}")
    return 0


def retry(options: argparse.Namespace, results: Results, worker: WorkerSettings) -> int:
    from inference_worker import dead_letters

    asked = _chosen(options, results)
    done = _run_with_kafka(
        worker,
        dead_letters.retry(
            results,
            worker.kafka,
            asked,
            post_retention_s=worker.post_retention_s,
            rollup_retention_s=worker.rollup_retention_s,
            access=worker.kafka_access,
        ),
    )
    if options.json:
        print_json({"namespace": results.namespace, "retried": list(done.sent), "refused": dict(done.refused)})
    else:
        for place, why in done.refused.items():
            print_line(
                f"{place} was not sent again: {why}; `moodstream dead-letters drop {place}` takes it off the list"
            )
        waiting = "" if results.workers() else "; no worker is alive: start `moodstream worker`"
        print_line(f"{len(done.sent)} sent again; what fails anew stays listed{waiting}")
    return 1 if done.refused else 0


def drop(options: argparse.Namespace, results: Results, worker: WorkerSettings) -> int:
    from inference_worker import dead_letters

    asked = _chosen(options, results)
    if asked and not options.yes:
        confirm("drop", "dropping", "dropped", f"{len(asked)} dead letters of {results.namespace}")
    dropped = [
        place
        for place, letter in asked.items()
        if dead_letters.drop(results, place, letter, rollup_retention_s=worker.rollup_retention_s)
    ]
    changed = [place for place in asked if place not in set(dropped)]
    if options.json:
        print_json({"namespace": results.namespace, "dropped": dropped, "changed": changed})
    else:
        for place in changed:
            print_line(f"{place} was not dropped: it changed meanwhile; `moodstream dead-letters list` says how")
        print_line(f"{len(dropped)} dropped")
    return 1 if changed else 0


def _chosen(options: argparse.Namespace, results: Results) -> dict[str, DeadLetter]:
    if not (options.places or options.all or options.id or options.reason):
        raise Misuse(f"which ones? dead-letters {options.action} takes PLACE, --id, --reason or --all")
    if options.places and (options.all or options.id or options.reason):
        raise Misuse(f"dead-letters {options.action} takes PLACE, or --id, --reason and --all, not both")
    return _named(options, results) if options.places else _matching(options, results.dead_letters_by_place())


def _named(options: argparse.Namespace, results: Results) -> dict[str, DeadLetter]:
    found = results.dead_letters_by_place()
    for place in options.places:
        if place not in found:
            raise Misuse(
                f"there is no dead letter {place} in {results.namespace} (any more): see `moodstream dead-letters list`"
            )
    return {place: found[place] for place in options.places}


def _matching(options: argparse.Namespace, found: Mapping[str, DeadLetter]) -> dict[str, DeadLetter]:
    reason = (options.reason or "").casefold()
    return {
        place: letter
        for place, letter in found.items()
        if reason in letter.error.casefold() and options.id in (None, letter.key)
    }


def _row(place: str, letter: DeadLetter) -> dict[str, Any]:
    return {
        "place": place,
        "id": letter.key,
        "reason": letter.error,
        "failed_at": letter.failed_at.isoformat(),
        "worker": letter.worker,
        "engine": letter.engine,
        "run": letter.run,
        "size": letter.size,
        "retried_at": letter.retried_at.isoformat() if letter.retried_at else None,
    }


def _record(letter: Letter) -> dict[str, Any]:
    """As a record of the contract if it is one, else its bytes."""
    from ingest.contract import MalformedRecord, NewerSchema

    headers = {name: value.decode(errors="replace") for name, value in letter.headers.items()}
    known = {"letter_offset": letter.offset, "headers": headers}
    try:
        return {**known, "post": msgspec.to_builtins(letter.record())}
    except (MalformedRecord, NewerSchema) as error:
        return {**known, "unreadable": str(error), "hex": letter.value.hex()}


def _brief(value: Any) -> str:
    """For people: long bytes and pictures only by their beginning."""
    if isinstance(value, dict) and "images" in value:
        pictures = [{**image, "jpeg": f"{len(image['jpeg'])} bytes"} for image in value["images"]]
        value = {**value, "images": pictures}
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text)} characters; --json has them all)"


def _run_with_kafka(worker: WorkerSettings, work: Coroutine[Any, Any, T]) -> T:
    from aiokafka.errors import KafkaError

    try:
        return asyncio.run(work)
    except (KafkaError, OSError) as error:
        if (refused := asyncio.run(why_refused(error, worker.kafka, worker.kafka_access))) is not None:
            raise StackFailed(str(refused_by(worker.kafka, refused))) from error
        raise StackFailed(f"MOODSTREAM_KAFKA={worker.kafka!r} does not answer ({error}): start it") from error
