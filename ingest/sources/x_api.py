"""X's HTTP API: one client, what its refusals mean, and how long to wait before the next try.

The waits are those X asks for: https://docs.x.com/x-api/fundamentals/handling-disconnections
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Literal, TypeVar

import httpx
import msgspec

from ingest.errors import BadCredentials, BadSource, SourceUnreachable
from ingest.sources.live import UNREADABLE, Backoff, SourceState

API: Final = "https://api.x.com"
TOKEN: Final = "MOODSTREAM_X_TOKEN"
GET_TOKEN: Final = "copy the bearer token of your app from https://console.x.com"
USER_AGENT: Final = f"moodstream (python httpx/{httpx.__version__})"
CONNECT_TIMEOUT_S: Final = 10.0
READ_TIMEOUT_S: Final = 21.0
"""X sends a keep-alive at least every 20 s."""
WINDOW_S: Final = 900.0
"""Rate limits count by 15 minutes: no reset is further away, whatever a clock says."""
ATTEMPTS_AT_START: Final = 5
"""A host never reached is given up after so many; one that was there before is tried for ever."""
MAX_ERROR_BYTES: Final = 1 << 16
MAX_REASON: Final = 200
"""What msgspec raises for bytes that are not the JSON they should be."""

Cause = Literal["network", "http", "rate limit"]
WAITS: Final[dict[Cause, Backoff]] = {
    "network": Backoff(first=0.0, step=0.25, ceiling=16.0),
    "http": Backoff(first=5.0, factor=2.0, ceiling=320.0),
    "rate limit": Backoff(first=60.0, factor=2.0, ceiling=WINDOW_S),
}
Sleep = Callable[[float], Awaitable[object]]
_T = TypeVar("_T")

log = logging.getLogger(__name__)


class TryAgain(Exception):
    """What time may mend; `cause` picks the table of waits, `reset_s` is in how many seconds X listens again.

    by_x: X itself answered, rather than a broken network or somebody's login page.
    """

    def __init__(self, problem: str, cause: Cause, *, reset_s: float = 0.0, by_x: bool = True) -> None:
        self.problem, self.cause, self.reset_s, self.by_x = problem, cause, reset_s, by_x
        super().__init__(problem)


class NoRules(TryAgain):
    """A stream without rules, or whose rules are not in effect yet."""


class Retries:
    """Waits after failures in a row, and says in `state` what for. was_reached: the host is known to be there."""

    def __init__(self, host: str, state: SourceState, sleep: Sleep, *, was_reached: bool = False) -> None:
        self._host, self._state, self._sleep = host, state, sleep
        self._was_reached = was_reached
        self._start_anew()

    def succeeded(self) -> None:
        """The next failure is a first one again."""
        self._was_reached = True
        self._start_anew()

    def _start_anew(self) -> None:
        self._failures = 0
        self._waits: dict[Cause, Iterator[float]] = {cause: table.waits() for cause, table in WAITS.items()}

    async def after(self, failure: TryAgain) -> None:
        """Raises SourceUnreachable if the host was never reached and does not look as if it will be."""
        self._failures += 1
        self._state.rate_limits += failure.cause == "rate limit"
        self._was_reached = self._was_reached or failure.by_x
        if not self._was_reached and self._failures >= ATTEMPTS_AT_START:
            raise SourceUnreachable(
                f"{self._host} cannot be reached ({failure.problem}): check the network and the host's name"
            )
        wait_s = max(next(self._waits[failure.cause]), failure.reset_s)
        self._state.phase = "waiting"
        self._state.detail = (
            f"{self._host}: {failure.problem}, again {f'in {wait_s:.0f} s' if wait_s >= 1 else 'at once'}"
        )
        if wait_s >= WAITS[failure.cause].ceiling:
            self._state.detail += f"; attempt {self._failures} in a row has failed, see https://docs.x.com/status"
        level = logging.WARNING if wait_s >= WAITS[failure.cause].ceiling else logging.INFO
        log.log(level, "%s", self._state.detail)
        if wait_s > 0:
            await self._sleep(wait_s)

    async def persist(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """The call's result, once it has one."""
        while True:
            try:
                result = await call()
            except TryAgain as failure:
                await self.after(failure)
            else:
                self.succeeded()
                return result


def open_client(token: str, base_url: str, *, read_timeout_s: float) -> httpx.AsyncClient:
    """No redirects are followed: they would take the token elsewhere."""
    return httpx.AsyncClient(
        base_url=base_url,
        # Of compressions only the one X is known to send line by line.
        headers={"Authorization": f"Bearer {token}", "User-Agent": USER_AGENT, "Accept-Encoding": "gzip"},
        timeout=httpx.Timeout(CONNECT_TIMEOUT_S, read=read_timeout_s, pool=None),
    )


