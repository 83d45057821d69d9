"""X: the filtered stream of API v2, and what X tells of deletions.

    stream ──▶ messages ──▶ drafts ──────────┐
    batch compliance (any app) ──▶ deletions ┼──▶ items       rules follow the topics, the budget ends it all
    compliance streams (Enterprise) ──▶  "   ┘

X does not give again what was posted while nobody listened, except to Enterprise apps (channel `backfill:N`): such
stretches are told as gaps. `cursor` is the time of the last post where there is backfill, else None.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Final

import httpx

from ingest.authors import AuthorHash
from ingest.errors import BadCredentials, BadSource, BadTopics
from ingest.sources import x_batch, x_rules
from ingest.sources.items import Draft, Item, Kind, Skipped
from ingest.sources.live import UNREADABLE, SourceState, secret
from ingest.sources.x_api import API, GET_TOKEN, READ_TIMEOUT_S, TOKEN, Retries, Sleep, open_client
from ingest.sources.x_batch import PostLog
from ingest.sources.x_budget import UsageCounter, open_counter, state_folder
from ingest.sources.x_compliance import PARTITIONS, STREAMS, SeenPosts
from ingest.sources.x_connection import MAX_BACKFILL_MINUTES, Connection
from ingest.sources.x_feeds import Feed, compliance, merged, optional
from ingest.sources.x_posts import FIELDS, MEDIA_HOST, Message, draft_of, read_message
from ingest.sources.x_rules import RuleChanges

if TYPE_CHECKING:
    from ingest.sources.detect import SourceOptions

STREAM: Final = "/2/tweets/search/stream"
COMPLIANCE: Final = "compliance"
BATCH: Final = "batch-compliance"
BACKFILL: Final = re.compile(rf"backfill:([1-{MAX_BACKFILL_MINUTES}])")
LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


class XStream:
    """Posts that match the topics' queries (topic → query), as X delivers them.

    with_compliance: read the compliance streams as well; post_log: where ids are kept for batch compliance, None to do
    without; backfill_minutes: how far back X goes for this app.
    """

    name = "x"
    kind: Kind = "live"
    media_hosts = (MEDIA_HOST,)

    def __init__(
        self,
        *,
        token: str,
        queries: Mapping[str, str],
        authors: AuthorHash,
        budget: UsageCounter,
        base_url: str = API,
        with_compliance: bool = False,
        post_log: PostLog | None = None,
        backfill_minutes: int = 0,
        cursor: str | None = None,
        read_timeout_s: float = READ_TIMEOUT_S,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.cursor = cursor
        self.state = SourceState()
        self._open = partial(open_client, token, base_url, read_timeout_s=read_timeout_s)
        self._connect = partial(
            Connection, sleep=sleep, read_timeout_s=read_timeout_s, backfill_minutes=backfill_minutes
        )
        self._queries, self._authors, self._budget = dict(queries), authors, budget
        self._with_compliance, self._post_log = with_compliance, post_log
        self._backfill_minutes = backfill_minutes
        self._sleep = sleep
        self._client: httpx.AsyncClient | None = None
        self._seen = SeenPosts()
        self._refused: Mapping[str, str] = {}
        self._compliance_states: list[SourceState] = []

    async def __aiter__(self) -> AsyncGenerator[Item, None]:
        try:
            self._budget.check()
            async with self._open() as client:
                await self._start_following(client)
                self._client = client
                async with aclosing(merged(list(self._feeds(client)))) as items:
                    async for item in items:
                        if self._backfill_minutes and isinstance(item, Draft):
                            self.cursor = item.post.ingested_at.isoformat()
                        yield item
        finally:
            self._client = None
            self._compliance_states.clear()
            self.state.phase = "stopped"
            self._budget.close()

    async def follow(self, queries: Mapping[str, str]) -> RuleChanges:
        """New topics: X's rules are changed while the stream goes on, or when it begins.

        Says which queries X does not take, and why.
        """
        self._queries = dict(queries)
        if (client := self._client) is None:
            return RuleChanges()
        return await self._set_rules(client, SourceState())

    async def _start_following(self, client: httpx.AsyncClient) -> None:
        """Raises BadTopics if X takes none of the queries; goes on with those it takes."""
        self.state.phase, self.state.detail = "connecting", "bringing X's rules in step with the topics"
        await self._set_rules(client, self.state)
        if self._refused and len(self._refused) == len(self._queries):
            topic, reason = next(iter(self._refused.items()))
            raise BadTopics(f"X does not take this query: {reason}", topic=topic, query=self._queries[topic])

    async def _set_rules(self, client: httpx.AsyncClient, state: SourceState) -> RuleChanges:
        retries = Retries(client.base_url.host, state, self._sleep)
        changes = await retries.persist(lambda: x_rules.follow(client, self._queries))
        self._refused = changes.refused
        return changes

    def _feeds(self, client: httpx.AsyncClient) -> Iterator[Feed]:
        yield self._posts(client)
        if self._post_log is not None:
            retries = Retries(client.base_url.host, SourceState(), self._sleep, was_reached=True)
            yield optional(x_batch.deletions(client, self._post_log, retries=retries, sleep=self._sleep), BATCH)
        if self._with_compliance:
            for path, partition in product(STREAMS, PARTITIONS):
                state = SourceState(gaps=self.state.gaps)
                self._compliance_states.append(state)
                connection = self._connect(client, path, params={"partition": str(partition)}, state=state)
                feed = compliance(connection, seen=self._seen, authors=self._authors, state=self.state)
                yield optional(feed, COMPLIANCE)

    async def _posts(self, client: httpx.AsyncClient) -> AsyncGenerator[Item, None]:
        connection = self._connect(
            client,
            STREAM,
            params=FIELDS,
            state=self.state,
            heard_at=self._stopped_at(),
            set_rules=partial(self._set_rules, client, self.state),
        )
        async with aclosing(connection.lines()) as lines:
            async for line in lines:
                for item in self._items(line):
                    yield item
                self._budget.check()

    def _stopped_at(self) -> datetime | None:
        """When the run before this one read its last post."""
        try:
            at = datetime.fromisoformat(self.cursor) if self.cursor is not None else None
        except ValueError:
            self.state.gaps.append("where the last run stopped cannot be read: this one starts now")
            return None
        return at if at is None or at.tzinfo is not None else at.replace(tzinfo=UTC)

    def _items(self, line: bytes) -> Iterable[Item]:
        self.state.events += 1
        try:
            message = read_message(line)
        except UNREADABLE:
            self.state.skipped["malformed message"] += 1
            self._budget.count(str(hash(line)))  # X may have billed it
            return
        if not message.posts:
            self.state.skipped["message of another kind"] += 1
        yield from self._drafts(message)

    def _drafts(self, message: Message) -> Iterable[Item]:
        at = datetime.now(UTC)
        for post in message.posts:
            self._budget.count(post.id)
            self._seen.add(post.versions)
            if self._post_log is not None:
                self._post_log.add(post.id, post.versions[0])
            self.state.detail = self._detail()
            draft = draft_of(post, message.includes, authors=self._authors, at=at)
            if isinstance(draft, Skipped):
                self.state.skipped[draft.reason] += 1
                continue
            if not draft.post.revision:  # an edit is as old as its post
                self.state.lag_s = (at - (draft.post.original_created_at or draft.post.created_at)).total_seconds()
            yield draft

    def _detail(self) -> str:
        detail = f"connected, {self._budget}"
        if down := sum(state.phase != "live" for state in self._compliance_states):
            detail += f", {down} of {len(self._compliance_states)} compliance streams down"
        if self._refused:
            detail += f", not followed: {', '.join(self._refused)}"
        return detail


def open_x(options: SourceOptions) -> XStream:
    """Raises BadCredentials, BadSource or BadSettings, naming what to set."""
    if not options.queries:
        raise BadSource("X sends only what matches a topic, and there is none: add one to topics.toml")
    token = secret(options.environ, TOKEN, where=GET_TOKEN)
    # httpx would quote a token it cannot put into a header in its error.
    if re.fullmatch(r"[\x21-\x7e]+", token) is None:
        raise BadCredentials(f"{TOKEN} has blanks or letters inside that no token has: {GET_TOKEN} again")
    backfill_minutes = _backfill_minutes(options.channels)
    folder = state_folder(options.environ)
    return XStream(
        token=token,
        queries=options.queries,
        authors=options.authors,
        budget=open_counter(options.environ, folder),
        base_url=_base_url(options.hosts),
        with_compliance=COMPLIANCE in options.channels,
        post_log=PostLog(folder / "x-posts") if BATCH in options.channels else None,
        backfill_minutes=backfill_minutes,
        cursor=options.cursor if backfill_minutes else None,
    )


def _backfill_minutes(channels: tuple[str, ...]) -> int:
    """Of a channel `backfill:N`, else 0. Raises BadSource for a channel X does not have."""
    minutes = 0
    for channel in channels:
        if (backfill := BACKFILL.fullmatch(channel)) is not None:
            minutes = int(backfill[1])
        elif channel not in (COMPLIANCE, BATCH):
            raise BadSource(
                f"--channel {channel}: X has {BATCH}, and for Enterprise apps {COMPLIANCE} and "
                f"backfill:1 to backfill:{MAX_BACKFILL_MINUTES} (minutes); what to read is what topics.toml asks for"
            )
    return minutes


def _base_url(hosts: tuple[str, ...]) -> str:
    if not hosts:
        return API
    try:
        url = httpx.URL(hosts[0])
    except httpx.InvalidURL as error:
        raise BadSource(f"--host {hosts[0]} is no URL: use {API} or leave it out") from error
    if len(hosts) > 1 or not url.host or not (url.scheme == "https" or url.host in LOOPBACK):
        raise BadSource(
            f"--host {' '.join(hosts)}: use one URL, with https so that the token does not go in the clear: {API}"
        )
    return hosts[0]
