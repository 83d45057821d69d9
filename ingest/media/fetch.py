"""Links of posts → picture bytes, asked for politely and within limits; what is refused says why and is counted."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import httpcore
import httpx

from ingest.errors import MediaUnavailable
from ingest.media.guard import AllowList, GuardedBackend, GuardedTransport, Resolve, SystemResolver, host_of
from ingest.media.hosts import ASKED_REST_S, Host, Hosts
from ingest.media.sanitize import MAGIC_BYTES, MAX_BYTES, kind_of
from ingest.retry_after import retry_after_s

CONNECT_S: Final = 3.0
TOTAL_S: Final = 8.0
"""From the call to the last byte: waiting for a turn, names, redirects and all."""
MAX_REDIRECTS: Final = 3
AT_ONCE: Final = 16
AT_ONCE_PER_HOST: Final = 4
CACHE_BYTES: Final = 32 << 20

_TYPES: Final = {
    "image/jpeg": "JPEG",
    "image/jpg": "JPEG",
    "image/pjpeg": "JPEG",
    "image/png": "PNG",
    "image/webp": "WEBP",
    "image/gif": "GIF",
}
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class MediaFetcher:
    """Fetches pictures of the hosts in `allowed` (see AllowList) and of no others; an async context manager.

    fetched, cached: pictures given out, and how many of them were at hand; refused: counts by reason.
    resolve: name and port → addresses; clock: seconds, for the rests of hosts that fail.
    """

    def __init__(
        self,
        *,
        allowed: Sequence[str],
        connect_s: float = CONNECT_S,
        total_s: float = TOTAL_S,
        max_bytes: int = MAX_BYTES,
        at_once: int = AT_ONCE,
        at_once_per_host: int = AT_ONCE_PER_HOST,
        cache_bytes: int = CACHE_BYTES,
        resolve: Resolve | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.fetched = self.cached = 0
        self.refused: Counter[str] = Counter()
        self._total_s, self._max_bytes = total_s, max_bytes
        self._allowed = AllowList(allowed)
        self._hosts = Hosts(at_once=at_once_per_host, clock=clock)
        self._slots = asyncio.Semaphore(at_once)
        self._cache = _Cache(cache_bytes)
        self._resolver = SystemResolver()
        backend = GuardedBackend(self._allowed, resolve or self._resolver)
        self._client = httpx.AsyncClient(
            transport=GuardedTransport(backend, max_connections=2 * at_once),
            headers={"User-Agent": _user_agent(), "Accept": ", ".join(_TYPES), "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(total_s, connect=connect_s),
            follow_redirects=False,  # each target is checked first, in _follow
            trust_env=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),  # takes none
        )

    async def __aenter__(self) -> MediaFetcher:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._client.aclose()
        self._resolver.close()

    def resting_hosts(self) -> list[str]:
        """Hosts left alone just now, for having failed too often or asked for it."""
        return self._hosts.resting()

    def allow(self, entry: str) -> None:
        """One host more, as in `allowed`. Raises BadSettings."""
        self._allowed.add(entry)

    async def fetch(self, url: str) -> bytes:
        """The bytes of a JPEG, PNG, WEBP or GIF, by what they begin with; nothing more is known of them.

        Raises MediaUnavailable.
        """
        data = self._cache.get(url)
        if data is not None:
            self.cached += 1
        else:
            try:
                data = await self._follow(url, asyncio.get_running_loop().time() + self._total_s)
            except MediaUnavailable as error:
                self.refused[error.reason] += 1
                raise
            self._cache.put(url, data)
        self.fetched += 1
        return data

    async def _follow(self, link: str, deadline: float) -> bytes:
        url = self._allowed.admit(link)
        for _ in range(1 + MAX_REDIRECTS):
            answer = await self._ask(url, deadline)
            if isinstance(answer, bytes):
                return answer
            url = self._allowed.admit(answer, referrer=url)
        raise MediaUnavailable("too many redirects", f"{link[:200]}: more than {MAX_REDIRECTS}")

    async def _ask(self, url: httpx.URL, deadline: float) -> bytes | str:
        """The picture, or where the host sends us."""
        host = self._hosts[host_of(url)]
        _check_rest(host, url)
        # The host's turn comes first: those who wait for a slow one must not hold the turns of all others.
        async with _Turn(host.slots, deadline, "host too busy"), _Turn(self._slots, deadline, "too many at once"):
            _check_rest(host, url)  # it may have failed while we waited
            try:
                with _translated(url):
                    async with asyncio.timeout_at(deadline), self._client.stream("GET", url) as response:
                        answer = await self._read(response)
            except _HostFailed as error:
                host.failed(error.rest_s)
                raise
            except MediaUnavailable:
                host.answered()  # a refusal of ours says nothing against it
                raise
            host.answered()
            return answer

    async def _read(self, response: httpx.Response) -> bytes | str:
        _check_status(response)
        if response.status_code in _REDIRECTS:
            return response.headers["location"]
        kind = _declared_kind(response)
        self._check_length(int(response.headers.get("content-length", 0)))
        body = bytearray()
        async for part in response.aiter_raw():
            body += part
            self._check_length(len(body))
            if len(body) >= MAGIC_BYTES:
                _check_start(body, kind)
        if not body:
            raise MediaUnavailable("empty", str(response.url))
        _check_start(body, kind)
        return bytes(body)

    def _check_length(self, length: int) -> None:
        if length > self._max_bytes:
            raise MediaUnavailable("too large", f"{length:,} bytes; at most {self._max_bytes:,} are read")


class _HostFailed(MediaUnavailable):
    """The host is in trouble, or wants to be left alone for `rest_s`."""

    def __init__(self, reason: str, detail: str, *, rest_s: float | None = None) -> None:
        self.rest_s = rest_s
        super().__init__(reason, detail)


class _Turn:
    """A place in a semaphore, waited for until `deadline`."""

    def __init__(self, slots: asyncio.Semaphore, deadline: float, reason: str) -> None:
        self._slots, self._deadline, self._reason = slots, deadline, reason

    async def __aenter__(self) -> None:
        try:
            async with asyncio.timeout_at(self._deadline):
                await self._slots.acquire()
        except TimeoutError as error:
            raise MediaUnavailable(self._reason) from error

    async def __aexit__(self, *exc_info: object) -> None:
        self._slots.release()


class _Cache:
    """The pictures used last, by URL: memes repeat."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._pictures: OrderedDict[str, bytes] = OrderedDict()

    def get(self, url: str) -> bytes | None:
        if url in self._pictures:
            self._pictures.move_to_end(url)
        return self._pictures.get(url)

    def put(self, url: str, data: bytes) -> None:
        self._bytes += len(data) - len(self._pictures.pop(url, b""))
        self._pictures[url] = data
        while self._bytes > self._max_bytes:
            self._bytes -= len(self._pictures.popitem(last=False)[1])


