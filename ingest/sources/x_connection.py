"""One of X's endless answers, line by line, taken up again whenever it ends."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Final

import httpx
import msgspec

from ingest.sources.live import UNREADABLE, SourceState
from ingest.sources.x_api import (
    READ_TIMEOUT_S,
    NoRules,
    Retries,
    Sleep,
    TryAgain,
    first_problem,
    is_cap,
    out_of_posts,
    reset_s,
    sentence,
    stream,
)

MAX_LINE_BYTES: Final = 1 << 20
MAX_GAPS: Final = 100
MAX_BACKFILL_MINUTES: Final = 5

_MARKS: Final = (
    b"disconnect_type",
    b"connection_issue",
    b"/problems/operational-disconnect",
    b"/problems/usage-capped",
)


class Connection:
    """The stream at `path`.

    state: told of phases, reconnects and gaps. heard_at: when X gave its last sign of life; one of an earlier run says
    where backfill is to start. backfill_minutes: how far back X goes for this app; 0 is not at all. set_rules: called
    when X finds none; somebody may have deleted them.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        path: str,
        *,
        params: Mapping[str, str],
        state: SourceState,
        sleep: Sleep,
        read_timeout_s: float = READ_TIMEOUT_S,
        heard_at: datetime | None = None,
        backfill_minutes: int = 0,
        set_rules: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._client, self._path, self._params, self._state = client, path, params, state
        # The rules were set before, so X is there.
        self._retries = Retries(client.base_url.host, state, sleep, was_reached=True)
        self._read_timeout_s, self._backfill_minutes = read_timeout_s, backfill_minutes
        self._set_rules = set_rules
        self._was_connected = False
        self._closed_until = 0.0
        self.heard_at = heard_at

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """Every line but keep-alives, without end. Raises IngestError where trying again would not help."""
        while True:
            try:
                self._state.phase = "connecting"
                self._await_window()
                async with stream(self._client, "GET", self._path, params=self._request()) as response:
                    self._connected(response)
                    async with aclosing(self._complete_lines(response)) as lines:
                        async for line in lines:
                            _raise_if_ending(line)
                            # Not before: who takes connections only to drop them is not to be stormed.
                            self._retries.succeeded()
                            self.heard_at = datetime.now(UTC)
                            if line:
                                yield line
                raise TryAgain("the stream ended", "network")
            except TryAgain as failure:
                await self._retries.after(failure)
                if isinstance(failure, NoRules) and self._set_rules is not None:
                    await self._set_rules()

    def _await_window(self) -> None:
        """X asks not to provoke a 429: it says when the last connection of the window is used up."""
        left_s, self._closed_until = self._closed_until - time.monotonic(), 0.0
        if left_s > 0:
            raise TryAgain("no connection is left in this quarter of an hour", "http", reset_s=left_s)

    def _request(self) -> dict[str, str]:
        if not self._backfill_minutes or self.heard_at is None:
            return dict(self._params)
        minutes = math.ceil((datetime.now(UTC) - self.heard_at) / timedelta(minutes=1))
        return {**self._params, "backfill_minutes": str(max(1, min(minutes, self._backfill_minutes)))}

    def _connected(self, response: httpx.Response) -> None:
        if response.headers.get("x-rate-limit-remaining") == "0":
            self._closed_until = time.monotonic() + reset_s(response.headers)
        now = datetime.now(UTC)
        self._note_gap(now)
        self._state.reconnects += self._was_connected
        self._was_connected = True
        self.heard_at = now
        self._state.phase, self._state.detail = "live", f"connected to {self._client.base_url.host}"

    def _note_gap(self, now: datetime) -> None:
        """What was posted between the last sign of life and now is lost, as far as backfill does not reach."""
        end = now - timedelta(minutes=self._backfill_minutes)
        if self.heard_at is not None and self.heard_at < end:
            self._state.gaps.append(
                f"{self._path} from {self.heard_at:%Y-%m-%d %H:%M:%S} to {end:%Y-%m-%d %H:%M:%S} UTC "
                f"({(end - self.heard_at).total_seconds():.1f} s)"
            )
            del self._state.gaps[:-MAX_GAPS]

    async def _complete_lines(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        """Lines put together from chunks cut anywhere; keep-alives are empty ones.

        httpx waits for each chunk by itself; here a line that comes in too small pieces is given up.
        """
        rest = b""
        waiting_since = time.monotonic()
        async for chunk in response.aiter_bytes():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line.strip()
            if lines:
                waiting_since = time.monotonic()
            elif time.monotonic() - waiting_since > self._read_timeout_s:
                raise TryAgain("a line came too slowly", "network")
            if len(rest) > MAX_LINE_BYTES:
                raise TryAgain(f"a line of more than {MAX_LINE_BYTES} bytes", "network")


def _raise_if_ending(line: bytes) -> None:
    """Raises what a message stands for by which X ends the stream: TryAgain, or SourceUnreachable at the cap."""
    if not any(mark in line for mark in _MARKS):
        return
    try:
        message = msgspec.json.decode(line)
    except UNREADABLE:
        return
    if not isinstance(message, dict) or "data" in message:  # a post may speak of all this
        return
    problem = first_problem(message)
    if is_cap(problem):
        raise out_of_posts(sentence(problem))
    # Too many connections, or no rules, are not mended by coming again at once.
    raise TryAgain(sentence(problem), "http" if "connection_issue" in problem else "network")
