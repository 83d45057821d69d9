"""`moodstream model`: a new model beside the one at work: compare the two, switch, go back, remove what it left.

A worker with MOODSTREAM_SHADOW=NAME scores the posts of its namespace with its own MOODSTREAM_MODEL into a namespace of
its own, NAMESPACE-NAME. MOODSTREAM_MODEL of the others is a link; `switch` points it at the new artifact once that has
reproduced its golden rows, and `rollback` at the one before. Workers take it up when they are restarted.
"""

from __future__ import annotations

import argparse
import asyncio
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from deploy.archives import checked
from deploy.arguments import limit
from deploy.asking import confirm
from deploy.deletion import delete_keys, delete_topics
from deploy.errors import Misuse, StackFailed
from deploy.own_redis import own_redis
from deploy.printing import print_done, print_json
from deploy.settings import Settings

if TYPE_CHECKING:
    from inference_worker.contract import Prediction, Results
    from inference_worker.settings import Settings as WorkerSettings

READ: Final = 20_000
LOOK_BACK_S: Final = 7 * 86_400
"""Posts are looked for so far before the newest; texts are kept for two days unless more is asked for."""
RESTART: Final = "restart the workers one after another; they drain on SIGTERM"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    asked = actions.add_parser("compare", help="the model at work and a shadow, on the posts both scored")
    asked.set_defaults(act=compare)
    asked.add_argument("shadow", metavar="NAME", help="MOODSTREAM_SHADOW of the shadow's workers")
    asked.add_argument("--namespace", metavar="NS", help="instead of MOODSTREAM_NAMESPACE")
    asked.add_argument(
        "--limit", type=limit, default=READ, help="so many of the newest retained posts at most (default: %(default)s)"
    )
    asked = actions.add_parser("switch", help="point the link the workers load at another artifact")
    asked.set_defaults(act=switch)
    asked.add_argument("link", type=Path, metavar="LINK", help="MOODSTREAM_MODEL of the workers; made if there is none")
    asked.add_argument("artifact", type=Path, metavar="ARTIFACT", help="artifact directory")
    asked = actions.add_parser("rollback", help="point it back at the artifact before")
    asked.set_defaults(act=roll_back)
    asked.add_argument("link", type=Path, metavar="LINK", help="as for switch")
    asked = actions.add_parser("delete", help="a shadow that has ended: its keys, dead letters and consumer group")
    asked.set_defaults(act=delete)
    asked.add_argument("shadow", metavar="NAME", help="as for compare")
    asked.add_argument("--namespace", metavar="NS", help="instead of MOODSTREAM_NAMESPACE")
    asked.add_argument("--yes", action="store_true", help="do not ask")
    for action in actions.choices.values():
        action.add_argument("--json", action="store_true", help="one JSON object, last on stdout")


def run(options: argparse.Namespace) -> int:
    from inference_worker.settings import Settings as WorkerSettings

    try:
        worker = WorkerSettings.from_env()
    except ValueError as error:
        raise Misuse(str(error)) from error
    return int(options.act(options, worker))


def compare(options: argparse.Namespace, worker: WorkerSettings) -> int:
    from dashboard.evaluation.shadowing import NothingShared
    from dashboard.evaluation.shadowing import compare as compared
    from deploy.shadow_words import lines
    from inference_worker.contract import Results, UnknownNamespace
    from inference_worker.settings import shadow_of

    namespace = _namespace(options, worker)
    try:
        shadow = shadow_of(namespace, options.shadow)
        with own_redis(_servers(worker)) as redis:
            live, other = (_posts(Results(redis, name), options.limit) for name in (namespace, shadow))
        found = compared(live, other)
    except UnknownNamespace as error:
        raise Misuse(f"{error}; a shadow's has MOODSTREAM_SHADOW={options.shadow}") from error
    except NothingShared as error:
        raise StackFailed(f"{namespace} and {shadow} share no post yet: {error}; let the shadow run on") from error
    except ValueError as error:
        raise Misuse(str(error)) from error
    if options.json:
        print_json(msgspec.to_builtins(found))
        return 0
    for line in lines(found):
        print_done(options, line)
    return 0


