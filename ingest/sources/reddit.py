"""Reddit: new posts and comments of subreddits, polled through the OAuth API.

Reddit tells of no edits or deletions: what was read in the last two days is asked for again from time to time, soon
after it came and ever less often. After a restart that holds for those that are still listed.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final

from ingest.authors import AuthorHash
from ingest.contract import Deletion
from ingest.errors import BadCredentials, BadSource
from ingest.sources.items import Draft, Item, Kind, LiveSource, Skipped
from ingest.sources.lanes import Lane, Lanes, Sleep
from ingest.sources.live import MAX_AGE, Backoff, SourceState, secret
from ingest.sources.patient_http import DEADLINE_S, TryAgain, open_client
from ingest.sources.rechecks import Check, Rechecks
from ingest.sources.reddit_api import API_URL, AUTH_URL, CLIENT_ID, CLIENT_SECRET, USER_AGENT, WHERE, RedditApi
from ingest.sources.reddit_things import MALFORMED, MEDIA_HOSTS, SOURCE, Thing, Unreadable, draft_of, order, post_id
from ingest.sources.seen import Seen

if TYPE_CHECKING:  # it opens this source
    from ingest.sources.detect import SourceOptions

BACKOFF: Final = Backoff(first=2.0, factor=2.0, ceiling=600.0)
PAGE: Final = 100
MAX_PAGES: Final = 10
"""Reddit's listings end after 1,000 things."""
GROUP: Final = 50
"""Subreddits read by one request, as r/a+b+c."""
FASTEST_POLL_S: Final = 2.0
SLOWEST_POLL_S: Final = 30.0
BUSY: Final = 50
"""With so many new things in one poll the next one comes sooner."""
FULL_EVERY: Final = 20
RECHECK_EVERY_S: Final = 30.0
_SUBREDDIT: Final = re.compile(r"(?:/?r/)?(\w{2,21})")


