"""Mastodon: public, local and hashtag timelines of one or several servers, as server-sent events.

The stream of a server has no memory; after a pause its timelines (REST) give what was missed. Statuses federated to
several servers are one post. Deletions name the server's own number only: which post it is, is remembered for as long
as the process lives; after a restart a deletion finds posts written on that very server, and those read since.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import httpx
from httpx_sse import ServerSentEvent, aconnect_sse

from ingest.authors import AuthorHash
from ingest.contract import Deletion
from ingest.sources.items import Item, Kind, LiveSource, Skipped
from ingest.sources.lanes import Lane, Lanes, Sleep
from ingest.sources.live import MAX_AGE, Backoff, SourceState
from ingest.sources.mastodon_server import Channel, Server, address, order, statuses_in, tokens_in
from ingest.sources.mastodon_status import MALFORMED, SOURCE, Status, draft_of, is_number, own_id, read_status
from ingest.sources.patient_http import LiveLines, TryAgain, ask, open_client, problem_of, refusal
from ingest.sources.seen import Seen

if TYPE_CHECKING:  # it opens this source
    from ingest.sources.detect import SourceOptions

DEFAULT_SERVERS: Final = ("https://mastodon.social",)
DEFAULT_CHANNELS: Final = ("public",)
SILENCE_S: Final = 30.0
"""Servers send :thump every 15 s."""
BACKOFF: Final = Backoff(first=1.0, factor=2.0, ceiling=120.0)
OVERLAP_S: Final = 120
"""A status that federated late is numbered by when it was written: a refill starts this much before the last one."""
SEAM_S: Final = 10
"""The same for the few seconds until the stream is open."""
PAGE: Final = 40
MAX_PAGES: Final = 1_000
"""The most that is refilled: 40,000 statuses."""
FAST_PAGES: Final = 20
PAGE_PAUSE_S: Final = 1.0
"""After so many pages: a server allows 300 requests in five minutes."""
RECHECKED: Final = 200
RECHECK_PAGE: Final = 20
_STATUS_EVENTS: Final = frozenset({"update", "status.update"})


class Mastodon:
    """Timelines of Mastodon servers.

    servers: their addresses; channels: `public`, `local`, `hashtag:NAME`, read on each; tokens: server host → token;
    skip_bots: pass over accounts that call themselves automated (mirrors, weather): nobody's mood.
    silence_s: a connection without a line for so long is lost.
    """

    name = SOURCE
    kind: Kind = "live"

    def __init__(
        self,
        *,
        authors: AuthorHash,
        servers: Sequence[str] = DEFAULT_SERVERS,
        channels: Sequence[str] = DEFAULT_CHANNELS,
        tokens: Mapping[str, str] | None = None,
        cursor: str | None = None,
        skip_bots: bool = True,
        backoff: Backoff = BACKOFF,
        sleep: Sleep = asyncio.sleep,
        silence_s: float = SILENCE_S,
    ) -> None:
        self.state = SourceState()
        self._lanes = Lanes(self.state, backoff=backoff, sleep=sleep, cursor=cursor)
        self._authors, self._skip_bots, self._silence_s, self._sleep = authors, skip_bots, silence_s, sleep
        self._servers = [Server(address(server), tokens or {}) for server in servers]
        self.media_hosts = tuple(host for server in self._servers for host in server.media_hosts)
        self._channels = [Channel(channel) for channel in channels]
        self._seen = Seen()

    @property
    def cursor(self) -> str | None:
        """Number of the last status, per server and channel."""
        return self._lanes.cursor

    async def __aiter__(self) -> AsyncGenerator[Item, None]:
        self._seen = Seen()  # what was read but not handed on is read again
        async with open_client(timeout_s=self._silence_s) as client:
            readers = {
                f"{server.host} {channel.name}": partial(self._read, client, server, channel)
                for server in self._servers
                for channel in self._channels
            }
            async with aclosing(self._lanes.read(readers)) as items:
                async for item in items:
                    yield item

    async def _read(self, client: httpx.AsyncClient, server: Server, channel: Channel, lane: Lane) -> None:
        """Reads one stream until it breaks off; before, what was missed, the bulk of it while no stream has to wait."""
        if lane.position is not None:
            lane.say("connecting", "reading what was missed")
            await self._refill(client, server, channel, lane, overlap_s=OVERLAP_S)
        url = await server.streaming_url(client) + channel.stream
        headers = {**server.headers, "Accept-Encoding": "identity"}
        try:
            async with (
                asyncio.timeout(self._silence_s) as patience,
                aconnect_sse(client, "GET", url, params=channel.params, headers=headers) as events,
            ):
                patience.reschedule(None)  # the answer has begun
                response = events.response
                if response.status_code != 200:
                    server.ask_again()
                    raise server.refused(response.status_code, response.headers)
                if "text/event-stream" not in response.headers.get("content-type", ""):
                    raise TryAgain("an answer that is no event stream")
                assert isinstance(response.stream, httpx.AsyncByteStream)
                response.stream = LiveLines(response.stream, silence_s=self._silence_s, skipped=self.state.skipped)
                was_reached = lane.is_reached
                lane.answered()
                if lane.position is None:
                    await self._start_here(client, server, channel, lane)
                else:
                    await self._refill(client, server, channel, lane, overlap_s=SEAM_S)
                if was_reached:
                    await self._recheck(client, server, lane)
                lane.live(f"connected to {server.host}")
                async with aclosing(events.aiter_sse()) as stream:
                    async for event in stream:
                        await self._take(event, server, lane)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            server.ask_again()
            raise TryAgain(problem_of(error)) from None
        raise TryAgain("closed by the server")

    async def _take(self, event: ServerSentEvent, server: Server, lane: Lane) -> None:
        if event.event in _STATUS_EVENTS:
            await self._take_status(read_status(event.data), server, lane)
        elif event.event == "delete":
            await self._take_deletion(event.data.strip(), server, lane)
        else:
            self.state.skipped["event of another kind"] += 1

    async def _take_status(self, status: Status | None, server: Server, lane: Lane) -> None:
        if status is None:
            await lane.put(Skipped(reason=MALFORMED, item=lane.name))
            return
        position = status.id if order(status.id) > order(lane.position or "") else None
        item = draft_of(status, server.host, authors=self._authors, skip_bots=self._skip_bots)
        if not isinstance(item, Skipped):
            server.remember(status.id, item.post.id)
            if not self._seen.is_news(item.post.id, item.post.revision):
                self.state.skipped["read before"] += 1
                await lane.put(None, position)
                return
        await lane.put(item, position)

    async def _take_deletion(self, number: str, server: Server, lane: Lane) -> None:
        if not is_number(number):
            await lane.put(Skipped(reason="malformed deletion", item=lane.name))
            return
        name = server.post_ids.get(number) or own_id(server.host, number)
        if not self._seen.is_new_deletion(name):
            self.state.skipped["read before"] += 1
            return
        now = datetime.now(UTC)
        await lane.put(Deletion(source=SOURCE, post_id=name, deleted_at=now, ingested_at=now))

    async def _start_here(self, client: httpx.AsyncClient, server: Server, channel: Channel, lane: Lane) -> None:
        """Takes the newest status as the position, so that a pause before the first event is refilled too."""
        answer = await ask(
            client,
            "GET",
            server.url + channel.timeline,
            params={**channel.timeline_params, "limit": "1"},
            headers=server.headers,
        )
        if answer.status == 200:
            await lane.put(None, max((status.id for status in statuses_in(answer.body)), key=order, default="0"))
        else:
            lane.gap(f"what is written during pauses will be missing: the timeline answers HTTP {answer.status}")

    async def _refill(
        self, client: httpx.AsyncClient, server: Server, channel: Channel, lane: Lane, *, overlap_s: int
    ) -> None:
        """What was written since `lane.position`, oldest first, and within the time a live post may be old."""
        newest = _before(lane.position, overlap_s)
        if order(newest) > order(lane.position):
            lane.gap(f"posts after {lane.position} that are more than two days old are left out")
        for page in range(MAX_PAGES):
            if page >= FAST_PAGES:
                await self._sleep(PAGE_PAUSE_S)
            params = {**channel.timeline_params, "limit": str(PAGE), "min_id": newest}
            answer = await ask(client, "GET", server.url + channel.timeline, params=params, headers=server.headers)
            if answer.status == 429 or answer.status >= 500:
                raise refusal(answer.status, answer.headers)  # connects again later, and goes on from here
            if answer.status != 200:
                lane.gap(f"posts since {lane.position} may be missing: the timeline answers HTTP {answer.status}")
                return
            later = [status for status in statuses_in(answer.body) if order(status.id) > order(newest)]
            if not later:
                return
            for status in later:
                await self._take_status(status, server, lane)
            newest = later[-1].id
        lane.gap(f"posts after {newest} are missing: more than {PAGE * MAX_PAGES} in one pause")

    async def _recheck(self, client: httpx.AsyncClient, server: Server, lane: Lane) -> None:
        """Edits and deletions made during a pause, of the statuses read last (Mastodon 4.3 and later)."""
        known = [number for number, name in server.post_ids.items() if not self._seen.is_deleted(name)][-RECHECKED:]
        for start in range(0, len(known), RECHECK_PAGE):
            numbers = known[start : start + RECHECK_PAGE]
            url = f"{server.url}/api/v1/statuses"
            answer = await ask(client, "GET", url, params={"id[]": numbers}, headers=server.headers)
            found = statuses_in(answer.body)
            if answer.status != 200 or not found:  # an older server, or one that cannot say now
                lane.gap(f"edits and deletions of a pause may be missing: HTTP {answer.status} when asked for them")
                return
            for status in found:
                await self._take_status(status, server, lane)
            for number in set(numbers) - {status.id for status in found}:
                await self._take_deletion(number, server, lane)


def open_mastodon(options: SourceOptions) -> LiveSource:
    """`options.hosts` are the servers, `options.channels` what to read on each; a token is optional."""
    servers = options.hosts or DEFAULT_SERVERS
    return Mastodon(
        authors=options.authors,
        servers=servers,
        channels=options.channels or DEFAULT_CHANNELS,
        tokens=tokens_in(options.environ, [urlsplit(address(server)).netloc for server in servers]),
        cursor=options.cursor,
    )


def _before(number: str, seconds: int) -> str:
    """The number a status written so much earlier would have: Mastodon's are milliseconds, shifted by 16 bits."""
    if not number.isdigit() or len(number) < 17:
        return number
    oldest = int((datetime.now(UTC) - MAX_AGE).timestamp() * 1000) << 16
    return str(max(oldest, int(number) - (seconds * 1000 << 16)))
