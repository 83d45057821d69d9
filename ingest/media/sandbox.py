"""A process that does nothing but make pictures safe: requests on standard input, answers on standard output.

A hostile picture can at worst take this process with it: memory is limited, no file can be written, no secret of the
service's environment is at hand, and an alarm ends it should a decoder hang, whether anybody still waits or not.
"""

from __future__ import annotations

import resource
import signal
import sys
from collections.abc import Callable
from typing import BinaryIO, Final

import msgspec

from ingest.contract import Image
from ingest.errors import MalformedMedia
from ingest.media.sanitize import make_safe

LENGTH_BYTES: Final = 4
READY: Final = b"ready"

_encoder = msgspec.msgpack.Encoder()


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The safe picture, or why there is none."""

    image: Image | None = None
    reason: str = ""
    detail: str = ""


def main(*, memory_bytes: int, limit_s: float) -> None:
    serve(_answer, memory_bytes=memory_bytes, limit_s=limit_s)


def serve(answer_to: Callable[[bytes], msgspec.Struct], *, memory_bytes: int, limit_s: float) -> None:
    """Answers until standard input ends, as it does when the parent is gone."""
    _limit(memory_bytes)
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    _write(answers, READY)
    while (data := _read(requests)) is not None:
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        answer = answer_to(data)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _write(answers, _encoder.encode(answer))


def _limit(memory_bytes: int) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, also in the middle of a decoder's loop
    for kind, limit in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (limit, limit))


def _answer(data: bytes) -> Answer:
    try:
        return Answer(image=make_safe(data))
    except MalformedMedia as error:
        return Answer(reason=error.reason, detail=str(error)[:500])


def _read(requests: BinaryIO) -> bytes | None:
    length = requests.read(LENGTH_BYTES)
    return requests.read(int.from_bytes(length)) if len(length) == LENGTH_BYTES else None


def _write(answers: BinaryIO, answer: bytes) -> None:
    answers.write(len(answer).to_bytes(LENGTH_BYTES) + answer)
    answers.flush()
