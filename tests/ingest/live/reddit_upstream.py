"""Reddit's token endpoint and listings, and the adapter that puts scripts into a subreddit's new posts."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiohttp import web

from ingest.authors import AuthorHash
from ingest.sources.items import LiveSource
from ingest.sources.reddit import Reddit
from tests.ingest.live.http_stream import Handler, refused
from tests.ingest.live.http_upstream import HttpUpstream
from tests.ingest.live.upstream import (
    READ_TIMEOUT_S,
    Create,
    Delete,
    Edit,
    Event,
    Malformed,
    text_of,
    time_of,
)

CLIENT: Final = ("made-up-client-of-reddit", "made-up-secret-of-reddit")
TOKEN: Final = "made-up-token-of-reddit"
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_MALFORMED: Final[tuple[Any, ...]] = (
    "a string",
    {"kind": "t3"},
    {"kind": "t3", "data": {"name": "t3_!!", "created_utc": 1.0}},
    {"kind": "t3", "data": {"name": "t3_zz", "created_utc": "yesterday"}},
    {"kind": "more", "data": {"children": ["a", "b"]}},
)


def base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits or "0"


def name_of(number: int, kind: str = "t3") -> str:
    return f"{kind}_{base36(10_000_000 + number)}"


def made_up_post(number: int, *, edit: int = 0, pictures: int = 0, **changes: Any) -> dict[str, Any]:
    """A post as a listing gives it."""
    name = name_of(number)
    created_utc = time_of(number).timestamp()
    image = {
        "source": {"url": f"https://preview.redd.it/{name}.jpg?s=source", "width": 1600, "height": 1200},
        "resolutions": [
            {"url": f"https://preview.redd.it/{name}.jpg?width={width}", "width": width, "height": width * 3 // 4}
            for width in (108, 216, 320, 640, 960)
        ],
    }
    return (
        {
            "name": name,
            "created_utc": created_utc,
            "edited": created_utc + 10 * edit if edit else False,
            "author": "ann",
            "author_fullname": "t2_77",
            "subreddit": "trams",
            "title": text_of(number, edit),
            "selftext": "",
            "selftext_html": None,
            "permalink": f"/r/trams/comments/{name[3:]}/a_tram/",
            "url": f"https://i.redd.it/{name}.jpg" if pictures else f"https://www.reddit.com/r/trams/{name}",
            "is_self": not pictures,
            "over_18": False,
            "score": 3,
        }
        | ({"post_hint": "image", "preview": {"images": [image]}} if pictures else {})
        | changes
    )


def listing(children: Sequence[Any]) -> dict[str, Any]:
    return {"kind": "Listing", "data": {"after": None, "before": None, "children": list(children)}}


class RedditUpstream(HttpUpstream):
    """One subreddit. Every poll of its new posts moves the script on to its next break."""

    name = "reddit"
    resumes = True
    edits = False  # seen by asking again minutes later: see test_reddit.py
    deletes = False
    polled = True
    credentials = (*CLIENT, TOKEN)
    malformed = len(_MALFORMED)

    def __init__(self) -> None:
        super().__init__()
        self._is_revoked = False  # a token that ends is renewed: a 401 that lasts is an app that is gone

    def routes(self) -> Mapping[str, Handler]:
        return {
            "POST /api/v1/access_token": self._token,
            "GET /r/trams/new": self._new,
            "GET /r/trams/comments": self._comments,
            "GET /api/info": self._comments,
        }

    def open(self, *, cursor: str | None = None) -> LiveSource:
        return Reddit(
            authors=AuthorHash(b"key"),
            subreddits=("r/trams",),
            client_id=CLIENT[0],
            client_secret=CLIENT[1],
            auth_url=self.address,
            api_url=self.address,
            cursor=cursor,
            sleep=self.waits,
            deadline_s=READ_TIMEOUT_S,
        )

    def post_id(self, number: int) -> str:
        return f"reddit:{name_of(number)}"

    def render(self, event: Event, place: int) -> bytes:
        match event:
            case Create(number, pictures):
                return json.dumps({"kind": "t3", "data": made_up_post(number, pictures=pictures)}).encode()
            case Edit(number, edit):
                return json.dumps({"kind": "t3", "data": made_up_post(number, edit=edit)}).encode()
            case Malformed(variant):
                return json.dumps(_MALFORMED[variant]).encode()
            case _:
                return b""

    def children(self) -> list[Any]:
        """Newest first, as the log stands."""
        found: dict[str, Any] = {}
        for place, event in enumerate(self.stage.log):
            if isinstance(event, Delete):
                found.pop(name_of(event.number), None)
            elif data := self.render(event, place):
                key = name_of(event.number) if isinstance(event, Create | Edit) else str(place)
                found[key] = json.loads(data)
        return list(found.values())[::-1]

    async def _token(self, request: web.Request) -> web.Response:
        basic = base64.b64encode(":".join(CLIENT).encode()).decode()
        form = await request.post()
        is_known = request.headers.get("Authorization") == f"Basic {basic}" and not self._is_revoked
        if not is_known or form["grant_type"] != "client_credentials":
            return web.json_response({"message": "Unauthorized", "error": 401}, status=401)
        return web.json_response({"access_token": TOKEN, "token_type": "bearer", "expires_in": 86400, "scope": "*"})

    async def _comments(self, request: web.Request) -> web.Response:
        return web.json_response(listing([]))

    async def _new(self, request: web.Request) -> web.StreamResponse:
        assert request.headers["Authorization"] == f"Bearer {TOKEN}"
        self.stage.connected += 1
        try:
            return await self._answer(request)
        finally:
            self.stage.connected -= 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if (refusal := self.stage.refusal()) is not None:
            self._is_revoked = self._is_revoked or refusal.status == 401
            return refused(request, refusal)
        end = self.stage.poll()
        children = self.children()
        if before := request.query.get("before"):
            names = [
                child["data"].get("name") if isinstance(child, dict) and "data" in child else "" for child in children
            ]
            children = children[: names.index(before)] if before in names else []
        body = json.dumps(listing(children)).encode()
        headers = {"Content-Type": "application/json", "X-Ratelimit-Remaining": "900", "X-Ratelimit-Reset": "500"}
        return await self.answer_poll(request, body, end, headers=headers)
