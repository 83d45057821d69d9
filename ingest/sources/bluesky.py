"""Bluesky, live, from Jetstream servers: every public post, without a key; another server when one fails."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from ingest.authors import AuthorHash
from ingest.errors import BadSource, SourceUnreachable
from ingest.sources.bluesky_posts import CDN, SOURCE, PostReader
from ingest.sources.bluesky_server import Refused, Server
from ingest.sources.bluesky_wire import Dictionary, Event, MalformedEvent, Notice, Position, StreamEnded
from ingest.sources.items import Item, Kind, Skipped
from ingest.sources.live import Backoff, SourceState

if TYPE_CHECKING:
    from ingest.sources.detect import SourceOptions

PUBLIC_HOSTS: Final = tuple(f"wss://jetstream{n}.us-{side}.bsky.network" for side in ("east", "west") for n in (1, 2))
BACKOFF: Final = Backoff(first=0.5, factor=2, ceiling=60)
SILENCE_S: Final = 20.0
"""After so long without an event the server is asked for a sign of life; it has as long again to answer."""
QUIET_S: Final = 90.0
"""A public server that lives but tells nothing for so long has lost the network itself: another one is tried."""
FRUITLESS_ROUNDS: Final = 3
"""How often all hosts are tried before a network that was never there is called unreachable."""
RECENT_EVENTS: Final = 20_000
CDN_VARIABLE: Final = "MOODSTREAM_BLUESKY_CDN"
DICTIONARY_VARIABLE: Final = "MOODSTREAM_JETSTREAM_DICTIONARY"

log = logging.getLogger(__name__)


def open_bluesky(options: SourceOptions) -> Bluesky:
    """Raises BadSource if an option or a variable of Bluesky's is wrong."""
    if options.channels:
        raise BadSource(f"{SOURCE} has no channels to choose, got {', '.join(options.channels)}; name topics instead")
    dictionary = None
    if path := options.environ.get(DICTIONARY_VARIABLE):
        try:
            dictionary = Dictionary(Path(path).read_bytes())
        except (OSError, ValueError) as error:
            raise BadSource(f"{DICTIONARY_VARIABLE}={path}: {error}; name a zstd dictionary or unset it") from error
    return Bluesky(
        authors=options.authors,
        hosts=options.hosts or PUBLIC_HOSTS,
        cdn=options.environ.get(CDN_VARIABLE) or CDN,
        cursor=options.cursor,
        dictionary=dictionary,
    )


