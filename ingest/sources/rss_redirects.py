"""Redirects of a feed, followed by hand: a site must not send us into the network we run in.

Only the host the user named may lie at a private address.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import httpx

from ingest.media.guard import Resolve, host_of, is_public
from ingest.sources.patient_http import MAX_REDIRECTS, Answer, TryAgain, ask, problem_of

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_FOR_GOOD = frozenset({301, 308})


class PrivateTarget(TryAgain):
    """A redirect leads to a host that is, also, at an address that is not public."""


async def follow(
    client: httpx.AsyncClient,
    address: str,
    *,
    own_url: str,
    headers: Mapping[str, str],
    resolve: Resolve,
    deadline_s: float,
) -> Answer:
    """The answer behind at most MAX_REDIRECTS; all of it within deadline_s. `client` follows none itself.

    own_url: what the user wrote; every other host is looked up before it is asked, also one the feed moved to for good.
    Raises PrivateTarget, and TryAgain as `ask` does.
    """
    clock = asyncio.get_running_loop().time
    ends_at = clock() + deadline_s
    moved = True
    try:
        url, own_host = httpx.URL(address), host_of(httpx.URL(own_url))
        for place in range(MAX_REDIRECTS + 1):
            if host_of(url) != own_host:
                async with asyncio.timeout(ends_at - clock()):
                    await _check(url, resolve)
            answer = await ask(client, "GET", str(url), headers=headers, deadline_s=ends_at - clock())
            target = answer.headers.get("location")
            if answer.status not in _REDIRECTS or not target:
                return answer._replace(moved=moved and place > 0)
            moved = moved and answer.status in _FOR_GOOD
            url = _joined(url, target)
    except (httpx.InvalidURL, ValueError, TimeoutError) as error:  # ValueError: characters that no encoding takes
        raise TryAgain(problem_of(error)) from None
    raise TryAgain("redirects in a circle")


async def _check(url: httpx.URL, resolve: Resolve) -> None:
    host = host_of(url)
    try:
        addresses = await resolve(host, url.port or {"http": 80}.get(url.scheme, 443))
    except (OSError, UnicodeError):
        raise TryAgain(f"a redirect to {host[:80]}, a name without address") from None
    if not addresses or not all(map(is_public, addresses)):
        raise PrivateTarget(f"a redirect to {host[:80]}, whose address is not public")


def _joined(url: httpx.URL, target: str) -> httpx.URL:
    """Where a redirect leads; a password in the feed's address goes along on the same host, never in the clear."""
    there = url.join(target)
    is_same = host_of(there) == host_of(url) and (there.scheme, there.port) in ((url.scheme, url.port), ("https", None))
    return there.copy_with(userinfo=url.userinfo) if is_same and not there.userinfo else there
