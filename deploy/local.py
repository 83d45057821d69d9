"""The stack on one machine: broker and store (embedded where the user has none) and the services as children.

Everything is watched, and stopped in reverse order of starting; `children.py` sees to it that nothing outlives us.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from deploy.children import Child
from deploy.errors import Misuse
from deploy.servers import ask_kafka, ask_redis, describe, failed, start_broker, start_store
from deploy.settings import Settings
from inference_worker import redis_access
from ingest import kafka_access
from ingest.kafka_access import PLAINTEXT, KafkaAccess

SHORT_LIFE_S: Final = 8.0
SHORT_LIVES: Final = 3
"""A service that dies this often in a row without having lived SHORT_LIFE_S will not get better by itself."""
BACKOFF_S: Final = (0.2, 1.0, 3.0)
WATCH_S: Final = 0.2
EMBEDDED: Final = Settings()
AFRESH: Final = "what it held is gone, start again"

_ROOT: Final = Path(__file__).resolve().parent.parent


@dataclass
class Service:
    """One of our own processes; `restarts` counts how often it had to be brought back, which none is while paused."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    stop_timeout_s: float
    keep_running: bool
    child: Child
    restarts: int = 0
    short_lives: int = 0
    restart_at_s: float | None = None
    is_paused: bool = False


