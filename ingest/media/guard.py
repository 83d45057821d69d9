"""Which hosts are asked for pictures, and which addresses are dialled for them.

Whoever writes a post chooses its links. So a host must be on a list; its name is resolved for every new connection,
every address of the answer must belong to the public internet, and just those numbers are dialled: a name that answers
otherwise the second time (DNS rebinding) gains nothing, and a private address is never even knocked at. (That knock,
a TCP connection made before the check, is why this is not left to httpx-secure 2.0.)
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final

import httpcore
import httpx

from ingest.errors import BadSettings, MediaUnavailable

MAX_URL: Final = 4096
MAX_ADDRESSES: Final = 4
RESOLVER_THREADS: Final = 4

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

# What `ipaddress` calls global though no picture can lie there; its verdict also differs between Python versions.
_NOT_PUBLIC_4: Final = tuple(map(IPv4Network, ("192.0.0.0/24", "192.88.99.0/24", "224.0.0.0/4", "240.0.0.0/4")))
_NOT_PUBLIC_6: Final = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
_UNICAST_6: Final = IPv6Network("2000::/3")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_HOST: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*|[0-9a-f:]+(\.[0-9]+)*")
"""A name (with no dot at its end, which would be a second spelling of it) or an address, with no zone."""


def is_public(address: str) -> bool:
    """Can this address be any machine of the public internet's, also through the IPv4 address within it?

    Tunnels (6to4, Teredo) and local NAT64 prefixes, which lead to private IPv4 addresses as well, are not.
    """
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv6Address):
        if ip.scope_id is not None:
            return False
        if ip in _NAT64:  # how an IPv6-only network sees public IPv4 hosts
            ip = IPv4Address(ip.packed[-4:])
        elif ip not in _UNICAST_6 or any(ip in network for network in _NOT_PUBLIC_6):
            return False
    if isinstance(ip, IPv4Address) and any(ip in network for network in _NOT_PUBLIC_4):
        return False
    return ip.is_global


class AllowList:
    """Hosts that may be asked: "host", "*.host" (any under it), and "host:port", which the user vouches for.

    The first two are reached over https, at port 443, on public addresses; the third also over http and anywhere.
    Raises BadSettings naming an entry that is none of the three.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._hosts: set[str] = set()
        self._parents: set[str] = set()
        self._trusted: set[tuple[str, int]] = set()
        for entry in entries:
            self.add(entry.strip())

    def add(self, entry: str) -> None:
        """Raises BadSettings."""
        name = entry.removeprefix("*.")
        try:
            url = httpx.URL(f"any://{name}/")
            host = host_of(url)
        except (httpx.InvalidURL, ValueError):
            url, host = httpx.URL(), ""
        wild = name != entry
        bare = url.raw_path == b"/" and not url.userinfo and not url.query and not url.fragment
        if not _HOST.fullmatch(host) or not bare or (wild and (url.port is not None or "." not in host)):
            raise BadSettings(
                f"media host {entry!r} cannot be used: give a host (cdn.example.org), all hosts under one "
                "(*.example.org), or a host and port that you vouch for (127.0.0.1:8000)"
            )
        if url.port is not None:
            self._trusted.add((host, url.port))
        else:
            (self._parents if wild else self._hosts).add(host)

    def trusts(self, host: str, port: int) -> bool:
        return (host, port) in self._trusted

    def admit(self, link: str, *, referrer: httpx.URL | None = None) -> httpx.URL:
        """The URL of a link, relative to what redirected to it. Raises MediaUnavailable if it must not be asked."""
        url = _parsed(link, referrer)
        host, port = host_of(url), url.port or {"https": 443, "http": 80}.get(url.scheme, 0)
        if url.userinfo:
            raise MediaUnavailable("credentials in URL", host)
        if url.scheme not in ("http", "https"):
            raise MediaUnavailable("not https", f"{url.scheme}://{host}")
        if self.trusts(host, port):
            if referrer is not None and (referrer.scheme, url.scheme) == ("https", "http"):
                raise MediaUnavailable("not https", f"{host_of(referrer)} redirects to http://{host}")
            return url
        if host not in self._hosts and not any(parent in self._parents for parent in _parents(host)):
            raise MediaUnavailable("host not allowed", host)
        if url.scheme != "https":
            raise MediaUnavailable("not https", f"http://{host}")
        if port != 443:
            raise MediaUnavailable("port not allowed", f"{host}:{port}")
        return url


def _parsed(link: str, referrer: httpx.URL | None) -> httpx.URL:
    if len(link) > MAX_URL:
        raise MediaUnavailable("bad URL", f"{len(link):,} characters; at most {MAX_URL:,} are read")
    try:
        url = httpx.URL(link) if referrer is None else referrer.join(link)
    except (httpx.InvalidURL, ValueError) as error:  # ValueError: characters that no encoding takes
        raise MediaUnavailable("bad URL", str(error)) from error
    if not _HOST.fullmatch(host_of(url)):
        raise MediaUnavailable("bad URL", f"{link[:80]!r} names no host")
    return url


def host_of(url: httpx.URL) -> str:
    """The host as it is resolved: lower case, international names in their ASCII form (`url.host` fails on some)."""
    return url.raw_host.decode("ascii")


def _parents(host: str) -> list[str]:
    labels = host.split(".")
    return [".".join(labels[start:]) for start in range(1, len(labels))]


class SystemResolver:
    """The operating system's resolver, in threads of its own: a slow name server must not hold up other work."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, "resolver")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        answer = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return [str(address[0]) for *_, address in answer]

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Opens connections to checked addresses only; all connections of a transport go through here."""

    def __init__(self, allowed: AllowList, resolve: Resolve) -> None:
        self._allowed, self._resolve = allowed, resolve
        self._dial = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._addresses(host, port)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"no answer for the name {host}") from error
        each_s = None if timeout is None else timeout / max(1, len(addresses))
        problem: Exception | None = None
        for address in addresses:
            try:
                return await self._dial.connect_tcp(address, port, each_s, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                problem = error
        raise problem or httpcore.ConnectError(f"{host} has no address")

    async def _addresses(self, host: str, port: int) -> Sequence[str]:
        try:
            addresses = list(dict.fromkeys(await self._resolve(host, port)))
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"no address for the name {host}: {error}") from error
        if not self._allowed.trusts(host, port):
            # One private address among public ones is an attack or a mistake; the others are not tried either.
            private = [address for address in addresses if not is_public(address)]
            if private:
                raise MediaUnavailable("address not public", f"{host} is at {private[0]}")
        return addresses[:MAX_ADDRESSES]

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Body(httpx.AsyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


class GuardedTransport(httpx.AsyncBaseTransport):
    """httpx over a `GuardedBackend`, by public interfaces alone, so no release of httpx can lose the guard unnoticed.

    Raises httpcore's errors as they are.
    """

    def __init__(self, backend: GuardedBackend, *, max_connections: int) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(trust_env=False),
            max_connections=max_connections,
            keepalive_expiry=30.0,
            network_backend=backend,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        response = await self._pool.handle_async_request(
            httpcore.Request(
                request.method,
                httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(
            response.status, headers=response.headers, stream=_Body(response.stream), extensions=response.extensions
        )

    async def aclose(self) -> None:
        await self._pool.aclose()