class Bluesky:
    """The posts of Bluesky as they are written, edited and deleted, and the accounts that go.

    hosts: Jetstream servers by URL, the one to prefer first; without a path v2 is tried, then v1.
    dictionary: for compressed frames of v1; v2 servers hand out their own.
    Raises BadSource for a URL, cursor or CDN that cannot be; while read, SourceUnreachable.
    """

    name: str = SOURCE
    kind: Kind = "live"

    def __init__(
        self,
        *,
        authors: AuthorHash,
        hosts: Sequence[str] = PUBLIC_HOSTS,
        cdn: str = CDN,
        cursor: str | None = None,
        dictionary: Dictionary | None = None,
        silence_s: float = SILENCE_S,
        quiet_s: float = QUIET_S,
        backoff: Backoff = BACKOFF,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._servers = deque(Server(url, dictionary) for url in hosts)
        cdn_parts = urlsplit(cdn)
        if cdn_parts.scheme not in ("http", "https") or not cdn_parts.hostname or cdn_parts.query:
            raise BadSource(f"{CDN_VARIABLE}={cdn} is no address; say it as {CDN}")
        self.media_hosts: tuple[str, ...] = (cdn_parts.hostname,)
        self.state = SourceState()
        self._reader = PostReader(authors=authors, cdn=cdn.rstrip("/"))
        self._position = _parsed(cursor) if cursor is not None else None
        self._recent = Recent(RECENT_EVENTS)
        self._silence_s, self._quiet_s = silence_s, quiet_s
        self._backoff, self._sleep = backoff, sleep
        self._waits = backoff.waits()
        self._was_connected = False
        self._is_waiting = False

    @property
    def cursor(self) -> str | None:
        """Moves with events that make no item, too; None only before the first connection of a first run."""
        return None if self._position is None else str(self._position)

    async def __aiter__(self) -> AsyncGenerator[Item, None]:
        try:
            while True:
                connection = await self._connect()
                before = self._position
                async with connection, self._watched(connection):
                    async for item in self._items(connection):
                        yield item
                # An event that ends the connection comes first again: only what is new counts as success.
                if self._position != before:
                    self._waits = self._backoff.waits()
                await self._wait(next(self._waits))
        finally:
            self.state.phase = "stopped"

    async def _connect(self) -> ClientConnection:
        """Tries server after server, the last one used first, and waits after each round."""
        for round_number in range(1, 1 << 62):
            refusals = []
            for server in tuple(self._servers):
                self.state.phase, self.state.detail = "connecting", f"connecting to {server.name}"
                try:
                    connection = await server.open(self._position)
                except Refused as refusal:
                    refusals.append(refusal)
                    self.state.rate_limits += refusal.status == 429
                    self._servers.rotate(-1)
                else:
                    self._note_connection(server)
                    return connection
            reasons = "; ".join(map(str, refusals))
            never_there = not self._was_connected and all(refusal.is_network for refusal in refusals)
            if all(refusal.is_final for refusal in refusals) or (never_there and round_number == FRUITLESS_ROUNDS):
                raise SourceUnreachable(
                    f"{SOURCE} cannot be read: {reasons}; check the network, or name another --host"
                )
            asked_for = max(refusal.retry_after_s for refusal in refusals)
            await self._wait(max(next(self._waits), asked_for), reasons)
        raise AssertionError("endless")

    async def _wait(self, wait_s: float, reason: str = "") -> None:
        self.state.phase = "waiting"
        self.state.detail = f"{reason or self.state.detail}, again in {wait_s:g} s"
        log.info("%s: %s", SOURCE, self.state.detail)
        await self._sleep(wait_s)

    def _note_connection(self, server: Server) -> None:
        self.state.phase, self.state.detail = "live", f"connected to {server}"
        log.info("%s: %s", SOURCE, self.state.detail)
        self.state.reconnects += self._was_connected
        self._was_connected = True
        if self._position is None:
            # What happens from now on is not to be missed, though no event has said yet where we are.
            self._position = Position.now()
        elif (gap := server.gap_after(self._position)) is not None:
            self._note_gap(gap)

    async def _items(self, connection: ClientConnection) -> AsyncGenerator[Item, None]:
        """Ends with the connection, the reason in state.detail."""
        server = self._servers[0]
        try:
            while True:
                self._is_waiting = True
                frame = await connection.recv(decode=False)
                self._is_waiting = False
                if (item := self._read(frame, server)) is not None:
                    yield item
        except ConnectionClosed as closed:
            self.state.detail = f"{server.name} closed the connection ({closed.rcvd or 'without a word'})"
        except StreamEnded as ended:
            self.state.detail = f"{server.name} ended the stream: {ended}"

    def _read(self, frame: bytes, server: Server) -> Item | None:
        try:
            event = server.decode(frame)
        except MalformedEvent as error:
            log.debug("malformed event of %s: %s", server.name, error)
            return Skipped(reason="malformed event")
        if isinstance(event, Notice):
            if event.name == "OutdatedCursor":
                self._note_gap(f"{server.name}: {event.message or event.name}")
            return None
        return self._take(event, server)

    def _take(self, event: Event, server: Server) -> Item | None:
        self.state.events += 1
        self._position = server.position_after(event)
        item = self._reader.item_of(event)
        if isinstance(item, str):
            self.state.skipped[item] += 1
            return None
        commit = event.commit
        if commit is not None and not self._recent.is_new(f"{event.did}/{commit.rkey}/{commit.rev}"):
            self.state.skipped["seen before a reconnect"] += 1
            return None
        self.state.lag_s = max(0.0, (Position.now().time_us - event.time_us) / 1e6)
        return item

    def _note_gap(self, gap: str) -> None:
        if gap not in self.state.gaps:
            self.state.gaps.append(gap)
            log.warning("%s: events were lost: %s", SOURCE, gap)

    @asynccontextmanager
    async def _watched(self, connection: ClientConnection) -> AsyncIterator[None]:
        watch = asyncio.create_task(self._watch(connection))
        try:
            yield
        finally:
            watch.cancel()
            await asyncio.wait({watch})

    async def _watch(self, connection: ClientConnection) -> None:
        """Ends a connection on which nothing moves, which TCP does not notice; a slow reader is no reason."""
        quiet_s, events = 0.0, self.state.events
        with contextlib.suppress(ConnectionClosed):
            while quiet_s < self._quiet_s or len(self._servers) == 1:
                await asyncio.sleep(self._silence_s)
                if not self._is_waiting or self.state.events != events:
                    quiet_s, events = 0.0, self.state.events
                    continue
                quiet_s += self._silence_s
                try:
                    async with asyncio.timeout(self._silence_s):
                        await (await connection.ping())
                except TimeoutError:
                    break
            self._servers.rotate(-1)
            connection.transport.abort()


class Recent:
    """Knows the last `size` events, or up to twice as many, so that what comes again after a reconnect is told."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._new: set[str] = set()
        self._old: set[str] = set()

    def is_new(self, event: str) -> bool:
        if event in self._new or event in self._old:
            return False
        if len(self._new) >= self._size:
            self._old, self._new = self._new, set()
        self._new.add(event)
        return True


def _parsed(cursor: str) -> Position:
    try:
        return Position.parse(cursor)
    except ValueError as error:
        raise BadSource(f"{cursor!r} is no cursor of {SOURCE}: delete the kept cursor to start now") from error