async def call(
    client: httpx.AsyncClient,
    method: str,
    path: str,
    *,
    params: Mapping[str, str],
    body: object = None,
    tolerated: Container[int] = (),
) -> dict[str, Any]:
    """One request with a JSON answer. Raises what refusal() makes of a status that is not tolerated."""
    async with stream(client, method, path, params=params, json=body, tolerated=tolerated) as response:
        try:
            answer = msgspec.json.decode(await response.aread())
        except UNREADABLE as error:
            raise TryAgain(f"{path} answers with no JSON", "http") from error
    return answer if isinstance(answer, dict) else {}


@asynccontextmanager
async def stream(
    client: httpx.AsyncClient,
    method: str,
    path: str,
    *,
    params: Mapping[str, str],
    json: object = None,
    tolerated: Container[int] = (),
) -> AsyncIterator[httpx.Response]:
    """An accepted answer, still to be read; whatever breaks, while it is read too, is raised as TryAgain."""
    try:
        async with client.stream(method, path, params=params, json=json) as response:
            if not response.is_success and response.status_code not in tolerated:
                raise refusal(response, await _start_of(response))
            yield response
    except httpx.ReadTimeout as error:
        raise TryAgain("nothing came, not even a keep-alive", "network", by_x=False) from error
    except httpx.RequestError as error:
        raise TryAgain(str(error) or type(error).__name__, "network", by_x=False) from error


def reset_s(headers: Mapping[str, str]) -> float:
    """Seconds until the rate limit's window ends; 0 where X does not say."""
    try:
        left = float(headers["x-rate-limit-reset"]) - time.time()
    except (KeyError, ValueError):
        return 0.0
    return min(max(left, 0.0), WINDOW_S)


def refusal(response: httpx.Response, body: bytes) -> Exception:
    """What an answer other than 2xx asks for: another try, other credentials, or somebody's attention."""
    status, path = response.status_code, response.url.path
    problem = _problem(body)
    said = f"HTTP {status}" + (f": {sentence(problem)}" if problem else "")
    if response.is_redirect:
        target = httpx.URL(response.headers.get("location", "")).host
        return TryAgain(f"HTTP {status} to {target or 'nowhere'}, which is not followed", "http", by_x=False)
    if status == httpx.codes.UNAUTHORIZED:
        return BadCredentials(f"X does not know the token in {TOKEN} ({said}): {GET_TOKEN} again")
    if status == httpx.codes.FORBIDDEN:
        return BadCredentials(f"X does not let this app read {path} ({said}): see its access at https://console.x.com")
    if status == httpx.codes.PAYMENT_REQUIRED or is_cap(problem):
        return out_of_posts(said)
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return TryAgain(said, "rate limit", reset_s=reset_s(response.headers))
    if status == httpx.codes.CONFLICT:
        return NoRules(said, "http")
    if response.is_server_error or status == httpx.codes.REQUEST_TIMEOUT:
        return TryAgain(said, "http")
    return BadSource(f"{response.url.host} does not take the request for {path} ({said}): is this X's API v2?")


def is_cap(problem: Mapping[str, Any]) -> bool:
    """The month's posts are read, which looks like a rate limit but does not pass by itself."""
    return str(problem.get("type")).endswith("/usage-capped")


def out_of_posts(said: str) -> SourceUnreachable:
    return SourceUnreachable(
        f"X gives no more posts for this app's credits or cap ({said}): add credits at https://console.x.com, "
        "or wait for the next billing cycle"
    )


def sentence(problem: Mapping[str, Any]) -> str:
    """One short line of one of X's problem objects."""
    words = (problem.get(key) for key in ("details", "detail", "message", "title"))
    said = next(filter(None, words), "no reason given")
    text = "; ".join(map(str, said)) if isinstance(said, list) else str(said)
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= MAX_REASON else f"{line[:MAX_REASON]}…"


async def _start_of(response: httpx.Response) -> bytes:
    body = b""
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_ERROR_BYTES:
            break
    return body


def _problem(body: bytes) -> dict[str, Any]:
    try:
        answer = msgspec.json.decode(body)
    except UNREADABLE:
        return {}
    return first_problem(answer) if isinstance(answer, dict) else {}


def first_problem(answer: dict[str, Any]) -> dict[str, Any]:
    """The problem object, which may be the whole answer or the first of its `errors`."""
    errors = answer.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        return errors[0]
    return answer