def delete(options: argparse.Namespace, worker: WorkerSettings) -> int:
    from inference_worker.contract import Results, UnknownNamespace
    from inference_worker.settings import shadow_of

    namespace, settings = _namespace(options, worker), _servers(worker)
    try:
        shadow = shadow_of(namespace, options.shadow)
        with own_redis(settings) as redis:
            if Results(redis, shadow).meta().shadowed != namespace:
                raise Misuse(f"namespace {shadow!r} is no shadow of {namespace!r}: nothing is deleted")
            if not options.yes:
                confirm("delete", "deleting", "deleted", f"the shadow {shadow}")
            keys = delete_keys(redis, shadow)
    except UnknownNamespace as error:
        raise Misuse(f"{error}; a shadow's has MOODSTREAM_SHADOW={options.shadow}") from error
    except ValueError as error:
        raise Misuse(str(error)) from error
    topics = asyncio.run(delete_topics(settings, shadow))
    if options.json:
        print_json({"namespace": shadow, "keys": keys, "topics": topics})
        return 0
    return print_done(options, f"{shadow} is deleted: {', '.join([f'{keys} keys', *topics])}")


def _namespace(options: argparse.Namespace, worker: WorkerSettings) -> str:
    return checked(options.namespace or worker.shadowed or worker.namespace)


def _servers(worker: WorkerSettings) -> Settings:
    """Those its workers use."""
    return replace(Settings.from_env(), redis=worker.redis, kafka=worker.kafka)


def _posts(results: Results, at_most: int) -> list[Prediction]:
    """The newest that are retained."""
    from datetime import timedelta

    from inference_worker.contract import ALL

    if (clock := results.watermark()) is None:
        return []
    second = timedelta(seconds=1)
    return results.posts(ALL, clock - LOOK_BACK_S * second, clock + second, limit=at_most)


def switch(options: argparse.Namespace, worker: WorkerSettings) -> int:
    return _point(options, worker, options.artifact)


def roll_back(options: argparse.Namespace, worker: WorkerSettings) -> int:
    before = _before(options.link)
    if not before.is_symlink():
        raise Misuse(f"{options.link} has no artifact before the present one: it was never switched")
    return _point(options, worker, before)


def _point(options: argparse.Namespace, worker: WorkerSettings, artifact: Path) -> int:
    """The old target is noted first: whatever ends this in between, the link and the note hold whole artifacts."""
    link, target = options.link, artifact.resolve()
    if link.exists() and not link.is_symlink():
        raise Misuse(f"{link} is no link: move it aside, and name a link to it in MOODSTREAM_MODEL")
    name = _checked(target, worker)
    if link.is_symlink():
        if link.resolve() == target:
            raise Misuse(f"{link} is {name} already")
        _replace(_before(link), link.resolve())
    _replace(link, target)
    return print_done(options, f"{link} is {name} from now on: {RESTART}")


def _checked(artifact: Path, worker: WorkerSettings) -> str:
    """Name and version of what reproduces its golden rows here, on the workers' engine."""
    from inference_worker import artifact as artifacts
    from inference_worker.errors import ArtifactError

    try:
        artifacts.load(artifact, engine=worker.engine, threads=worker.engine_threads)
        manifest = artifacts.read_manifest(artifact)
    except ArtifactError as error:
        raise StackFailed(f"nothing is switched: {error}") from error
    return f"{manifest.name} {manifest.version}"


def _before(link: Path) -> Path:
    return link.with_name(f"{link.name}.before")


def _replace(link: Path, target: Path) -> None:
    """Whoever reads the link meanwhile finds the old target or the new one."""
    made = link.with_name(f".{link.name}.{uuid.uuid4().hex}")
    try:
        made.symlink_to(target, target_is_directory=True)
        made.replace(link)
    except OSError as error:
        made.unlink(missing_ok=True)
        raise StackFailed(f"{link} cannot be made a link to {target}: {error.strerror}") from error
