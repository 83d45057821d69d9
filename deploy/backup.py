"""`moodstream backup FILE`: all that a Redis holds at one instant, as its own snapshot (RDB), taken while it runs.

What `redis-cli --rdb` does, for those who have none, with the address, user and certificates of MOODSTREAM_REDIS; and
FILE is never half a copy. How one is put back stands in deploy/BACKUP.md.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO, Final

from deploy.errors import Misuse, StackFailed
from deploy.own_redis import own_redis
from deploy.printing import print_done
from deploy.settings import Settings
from inference_worker.redis_access import is_cluster, masked

PIECE: Final = 1 << 20
MARK_LENGTH: Final = 40
"""Of what ends a snapshot whose length nobody knows beforehand."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="where the copy goes; one there is replaced")
    parser.add_argument("--json", action="store_true", help="one JSON object, last on stdout")


def run(options: argparse.Namespace) -> int:
    from inference_worker.settings import Settings as WorkerSettings

    try:
        url = WorkerSettings.from_env().redis
    except ValueError as error:
        raise Misuse(str(error)) from error
    if is_cluster(url):
        raise Misuse(
            f"MOODSTREAM_REDIS={masked(url)!r} is a cluster: take one copy of each primary, with redis:// or rediss:// "
            "and its address"
        )
    with own_redis(replace(Settings.from_env(), redis=url)) as redis:
        size = written(snapshot(redis), options.file)
    return print_done(options, f"{options.file} holds all of {masked(url)}: {size:,} bytes")


def snapshot(redis: Any) -> Iterator[bytes]:
    """In pieces. Raises RedisError, or StackFailed when it is refused or breaks off."""
    connection = redis.connection_pool.get_connection()
    try:
        for capability in (("capa", "eof"), ("rdb-only", "1")):  # straight from the fork; no replica afterwards
            connection.send_command("REPLCONF", *capability)
            connection.read_response()
        connection.send_command("SYNC")
        with connection._sock.makefile("rb") as stream:  # redis-py would take the answer for a value, and keep it all
            yield from _pieces(stream)
    finally:
        connection.disconnect()


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    try:
        head = next((line for line in stream if line.strip()), b"").strip()  # empty lines: it is still preparing
        if head.startswith(b"$EOF:"):
            yield from _until(stream, head.removeprefix(b"$EOF:"))
        elif head.startswith(b"$"):
            yield from _so_many(stream, int(head[1:]))
        else:
            raise _refusal(head.removeprefix(b"-").decode(errors="replace"))
    except (EOFError, OSError) as error:
        why = f"{error or 'Redis ended it'}: see the log of Redis, which may lack memory to fork"
        raise StackFailed(f"the copy broke off, and is not kept ({why})") from error


def _until(stream: Any, mark: bytes) -> Iterator[bytes]:
    held = b""
    while piece := stream.read1(PIECE):
        held += piece
        if held.endswith(mark):
            yield held[:-MARK_LENGTH]
            return
        yield held[:-MARK_LENGTH]
        held = held[-MARK_LENGTH:]
    raise EOFError


def _so_many(stream: BinaryIO, left: int) -> Iterator[bytes]:
    while left:
        if not (piece := stream.read(min(left, PIECE))):
            raise EOFError
        left -= len(piece)
        yield piece


def _refusal(said: str) -> Exception:
    from redis.exceptions import NoPermissionError

    if said.startswith("NOPERM"):
        return NoPermissionError(said.removeprefix("NOPERM "))
    return StackFailed(f"Redis gives no copy of itself ({said or 'it ended the connection'}): ask its primary")


def written(pieces: Iterable[bytes], file: Path) -> int:
    """Under its name once it is whole and on disk; for its owner alone, as it holds posts. Its size."""
    try:
        with (
            NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}.", delete=False) as out,
            _gone_unless_whole(out.name),
        ):
            size = sum(out.write(piece) for piece in pieces)
            out.flush()
            os.fsync(out.fileno())
            Path(out.name).replace(file)
    except OSError as error:
        raise StackFailed(f"{file} cannot be written: {error.strerror}: name a file where there is room") from error
    return size


@contextmanager
def _gone_unless_whole(partial: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
