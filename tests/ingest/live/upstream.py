"""What a live source is tested against: a local server that speaks the upstream's own protocol and plays a script.

A `Script` says what happens on the wire, in made-up posts numbered by the test. A `Stage` keeps where the script stands
while connections come and go. An `Upstream` is the adapter for one protocol: it puts events into the upstream's bytes,
serves them, and opens the source against itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Final, Protocol

from ingest.contract import Deletion
from ingest.sources.items import Draft, Item, LiveSource

READ_TIMEOUT_S: Final = 0.6
"""Silence after which a source under test is to give a connection up; `Upstream.open` passes it on."""
BEGAN: Final = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=30)


@dataclass(frozen=True)
class Create:
    """Post `number` is written, with `pictures` pictures; its text is `text_of(number)`, its time `time_of(number)`."""

    number: int
    pictures: int = 0


@dataclass(frozen=True)
class Edit:
    """The text of post `number` becomes `text_of(number, edit)`; edits count from 1."""

    number: int
    edit: int = 1


@dataclass(frozen=True)
class Delete:
    """Post `number` is deleted."""

    number: int


@dataclass(frozen=True)
class Noise:
    """An event of the protocol that concerns no post (a like, another kind of message)."""


@dataclass(frozen=True)
class Heartbeat:
    """A sign of life without content."""


@dataclass(frozen=True)
class Malformed:
    """What no well-behaved server sends; `variant` picks one of the upstream's `malformed` kinds."""

    variant: int = 0


@dataclass(frozen=True)
class Raw:
    """Bytes of one event as they are, from a payload file."""

    data: bytes


Event = Create | Edit | Delete | Noise | Heartbeat | Malformed | Raw


@dataclass(frozen=True)
class Cut:
    """The connection is lost; `torn` after half of `torn`'s bytes. `missed` happens before anybody can come back."""

    torn: Event | None = None
    missed: tuple[Event, ...] = ()


@dataclass(frozen=True)
class Stall:
    """The connection stays open and nothing more comes on it; `torn` is sent first, byte by byte, up to its middle."""

    torn: Event | None = None


@dataclass(frozen=True)
class Refuse:
    """The next attempt to connect is answered with `status`; 302 leads to the same address again."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)


Step = Event | Cut | Stall | Refuse


@dataclass(frozen=True)
class Script:
    """What happens, in order; at its end the connection stays open, with heartbeats where the protocol has them.

    chunk_bytes: everything goes out in pieces of so many bytes (frames, HTTP chunks), whatever their content.
    """

    steps: tuple[Step, ...]
    chunk_bytes: int | None = None

    @classmethod
    def of(cls, *steps: Step, chunk_bytes: int | None = None) -> Script:
        return cls(steps, chunk_bytes)


def text_of(number: int, edit: int = 0) -> str:
    """With characters of one to four bytes, so that a careless cut shows."""
    return f"Straßenbahn no {number} 🚋 «café»" + (f", edited {edit}" if edit else "")


def time_of(number: int) -> datetime:
    return BEGAN + timedelta(seconds=number)


class Connection(Protocol):
    """One client as the server sees it."""

    async def send(self, data: bytes) -> None:
        """One whole event, in pieces if the script says so; returns when it is on its way."""
        ...

    async def send_part(self, data: bytes, *, slowly: bool = False) -> None:
        """The first bytes of an event whose rest never comes; `slowly`: one by one, with time between them."""
        ...

    async def wait_until_gone(self) -> None:
        """Sends nothing, heartbeats neither; returns, or is cancelled, when the client has left."""
        ...

    async def idle(self) -> None:
        """The same with the protocol's heartbeats."""
        ...