@contextmanager
def _translated(url: httpx.URL) -> Iterator[None]:
    """What the transport raises, as errors of ours."""
    try:
        yield
    except (TimeoutError, httpcore.TimeoutException) as error:
        raise _HostFailed("too slow", host_of(url)) from error
    except httpcore.NetworkError as error:
        raise _HostFailed("no connection", f"{host_of(url)}: {error}") from error
    except (httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
        raise _HostFailed("broken response", f"{host_of(url)}: {error}") from error
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:  # what httpx thinks of a redirect's target
        raise MediaUnavailable("broken response", f"{host_of(url)}: {error}") from error


def _check_rest(host: Host, url: httpx.URL) -> None:
    if host.is_resting:
        raise MediaUnavailable("host resting", f"{host_of(url)} failed too often, or asked for it")


def _check_status(response: httpx.Response) -> None:
    """Passes 200 and a redirect with a target."""
    status, headers = response.status_code, response.headers
    if status in (429, 503):
        raise _HostFailed(f"HTTP {status}", str(response.url), rest_s=retry_after_s(headers) or ASKED_REST_S)
    if status >= 500:
        raise _HostFailed(f"HTTP {status}", str(response.url))
    if status != 200 and not (status in _REDIRECTS and headers.get("location")):
        raise MediaUnavailable(f"HTTP {status}", str(response.url))


def _declared_kind(response: httpx.Response) -> str:
    """Pillow's name of the format that the headers promise."""
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        # We asked for none; unpacked, a few kilobytes of it can be gigabytes.
        raise MediaUnavailable("content encoding", coding[:80])
    declared = response.headers.get("content-type", "none").partition(";")[0].strip().lower()
    if declared not in _TYPES:
        raise MediaUnavailable("content type", f"{declared[:80]}; {', '.join(_TYPES)} are read")
    return _TYPES[declared]


def _check_start(body: bytearray, declared: str) -> None:
    kind = kind_of(body)
    if kind != declared:
        raise MediaUnavailable("not what its type says", f"{declared} promised, {kind or 'no picture'} came")


def _user_agent() -> str:
    try:
        return f"Moodstream/{version('moodstream')} (sentiment monitor; reads the pictures of public posts)"
    except PackageNotFoundError:  # run from a source tree
        return "Moodstream (sentiment monitor; reads the pictures of public posts)"
