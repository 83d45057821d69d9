"""A replay removed without a trace (`moodstream runs delete`): its folder, Redis keys, topics and consumer group."""

from __future__ import annotations

import argparse
import asyncio
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from dashboard.runs import RunInUse, locked, read_run
from deploy.archives import checked
from deploy.asking import confirm
from deploy.beginning import folder_of
from deploy.errors import Misuse, StackFailed
from deploy.own_redis import own_redis
from deploy.printing import print_done, print_json
from deploy.settings import Settings
from ingest.kafka_access import refused_by, why_refused

KEYS_AT_ONCE: Final = 1000
GROUP: Final = "inference-worker"


def delete(options: argparse.Namespace, settings: Settings) -> int:
    """Folder, keys, topics and consumer group of one namespace."""
    folder, namespace = _found(options.run_name, settings)
    with ExitStack() as stack:
        if folder is not None:
            try:
                stack.enter_context(locked(folder))
            except RunInUse as error:
                raise Misuse(str(error)) from error
        redis = stack.enter_context(own_redis(settings))
        kind = _kind(redis, namespace) if redis is not None else None
        if kind not in (None, "replay"):
            raise Misuse(f"namespace {namespace!r} is a {kind} one: only replays are deleted")
        if folder is None and kind is None:
            raise Misuse(f"there is no replay {options.run_name!r}: see `moodstream runs list`")
        if not options.yes:
            what = f"the replay {namespace}" + (f" and {folder}" if folder else "")
            confirm("delete", "deleting", "deleted", what)
        keys = delete_keys(redis, namespace, folder) if kind is not None else 0
        topics = asyncio.run(delete_topics(settings, namespace))
        if folder is not None:
            shutil.rmtree(folder)
    if options.json:
        print_json({"namespace": namespace, "folder": str(folder) if folder else None, "keys": keys, "topics": topics})
        return 0
    gone = [*([str(folder)] if folder else []), f"{keys} keys", *topics]
    return print_done(options, f"{namespace} is deleted: {', '.join(gone)}")


def _found(asked: str, settings: Settings) -> tuple[Path | None, str]:
    """Folder, if there is one, and namespace."""
    try:
        folder = folder_of(asked, settings)
    except Misuse:
        return None, checked(asked)
    return folder, read_run(folder).namespace


def _kind(redis: Any, namespace: str) -> str | None:
    """Of the namespace in Redis; None if it is not there."""
    from inference_worker.contract import Results, UnknownNamespace

    try:
        return Results(redis, namespace).meta().kind
    except UnknownNamespace:
        return None


def delete_keys(redis: Any, namespace: str, folder: Path | None = None) -> int:
    """Every key of the namespace and of no other: its braces end the name. The meta key goes last.

    Raises Misuse while somebody works in it. folder: of the replay that may.
    """
    from deploy.claim import claim_key
    from inference_worker.contract import Results, meta_key

    holder, mine = redis.get(claim_key(namespace)), read_run(folder).run if folder is not None else ""
    if holder is not None and holder.decode() != mine:
        raise Misuse(f"namespace {namespace!r} is being replayed into by another run: wait for its end, or stop it")
    if Results(redis, namespace).workers():
        raise Misuse(f"namespace {namespace!r} has workers at work: stop them first")
    deleted = 0
    last = meta_key(namespace).encode()
    for pattern in (f"{{{namespace}:*", f"{{{namespace}}}*"):
        waiting: list[bytes] = []
        for key in redis.scan_iter(match=pattern, count=KEYS_AT_ONCE):
            if key != last:
                waiting.append(key)
            if len(waiting) >= KEYS_AT_ONCE:
                deleted += _unlink(redis, waiting)
                waiting = []
        deleted += _unlink(redis, waiting)
    return deleted + _unlink(redis, [last])


def _unlink(redis: Any, keys: Sequence[bytes]) -> int:
    """One command a key: those of a namespace lie on several nodes of a cluster."""
    pipeline = redis.pipeline(transaction=False)
    for key in keys:
        pipeline.unlink(key)
    return sum(pipeline.execute())


async def delete_topics(settings: Settings, namespace: str) -> list[str]:
    """Topics of the namespace, then its consumer group; the topics that were there."""
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError
    from aiokafka.protocol.admin import DeleteGroupsRequest

    from ingest.contract import dead_letters_topic, posts_topic

    if (kafka := settings.kafka) is None:
        return []
    access = settings.kafka_access
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka, request_timeout_ms=20_000, **access.options())
    try:
        await admin.start()
        there = set(await admin.list_topics())
        gone = [topic for topic in (posts_topic(namespace), dead_letters_topic(namespace)) if topic in there]
        if gone:
            await admin.delete_topics(gone)
        group = f"{namespace}.{GROUP}"
        coordinator = await admin.find_coordinator(group)
        await admin._send_request(DeleteGroupsRequest([group]), coordinator)  # aiokafka has no call for it
        return gone
    except (KafkaError, OSError) as error:
        if (refused := await why_refused(error, kafka, access)) is not None:
            raise StackFailed(str(refused_by(kafka, refused))) from error
        raise StackFailed(f"Kafka at {kafka} was lost ({error}): start it, and delete again") from error
    finally:
        await admin.close()
