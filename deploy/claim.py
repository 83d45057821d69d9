"""A replay's claim to its namespace of a Redis that others use as well: one replay at a time, of one archive with one
model. (An embedded store belongs to one folder, whose lock is enough.)

    {ns}:replaying  held by the replay at work (redis-py's lock), renewed while it runs
    {ns}:origin     `Origin` of what was replayed into it
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec
from redis.asyncio.lock import Lock
from redis.exceptions import LockNotOwnedError, RedisError

from dashboard.runs import Run
from deploy.accounting import redis_needed
from deploy.errors import Misuse, StackFailed
from deploy.provenance import model_of
from inference_worker.contract import Meta, NewerResults, Results, UnknownNamespace
from inference_worker.redis_access import connect, connect_async

LEASE_S: Final = 30.0
"""So long after a replay was killed its namespace is free for others; the same run, gone on with, has it at once."""
RENEW_S: Final = 5.0
AGAIN: Final = "run the same command again"


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Archive and model of what a namespace holds; hashes are empty where it was not a replay that began it."""

    archive: str
    model: str
    archive_sha256: str = ""
    model_sha256: str = ""

    @classmethod
    def of(cls, run: Run) -> Origin:
        return cls(
            archive=Path(run.archive).name,
            model=model_of(run.variables).title,
            archive_sha256=run.archive_sha256,
            model_sha256=run.model_sha256,
        )

    def is_as(self, other: Origin) -> bool:
        """As far as both are known: by hash, else by name. (One artifact answers otherwise by another engine.)"""
        is_same_archive = (
            self.archive_sha256 == other.archive_sha256
            if self.archive_sha256 and other.archive_sha256
            else self.archive == other.archive
        )
        hashes = {self.model_sha256, other.model_sha256} - {""}
        return is_same_archive and self.model == other.model and len(hashes) <= 1

    def __str__(self) -> str:
        archive, model = (
            f"{name} ({sha256[:12]})" if sha256 else name
            for name, sha256 in ((self.archive, self.archive_sha256), (self.model, self.model_sha256))
        )
        return f"{archive} scored by {model}"


def claim_key(namespace: str) -> str:
    return f"{{{namespace}}}:replaying"


def origin_key(namespace: str) -> str:
    return f"{{{namespace}}}:origin"


@asynccontextmanager
async def claimed(redis_url: str, run: Run) -> AsyncIterator[None]:
    """Nobody else replays into the namespace while the body runs.

    Raises Misuse if somebody does, or if it holds something else; StackFailed out of the body if the claim is lost.
    """
    async with connect_async(redis_url) as redis:
        lock = Lock(redis, claim_key(run.namespace), timeout=LEASE_S, blocking=False, thread_local=False)
        with redis_needed(redis_url, AGAIN):
            await _acquire(lock, run)
        try:
            with redis_needed(redis_url, AGAIN):
                await asyncio.to_thread(_enter, redis_url, run)
            async with asyncio.TaskGroup() as group:
                renewing = group.create_task(_renew(lock, redis_url, run.namespace))
                yield
                renewing.cancel()
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            with suppress(RedisError):  # it ends by itself
                await lock.release()


async def _acquire(lock: Lock, run: Run) -> None:
    """The token is the run's own name: what a killed process of the same run left is taken over, since the lock of its
    folder says that there is no other."""
    if await lock.acquire(token=run.run):
        return
    lock.local.token = run.run.encode()
    if not await lock.owned():
        raise Misuse(
            f"namespace {run.namespace!r} is being replayed into by another run: wait for its end (one that was killed "
            f"frees it within {LEASE_S:.0f} s), or give another --namespace"
        )
    await lock.reacquire()


async def _renew(lock: Lock, redis_url: str, namespace: str) -> None:
    while True:
        await asyncio.sleep(RENEW_S)
        with redis_needed(redis_url):
            try:
                await lock.reacquire()
            except LockNotOwnedError as error:
                raise StackFailed(
                    f"namespace {namespace!r} was deleted, or taken by another replay after this one had stood still "
                    f"for {LEASE_S:.0f} s or more: replay anew into another --namespace"
                ) from error


def _enter(redis_url: str, run: Run) -> None:
    """Raises Misuse if the namespace holds something else; what it holds from now on is noted."""
    with connect(redis_url) as connected:
        redis: Any = connected  # redis-py types every reply as bytes or str
        mine, there = Origin.of(run), _origin(redis, run.namespace)
        if there is not None and not there.is_as(mine):
            raise Misuse(
                f"namespace {run.namespace!r} holds {there}, and {mine} would be mixed into that: give another "
                f"--namespace, or `moodstream runs delete {run.namespace}` first"
            )
        redis.set(origin_key(run.namespace), msgspec.json.encode(mine))


def _origin(redis: Any, namespace: str) -> Origin | None:
    """Of what is there. Raises Misuse if it is no replay."""
    meta = _meta(redis, namespace)
    if meta is None:
        return None
    if meta.kind != "replay":
        raise Misuse(f"namespace {namespace!r} is a {meta.kind} one: give the replay one of its own with --namespace")
    packed = redis.get(origin_key(namespace))
    if packed is None:
        return Origin(archive=meta.source, model=meta.model)
    return msgspec.json.decode(packed, type=Origin)


def _meta(redis: Any, namespace: str) -> Meta | None:
    try:
        return Results(redis, namespace).meta()
    except UnknownNamespace:
        return None
    except NewerResults as error:
        raise Misuse(str(error)) from error
