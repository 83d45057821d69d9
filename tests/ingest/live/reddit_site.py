"""Reddit under a test's hand: listings of things, a rate limit that counts, tokens that end."""

from __future__ import annotations

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from tests.ingest.live.http_stream import http_server
from tests.ingest.live.reddit_upstream import listing

LISTED = 1000


class RedditSite:
    """new, comments: listings, newest first, `things`: all that /api/info knows, by name.

    tokens: how many were granted; only the last one is good. refusals: path → status, as JSON says why.
    """

    def __init__(self) -> None:
        self.address = ""
        self.new: list[dict[str, Any]] = []
        self.comments: list[dict[str, Any]] = []
        self.things: dict[str, dict[str, Any]] = {}
        self.refusals: dict[str, tuple[int, dict[str, Any]]] = {}
        self.redirects: dict[str, str] = {}
        self.limits: dict[str, str] = {}
        self.tokens = 0
        self.lasts_s = 86400
        self.requests: list[web.Request] = []
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        routes = {"POST /api/v1/access_token": self._token, "GET /{path:.*}": self._answer}
        self.address = await self._exits.enter_async_context(http_server(routes))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._exits.aclose()

    def write(self, *things: dict[str, Any]) -> None:
        """Oldest first."""
        for thing in things:
            (self.comments if thing["name"].startswith("t1_") else self.new).insert(0, thing)
            self.things[thing["name"]] = thing

    def remove(self, name: str) -> None:
        """From its listing; /api/info still knows it."""
        self.new = [thing for thing in self.new if thing["name"] != name]

    async def _token(self, request: web.Request) -> web.Response:
        if (refusal := self.refusals.get(request.path)) is not None:
            return web.json_response(refusal[1], status=refusal[0])
        self.tokens += 1
        return web.json_response({"access_token": f"made-up-{self.tokens}", "expires_in": self.lasts_s})

    async def _answer(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        if (refusal := self.refusals.get(request.path)) is not None:
            return web.json_response(refusal[1], status=refusal[0], headers=self.limits)
        if (there := self.redirects.get(request.path)) is not None:
            raise web.HTTPFound(there)
        if request.headers.get("Authorization") != f"Bearer made-up-{self.tokens}":
            return web.json_response({"message": "Unauthorized", "error": 401}, status=401)
        return web.json_response(listing(self._children(request)), headers=self.limits)

    def _children(self, request: web.Request) -> list[dict[str, Any]]:
        if request.path == "/api/info":
            asked = request.query["id"].split(",")
            assert len(asked) <= 100
            things = [self.things[name] for name in asked if name in self.things]
        else:
            things = self._page(self.comments if request.path.endswith("comments") else self.new, request)
        return [{"kind": thing["name"][:2], "data": thing} for thing in things]

    def _page(self, things: list[dict[str, Any]], request: web.Request) -> list[dict[str, Any]]:
        listed, limit = things[:LISTED], int(request.query["limit"])
        names = [thing["name"] for thing in listed]
        if before := request.query.get("before"):
            place = names.index(before) if before in names else 0
            return listed[max(0, place - limit) : place]
        after = request.query.get("after")
        start = names.index(after) + 1 if after in names else 0
        return listed[start : start + limit]
