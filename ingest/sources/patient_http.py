"""HTTP with servers that may stall, drip or never end: each read has a deadline and a limit in bytes."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Final, NamedTuple

import httpx

from ingest.retry_after import retry_after_s

logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs whole addresses, and some have a key in them

USER_AGENT: Final = "moodstream/0.1 (sentiment monitor, reads public posts)"
MAX_REDIRECTS: Final = 5
MAX_BODY_BYTES: Final = 16 << 20
MAX_EVENT_BYTES: Final = 2 << 20
DEADLINE_S: Final = 30.0


class TryAgain(Exception):
    """The upstream cannot be read now.

    problem: short, without secrets; after_s: the wait it asks for; is_there: it would answer, at another time;
    is_rate_limit: it was asked too often.
    """

    def __init__(
        self, problem: str, *, after_s: float | None = None, is_there: bool = False, is_rate_limit: bool = False
    ) -> None:
        self.problem, self.after_s, self.is_there, self.is_rate_limit = problem, after_s, is_there, is_rate_limit
        super().__init__(problem)


class Answer(NamedTuple):
    """A whole answer; `url` is where redirects led, moved: for good."""

    status: int
    headers: httpx.Headers
    body: bytes
    url: str
    moved: bool = False


def open_client(
    *, timeout_s: float = DEADLINE_S, user_agent: str = USER_AGENT, follow_redirects: bool = True
) -> httpx.AsyncClient:
    """A client that follows a few redirects, or none; httpx keeps credentials from other hosts on the way."""
    return httpx.AsyncClient(
        timeout=httpx.Timeout(timeout_s, connect=min(10.0, timeout_s), pool=None),
        headers={"User-Agent": user_agent},
        follow_redirects=follow_redirects,
        max_redirects=MAX_REDIRECTS,
        limits=httpx.Limits(max_connections=None),  # one open stream per channel
    )


async def ask(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    params: Mapping[str, str | list[str]] | None = None,
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
    auth: tuple[str, str] | None = None,
    deadline_s: float = DEADLINE_S,
) -> Answer:
    """The answer, of any status. Raises TryAgain if none comes in time, or one of more than MAX_BODY_BYTES."""
    has_begun = False
    try:
        async with (
            asyncio.timeout(deadline_s),
            client.stream(method, url, params=params, headers=headers, data=form, auth=auth) as response,
        ):
            body, has_begun = bytearray(), True
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise TryAgain(f"an answer of more than {MAX_BODY_BYTES >> 20} MiB")
            moved = bool(response.history) and all(step.status_code in (301, 308) for step in response.history)
            return Answer(response.status_code, response.headers, bytes(body), str(response.url), moved)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        raise TryAgain(problem_of(error), is_there=has_begun) from None


def problem_of(error: Exception) -> str:
    """One line that is safe to show: an error's own text may quote the request, and with it a token."""
    match error:
        case httpx.TooManyRedirects():
            return "redirects in a circle"
        case httpx.ConnectTimeout() | httpx.ConnectError():
            return "no connection"
        case TimeoutError() | httpx.TimeoutException():
            return "no answer in time"
        case httpx.RemoteProtocolError() | httpx.ReadError():
            return "connection lost"
        case _:
            return f"unusable answer ({type(error).__name__})"


def refusal(status: int, headers: httpx.Headers) -> TryAgain:
    """What an unwanted status means for a source that tries again; one that is asked too often is there."""
    phrase = f"HTTP {status}"
    with suppress(ValueError):
        phrase += f" {HTTPStatus(status).phrase}"
    is_rate_limit = status == HTTPStatus.TOO_MANY_REQUESTS
    return TryAgain(phrase, after_s=retry_after_s(headers), is_there=is_rate_limit, is_rate_limit=is_rate_limit)


class LiveLines(httpx.AsyncByteStream):
    """The bytes of an event stream for as long as whole lines keep coming; comment lines are counted as heartbeats.

    silence_s: a line has to end within this time, so that a dripping server is given up like a silent one; only time
    spent waiting for the server counts.
    Raises httpx.ReadTimeout when it does not, httpx.ReadError for an event without end.
    """

    def __init__(self, stream: httpx.AsyncByteStream, *, silence_s: float, skipped: Counter[str]) -> None:
        self._stream, self._silence_s, self._skipped = stream, silence_s, skipped
        self._line = bytearray()
        self._event_bytes = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = aiter(self._stream)
        clock = asyncio.get_running_loop().time
        waited = 0.0
        while True:
            began = clock()
            try:
                async with asyncio.timeout(self._silence_s - waited):
                    chunk = await anext(chunks, None)
            except TimeoutError:
                raise httpx.ReadTimeout(f"no whole line for {self._silence_s:.0f} s") from None
            if chunk is None:
                return
            waited = 0.0 if self._ends_line(chunk) else waited + clock() - began
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()

    def _ends_line(self, chunk: bytes) -> bool:
        self._line += chunk
        self._event_bytes += len(chunk)
        ends = b"\n" in chunk
        if ends:
            *lines, rest = self._line.split(b"\n")
            self._line = rest
            for line in lines:
                if line.startswith(b":"):
                    self._skipped["heartbeat"] += 1
                if not line.strip():
                    self._event_bytes = len(rest)
        if self._event_bytes > MAX_EVENT_BYTES:
            raise httpx.ReadError(f"an event of more than {MAX_EVENT_BYTES >> 20} MiB")
        return ends