@dataclass
class LocalStack:
    """Broker, store and services of one machine; made by `open_stack`. `kafka` and `redis` are where they answer.

    remedy: what to do when one of them is gone for good.
    """

    log_dir: Path
    kafka: str = ""
    redis: str = ""
    kafka_access: KafkaAccess = PLAINTEXT
    broker: Child | None = None
    store: Child | None = None
    services: list[Service] = field(default_factory=list)
    remedy: str = AFRESH

    def environment(self) -> dict[str, str]:
        """What every service needs to know of this stack."""
        known = {"MOODSTREAM_KAFKA": self.kafka, "MOODSTREAM_REDIS": self.redis}
        if self.store is not None:  # what the user's own is reached with is not for this one
            known |= dict.fromkeys(redis_access.VARIABLES, "")
        if self.broker is not None:
            known |= dict.fromkeys(kafka_access.VARIABLES, "")
            # Tansu has no idempotent producer, and lets a joining member wait for half the session timeout.
            known["MOODSTREAM_KAFKA_IDEMPOTENCE"] = "0"
            known["MOODSTREAM_SESSION_TIMEOUT_S"] = "6"
            known["MOODSTREAM_HEARTBEAT_S"] = "2"
            # One whose leader leaves while others join has no leader ever after; one whose session ends is replaced.
            known["MOODSTREAM_LEAVE_GROUP"] = "alone"
        return known

    def run(
        self,
        name: str,
        module: str,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        keep_running: bool = True,
        stop_timeout_s: float = 30.0,
    ) -> Service:
        """Starts `python -m module arguments` with this stack's settings; `keep_running` brings it back when it dies.

        `-P` and the path: a folder of the user's named `ingest` must not stand in for ours.
        """
        command = [sys.executable, "-P", "-m", module, *arguments]
        known = {**self.environment(), "PYTHONPATH": str(_ROOT), "PYTHONUNBUFFERED": "1", **(environment or {})}
        log_path = self.log_dir / f"{name}.log"
        child = Child(name, command, log_path=log_path, environment=known, stop_timeout_s=stop_timeout_s)
        service = Service(name, command, known, stop_timeout_s, keep_running, child)
        self.services.append(service)
        return service

    def check(self) -> None:
        """Brings back services that died. Raises StackFailed when broker, store or a service is beyond that."""
        for child in (self.broker, self.store):
            if child is not None and (code := child.exit_code()) is not None:
                raise failed(child, f"the {child.name} died ({describe(code)}): {self.remedy}")
        for service in self.services:
            if not service.is_paused and (code := service.child.exit_code()) is not None:
                if service.keep_running:
                    _bring_back(service, code)
                elif code != 0:
                    raise failed(service.child, f"{service.name} failed ({describe(code)})")

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Checks while the body runs, and ends it with StackFailed when something is beyond repair."""
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(self._watch())
                yield
                watching.cancel()
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _watch(self) -> None:
        while True:
            self.check()
            await asyncio.sleep(WATCH_S)

    @contextlib.asynccontextmanager
    async def paused(self, *services: Service) -> AsyncIterator[None]:
        """Stopped, as they are at the end, while the body runs; `check` brings them back at once afterwards."""
        for service in services:
            service.is_paused = True
        try:
            await asyncio.gather(*(service.child.stop() for service in services))
            yield
        finally:
            for service in services:
                service.is_paused = False
                service.restart_at_s = time.monotonic()  # due already: ended by us, it counts as no short life

    async def stop_services(self) -> dict[str, int]:
        """Stops the services, the last started first; returns their exit codes."""
        codes = {service.name: await service.child.stop() for service in reversed(self.services)}
        self.services.clear()
        return codes

    async def stop(self) -> None:
        await self.stop_services()
        for child in (self.store, self.broker):
            if child is not None:
                await child.stop()


@contextlib.asynccontextmanager
async def open_stack(
    settings: Settings = EMBEDDED, *, keep: Path | None = None, remedy: str = AFRESH
) -> AsyncIterator[LocalStack]:
    """A stack with broker and store answering; the settings may name the user's own instead of embedded ones.

    keep: folder for the store's contents and the logs. Without it both are temporary, and the logs stay only if
    something failed. remedy: see LocalStack.
    """
    log_dir = _log_folder(keep)
    stack = LocalStack(
        log_dir, settings.kafka or "", settings.redis or "", kafka_access=settings.kafka_access, remedy=remedy
    )
    try:
        await _start(stack, keep)
        yield stack
    finally:
        await stack.stop()
    if keep is None:
        shutil.rmtree(log_dir, ignore_errors=True)


def _log_folder(keep: Path | None) -> Path:
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="moodstream-"))
    folder = keep.resolve() / "logs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Misuse(f"--keep {keep}: {error.strerror}: name a folder that can be written to") from error
    return folder


async def _start(stack: LocalStack, keep: Path | None) -> None:
    """Broker and store at once; the first failure ends both."""

    async def broker() -> None:
        if not stack.kafka:
            stack.broker, stack.kafka = await start_broker(stack.log_dir / "broker.log")
        else:
            await _need_kafka(stack.kafka, stack.kafka_access)

    async def store() -> None:
        if not stack.redis:
            folder = stack.log_dir.parent if keep else None
            stack.store, stack.redis = await start_store(stack.log_dir / "store.log", folder)
        else:
            await _need_redis(stack.redis)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(broker())
            group.create_task(store())
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _need_kafka(kafka: str, access: KafkaAccess) -> None:
    """Raises Misuse unless it answers."""
    from aiokafka.errors import KafkaError  # slow to load: not at the command's start

    try:
        await ask_kafka(kafka, access)
    except (KafkaError, OSError, ValueError) as error:
        if (refused := await kafka_access.why_refused(error, kafka, access)) is not None:
            raise Misuse(str(kafka_access.refused_by(kafka, refused))) from error
        raise Misuse(f"MOODSTREAM_KAFKA={kafka!r} does not answer: start it, or unset the variable") from error


async def _need_redis(redis: str) -> None:
    """Raises Misuse unless it answers."""
    from redis.exceptions import RedisError  # slow to load: not at the command's start

    try:
        await ask_redis(redis)
    except (RedisError, OSError, ValueError) as error:
        if redis_access.redis_refusal(error) is not None:
            raise Misuse(redis_access.redis_trouble(error, redis)) from error
        shown = redis_access.masked(redis)
        raise Misuse(f"MOODSTREAM_REDIS={shown!r} does not answer: start it, or unset the variable") from error


def _bring_back(service: Service, code: int) -> None:
    """Starts the service again, later each time it dies young."""
    now = time.monotonic()
    if service.restart_at_s is None:
        service.short_lives = service.short_lives + 1 if service.child.age_s < SHORT_LIFE_S else 0
        if service.short_lives >= SHORT_LIVES:
            raise failed(service.child, f"{service.name} died {SHORT_LIVES} times in a row ({describe(code)})")
        service.restart_at_s = now + BACKOFF_S[min(service.short_lives, len(BACKOFF_S) - 1)]
    if now < service.restart_at_s:
        return
    service.restart_at_s = None
    service.restarts += 1
    service.child.release()
    service.child = Child(
        service.name,
        service.command,
        log_path=service.child.log_path,
        environment=service.environment,
        stop_timeout_s=service.stop_timeout_s,
    )
