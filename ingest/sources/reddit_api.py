"""Reddit's OAuth API: a token renewed in time, and requests spread over the rate window so that it is never met."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import msgspec

from ingest.errors import BadCredentials, BadSource
from ingest.sources.lanes import Sleep
from ingest.sources.live import UNREADABLE
from ingest.sources.patient_http import Answer, TryAgain, ask, refusal
from ingest.sources.reddit_things import Thing, Unreadable, read_listing

CLIENT_ID: Final = "MOODSTREAM_REDDIT_CLIENT_ID"
CLIENT_SECRET: Final = "MOODSTREAM_REDDIT_CLIENT_SECRET"
WHERE: Final = "make an app of type script at https://www.reddit.com/prefs/apps"
AUTH_URL: Final = "https://www.reddit.com"
API_URL: Final = "https://oauth.reddit.com"
USER_AGENT: Final = "python:moodstream:0.1 (read-only sentiment monitor)"
"""In the form Reddit asks for; libraries' own names are throttled."""
INTERVAL_S: Final = 0.6
"""Between requests while no answer has told the limit: 100 a minute."""
RESERVE: Final = 2
"""Requests of a window that are left alone: the counts of parallel requests are a little late."""
RENEW_BEFORE_S: Final = 120.0


class RedditApi:
    """Listings, one request at a time. Raises TryAgain, BadCredentials and BadSource."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        client_id: str,
        client_secret: str,
        auth_url: str,
        api_url: str,
        sleep: Sleep,
        deadline_s: float,
    ) -> None:
        self._client, self._auth = client, (client_id, client_secret)
        self._auth_url, self._api_url = auth_url, api_url
        self._sleep, self._deadline_s = sleep, deadline_s
        self._turn = asyncio.Lock()
        self._token: str | None = None
        self._token_ends = 0.0
        self._asked_at = float("-inf")
        self._remaining: float | None = None
        self._window_ends = 0.0

    async def listing(self, path: str, **params: str) -> list[Thing | Unreadable]:
        """Things of a listing, as Reddit orders them: newest first."""
        async with self._turn:
            answer = await self._get(path, params)
            if answer.status == 401:  # a token may end before its time
                self._token = None
                answer = await self._get(path, params)
        self._check(answer, path)
        with suppress(*UNREADABLE):
            return read_listing(answer.body)
        raise TryAgain("an answer that is no listing")

    async def _get(self, path: str, params: dict[str, str]) -> Answer:
        if self._token is None or self._now() >= self._token_ends:
            await self._renew_token()
        await self._wait_for_turn()
        answer = await ask(
            self._client,
            "GET",
            self._api_url + path,
            params={**params, "raw_json": "1"},  # else & < > in texts and addresses come as entities
            headers={"Authorization": f"Bearer {self._token}"},
            deadline_s=self._deadline_s,
        )
        self._note_limits(answer.headers)
        return answer

    def _check(self, answer: Answer, path: str) -> None:
        if answer.status in (401, 403) and _reason(answer.body) not in ("private", "quarantined", "gold_only"):
            raise BadCredentials(
                f"Reddit refuses the app of {CLIENT_ID} (HTTP {answer.status}): check it at {WHERE.rpartition(' ')[2]}"
            )
        if answer.status in (403, 404) or "/subreddits/search" in urlsplit(answer.url).path:
            raise BadSource(f"Reddit has no public {path.rpartition('/')[0].strip('/')}: check the names")
        if answer.status != 200:
            raise refusal(answer.status, answer.headers)

    async def _renew_token(self) -> None:
        answer = await ask(
            self._client,
            "POST",
            f"{self._auth_url}/api/v1/access_token",
            form={"grant_type": "client_credentials"},
            auth=self._auth,
            deadline_s=self._deadline_s,
        )
        if answer.status in (400, 401, 403):
            raise BadCredentials(
                f"Reddit does not know {CLIENT_ID} with this {CLIENT_SECRET}: {WHERE}, copy both again"
            )
        if answer.status != 200:
            raise refusal(answer.status, answer.headers)
        granted = _object(answer.body)
        token, lasts_s = granted.get("access_token"), granted.get("expires_in", 3600)
        if not isinstance(token, str) or not isinstance(lasts_s, int | float):
            raise BadCredentials(f"Reddit gives no token for {CLIENT_ID}: {WHERE}, and copy id and secret again")
        self._token, self._token_ends = token, self._now() + max(0.0, lasts_s - RENEW_BEFORE_S)

    async def _wait_for_turn(self) -> None:
        """Spreads what is left of the window over what is left of its time."""
        now = self._now()
        interval_s = INTERVAL_S
        if self._remaining is not None and self._window_ends > now:
            spare, left_s = self._remaining - RESERVE, self._window_ends - now
            interval_s = left_s / spare if spare >= 1 else left_s
            if spare < 1:
                self._remaining, self._asked_at = None, now
        if (wait_s := self._asked_at + interval_s - now) > 0:
            await self._sleep(wait_s)
        self._asked_at = self._now()

    def _note_limits(self, headers: httpx.Headers) -> None:
        with suppress(KeyError, ValueError):
            self._remaining = float(headers["x-ratelimit-remaining"])
            self._window_ends = self._now() + float(headers["x-ratelimit-reset"])

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _reason(body: bytes) -> Any:
    return _object(body).get("reason")


def _object(body: bytes) -> dict[str, Any]:
    with suppress(*UNREADABLE):
        return msgspec.json.decode(body, type=dict[str, Any])
    return {}