class Stage:
    """A script being played: every connection goes on where the one before it ended.

    log: the events that happened so far, in order, for upstreams that give them again.
    attempts, connected: connections asked for in all, and open now.
    """

    def __init__(self, upstream: Upstream, script: Script) -> None:
        self._upstream = upstream
        self._steps = deque(script.steps)
        self.chunk_bytes = script.chunk_bytes
        self.log: list[Event] = []
        self.attempts = 0
        self.connected = 0

    @property
    def is_over(self) -> bool:
        return not self._steps

    def refusal(self) -> Refuse | None:
        """Called once per attempt to connect: how it is refused, None if it is not."""
        self.attempts += 1
        if self._steps and isinstance(step := self._steps[0], Refuse):
            self._steps.popleft()
            return step
        return None

    async def play(self, connection: Connection, *, log_from: int | None = None) -> None:
        """Sends what is in the log from `log_from` on, then the script; returns when the connection is to be cut."""
        self.connected += 1
        try:
            for place in () if log_from is None else range(log_from, len(self.log)):
                await connection.send(self._upstream.render(self.log[place], place))
            await self._go_on(connection)
        finally:
            self.connected -= 1

    async def _go_on(self, connection: Connection) -> None:
        while self._steps and not isinstance(self._steps[0], Refuse):
            step = self._steps.popleft()
            if isinstance(step, Cut | Stall):
                await self._break_off(connection, step)
                return
            self.log.append(step)
            await connection.send(self._upstream.render(step, len(self.log) - 1))
        if not self._steps:
            await connection.idle()

    async def _break_off(self, connection: Connection, step: Cut | Stall) -> None:
        if step.torn is not None:
            data = self._upstream.render(step.torn, len(self.log))
            await connection.send_part(data[: len(data) // 2], slowly=isinstance(step, Stall))
        if isinstance(step, Cut):
            self.log.extend(step.missed)
        else:
            await connection.wait_until_gone()

    def poll(self) -> Cut | Stall | None:
        """For upstreams that are asked: moves on to the next break; how this answer breaks off, None if it does not.

        The answer then is made from `log`.
        """
        while self._steps and not isinstance(self._steps[0], Refuse):
            step = self._steps.popleft()
            if isinstance(step, Cut):
                self.log.extend(step.missed)
            if isinstance(step, Cut | Stall):
                return step
            self.log.append(step)
        return None


class Waits:
    """Stands for asyncio.sleep in a source under test: notes how long it wanted to wait, and hardly does."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(min(seconds, 0.002))


class Upstream(Protocol):
    """A local server for one protocol, and the source that reads it; used as `async with`, one test each.

    resumes: gives what happened while a client was away, to one that says where it stopped. Where not, nothing happens
    while nobody listens: the script then waits for the next connection.
    edits, deletes: the protocol tells of them, and the source yields them. polled: the source asks time and again.
    credentials: made-up secrets `open` gives the source; needed for a 401 to mean BadCredentials.
    malformed: how many kinds of Malformed there are. payload: name of a file of ../shared/payloads in this protocol.
    """

    name: str
    resumes: bool
    edits: bool
    deletes: bool
    polled: bool
    credentials: tuple[str, ...]
    malformed: int
    payload: str | None
    stage: Stage
    waits: Waits

    async def __aenter__(self) -> Upstream: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def play(self, script: Script) -> None:
        """Sets a new stage."""
        ...

    def open(self, *, cursor: str | None = None) -> LiveSource:
        """The source reading this server: it waits by `waits` and gives up a silent connection after READ_TIMEOUT_S."""
        ...

    def render(self, event: Event, place: int) -> bytes:
        """The event as it goes over the wire; `place` is its index in the log, by which some protocols number."""
        ...

    def post_id(self, number: int) -> str:
        """Of the post that `Create(number)` writes, as the source names it."""
        ...

    def payload_events(self, data: bytes) -> Iterable[Raw]:
        """The stream's events in the payload file."""
        ...

    def check_payload(self, items: Sequence[Item]) -> None:
        """Asserts what the payload file's events become."""
        ...


def drafts_of(items: Iterable[Item]) -> list[Draft]:
    return [item for item in items if isinstance(item, Draft)]


def deletions_of(items: Iterable[Item]) -> list[Deletion]:
    return [item for item in items if isinstance(item, Deletion)]


def ids_of(items: Iterable[Item]) -> list[str]:
    """Post ids of the drafts, each at the place where it first came."""
    return list(dict.fromkeys(draft.post.id for draft in drafts_of(items)))