class Reddit:
    """Posts and comments of subreddits.

    subreddits: their names, with or without r/. deadline_s: an answer that takes longer is given up.
    now: clock by which posts are due to be asked for again, in seconds.
    """

    name = SOURCE
    kind: Kind = "live"
    media_hosts = MEDIA_HOSTS

    def __init__(
        self,
        *,
        authors: AuthorHash,
        subreddits: Sequence[str],
        client_id: str,
        client_secret: str,
        auth_url: str = AUTH_URL,
        api_url: str = API_URL,
        cursor: str | None = None,
        backoff: Backoff = BACKOFF,
        sleep: Sleep = asyncio.sleep,
        deadline_s: float = DEADLINE_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state = SourceState()
        self._lanes = Lanes(self.state, backoff=backoff, sleep=sleep, cursor=cursor)
        self._groups = _groups(subreddits)
        self._authors, self._sleep, self._deadline_s, self._now = authors, sleep, deadline_s, now
        self._id, self._secret = client_id, client_secret
        self._auth_url, self._api_url = auth_url, api_url
        self._seen = Seen()
        self._rechecks = Rechecks()

    @property
    def cursor(self) -> str | None:
        """Name of the newest thing, per listing."""
        return self._lanes.cursor

    async def __aiter__(self) -> AsyncGenerator[Item, None]:
        self._seen, self._rechecks = Seen(), Rechecks()  # what was read but not handed on is read again
        async with open_client(timeout_s=self._deadline_s, user_agent=USER_AGENT) as client:
            api = RedditApi(
                client,
                client_id=self._id,
                client_secret=self._secret,
                auth_url=self._auth_url,
                api_url=self._api_url,
                sleep=self._sleep,
                deadline_s=self._deadline_s,
            )
            paths = [f"/r/{group}/{kind}" for group in self._groups for kind in ("new", "comments")]
            readers = {path: partial(self._watch_listing, api, path) for path in paths}
            again = partial(self._watch_again, api)
            async with aclosing(self._lanes.read(readers, aside=again)) as items:
                async for item in items:
                    yield item

    async def _watch_listing(self, api: RedditApi, path: str, lane: Lane) -> None:
        """Polls one listing for ever, at a pace between FASTEST_POLL_S and SLOWEST_POLL_S."""
        listing = _Listing(api, path, lane)
        pause_s = FASTEST_POLL_S
        while True:
            things = await listing.news()
            lane.answered()
            lane.live(f"reading {path}")
            for thing in things:
                await self._take(thing, lane)
            if len(things) >= BUSY:
                pause_s = max(FASTEST_POLL_S, pause_s / 2)
            elif not things:
                pause_s = min(SLOWEST_POLL_S, pause_s * 1.5)
            await self._sleep(pause_s)

    async def _take(self, thing: Thing | Unreadable, lane: Lane) -> None:
        if isinstance(thing, Unreadable):
            if self._seen.is_news(thing.digest, 0):
                await lane.put(Skipped(reason=MALFORMED, item=lane.name))
            return
        newest = thing.name if lane.position is None or order(thing.name) > order(lane.position) else None
        name = post_id(thing.name)
        is_known = name in self._seen
        item = draft_of(thing, authors=self._authors)
        is_news = self._seen.is_news(name, item.post.revision if isinstance(item, Draft) else 0)
        if isinstance(item, Draft) and not is_known:
            self._rechecks.watch(thing.name, self._now())
        await lane.put(item if is_news else None, newest)

    async def _watch_again(self, api: RedditApi, lane: Lane) -> None:
        """Looks for edits and deletions of what was read."""
        while True:
            while due := self._rechecks.due(self._now(), PAGE):
                await self._recheck(due, api, lane)
            await self._sleep(RECHECK_EVERY_S)

    async def _recheck(self, due: list[Check], api: RedditApi, lane: Lane) -> None:
        try:
            things = await api.listing("/api/info", id=",".join(check.name for check in due))
        except (TryAgain, BadCredentials):  # asked again later, either way
            for check in reversed(due):
                self._rechecks.failed(check)
            raise
        lane.answered()
        found = {thing.name: thing for thing in things if isinstance(thing, Thing)}
        for check in due:
            thing = found.get(check.name)
            if thing is not None or len(due) == 1 or found:  # none of many: rather a mishap than all deleted
                await self._take_again(check.name, thing, lane)
            if not self._seen.is_deleted(post_id(check.name)):
                self._rechecks.checked(check, self._now())

    async def _take_again(self, name: str, thing: Thing | None, lane: Lane) -> None:
        if thing is not None and not thing.is_gone:
            item = draft_of(thing, authors=self._authors)
            if not isinstance(item, Skipped) and self._seen.is_news(item.post.id, item.post.revision):
                await lane.put(item)
        elif self._seen.is_new_deletion(post_id(name)):
            now = datetime.now(UTC)
            await lane.put(Deletion(source=SOURCE, post_id=post_id(name), deleted_at=now, ingested_at=now))


class _Listing:
    """A listing read forward from `lane.position`."""

    def __init__(self, api: RedditApi, path: str, lane: Lane) -> None:
        self._api, self._path, self._lane = api, path, lane
        self._polls = 0

    async def news(self) -> list[Thing | Unreadable]:
        """What came since, oldest first, and perhaps some things that were read before; at first the newest page.

        A run that goes on where another stopped reads all that may be watched for edits and deletions once more.
        """
        self._polls += 1
        if (anchor := self._lane.position) is None:
            things = await self._page()
        elif self._polls == 1:
            things = await self._back_to(anchor, is_whole=True)
        else:
            things = await self._after(anchor)
            # Behind a thing that was removed, or is too old, Reddit finds nothing, ever; and what was approved late
            # stands among the older things.
            if not things or self._polls % FULL_EVERY == 0:
                things += await self._back_to(anchor)
        return sorted(things, key=lambda thing: order(thing.name) if isinstance(thing, Thing) else 0)

    async def _page(self, **where: str) -> list[Thing | Unreadable]:
        return await self._api.listing(self._path, limit=str(PAGE), **where)

    async def _after(self, anchor: str) -> list[Thing | Unreadable]:
        found: list[Thing | Unreadable] = []
        for _ in range(MAX_PAGES):
            page = await self._page(before=anchor)
            found += page
            if len(page) < PAGE:
                break
            anchor = max(_names(page), key=order, default=anchor)
        return found

    async def _back_to(self, anchor: str, *, is_whole: bool = False) -> list[Thing | Unreadable]:
        """From the newest to `anchor`, or `is_whole`: on to those of two days ago."""
        found: list[Thing | Unreadable] = []
        where: dict[str, str] = {}
        for _ in range(MAX_PAGES):
            page = await self._page(**where)
            found += page
            names = _names(page)
            is_there = bool(names) and min(map(order, names)) <= order(anchor)
            if len(page) < PAGE or not names or (is_there and not (is_whole and _is_recent(page))):
                return found
            where = {"after": names[-1]}
        if not is_there:
            self._lane.gap(f"things between {anchor} and {names[-1]} are missing: Reddit lists the newest 1,000 only")
        return found


def _is_recent(page: list[Thing | Unreadable]) -> bool:
    oldest = min(thing.created_utc for thing in page if isinstance(thing, Thing))
    return oldest > datetime.now(UTC).timestamp() - MAX_AGE.total_seconds()


def _names(page: list[Thing | Unreadable]) -> list[str]:
    return [thing.name for thing in page if isinstance(thing, Thing)]


def open_reddit(options: SourceOptions) -> LiveSource:
    """`options.channels` are the subreddits; `options.hosts`: one server that stands for all of Reddit's."""
    client_id, client_secret = (secret(options.environ, name, where=WHERE) for name in (CLIENT_ID, CLIENT_SECRET))
    if len(options.hosts) > 1:
        raise BadSource(f"--host: Reddit is one server, not {len(options.hosts)}; leave it out")
    auth_url, api_url = (options.hosts[0].rstrip("/"),) * 2 if options.hosts else (AUTH_URL, API_URL)
    return Reddit(
        authors=options.authors,
        subreddits=options.channels,
        client_id=client_id,
        client_secret=client_secret,
        auth_url=auth_url,
        api_url=api_url,
        cursor=options.cursor,
    )


def _groups(subreddits: Sequence[str]) -> list[str]:
    """Names joined as one request reads them. Raises BadSource."""
    names = []
    for subreddit in subreddits:
        found = _SUBREDDIT.fullmatch(subreddit)
        if found is None:
            raise BadSource(f"{subreddit!r} is no subreddit: write r/NAME")
        names.append(found[1].lower())
    if not names:
        raise BadSource("Reddit has no firehose: name the subreddits to read, such as r/movies")
    names = sorted(set(names))
    return ["+".join(names[start : start + GROUP]) for start in range(0, len(names), GROUP)]
