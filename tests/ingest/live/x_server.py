"""X API v2 in small: rules, the filtered stream and the compliance streams over real chunked HTTP."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from aiohttp import web

from ingest.authors import AuthorHash
from ingest.sources.items import Item, LiveSource
from ingest.sources.x import XStream
from ingest.sources.x_budget import UsageCounter
from tests.ingest.live.http_stream import HttpConnection, http_server, refused
from tests.ingest.live.upstream import (
    READ_TIMEOUT_S,
    Create,
    Edit,
    Event,
    Heartbeat,
    Malformed,
    Noise,
    Raw,
    Script,
    Stage,
    Waits,
    drafts_of,
    ids_of,
)
from tests.ingest.live.x_payloads import MALFORMED, id_of, post_of

TOKEN: Final = "AAAAmadeUpBearerToken%3D"
KEEP_ALIVE: Final = b"\r\n"
QUERIES: Final = {"Line 9": "tram OR Straßenbahn", "Coffee": '"blue bird" has:images'}
RULES_PER_PAGE: Final = 3
"""Fewer than X's, so that the second page is read too."""


class GzipConnection(HttpConnection):
    """Compresses the stream, each event so that it can be read when it comes."""

    def __init__(self, request: web.Request, *, heartbeat: bytes | None = None, **options: Any) -> None:
        super().__init__(request, **options)  # a bare heartbeat would break the compressed stream
        self._compressor = zlib.compressobj(wbits=31)

    async def send(self, data: bytes) -> None:
        await super().send(self._compressor.compress(data) + self._compressor.flush(zlib.Z_SYNC_FLUSH))


class XUpstream:
    """The adapter for X.

    rules: of the app, id → rule; asked: requests to the rules endpoint, as (dry run, body).
    busy: how often the rules endpoint still answers 429; max_rules: what it takes; refusing_rules: HTTP 400 for any.
    extra: lines the compliance streams send, by (path, partition), one of which may be broken; headers: of the stream's
    answers. gone: posts batch compliance reports, id → reason, None without access; uploads: ids it was asked for.
    """

    name = "x"
    resumes = False
    edits = True
    deletes = False
    polled = False
    credentials = (TOKEN,)
    malformed = len(MALFORMED)
    payload = "x_api_v2_examples.jsonl"

    def __init__(self) -> None:
        self.rules: dict[str, dict[str, str]] = {}
        self.asked: list[tuple[bool, dict[str, Any]]] = []
        self.queries_seen: list[dict[str, str]] = []
        self.user_agents: list[str] = []
        self.extra: dict[tuple[str, str], list[bytes]] = {}
        self.headers: dict[str, str] = {}
        self.max_rules = 1000
        self.busy = 0
        self.refusing_rules: dict[str, Any] = {}
        self.broken_partition = ""
        self.gone: dict[str, str] | None = None
        self.uploads: list[bytes] = []
        self.failing_jobs = self.failing_results = 0
        self.token_at_storage = False
        self._rule_ids = count(1166916266197536768)
        self._stack = AsyncExitStack()
        self.play(Script.of())

    async def __aenter__(self) -> XUpstream:
        self.state_dir = Path(self._stack.enter_context(TemporaryDirectory()))
        routes = {
            "GET /2/tweets/search/stream": self._stream,
            "GET /2/tweets/search/stream/rules": self._list_rules,
            "POST /2/tweets/search/stream/rules": self._change_rules,
            "GET /2/{kind:tweets|users}/compliance/stream": self._comply,
            "POST /2/compliance/jobs": self._make_job,
            "GET /2/compliance/jobs/{job}": self._tell_job,
            "PUT /storage/{job}": self._upload,
            "GET /storage/{job}": self._download,
        }
        self.url = await self._stack.enter_async_context(http_server(routes))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def play(self, script: Script) -> None:
        self.stage = Stage(self, script)
        self.waits = Waits()

    def open(self, *, cursor: str | None = None, budget: int = 10_000, **changes: Any) -> LiveSource:
        given: dict[str, Any] = {
            "token": TOKEN,
            "queries": QUERIES,
            "authors": AuthorHash(b"key"),
            "budget": UsageCounter(budget=budget, file=self.state_dir / "x-usage.json"),
            "base_url": self.url,
            "cursor": cursor,
            "read_timeout_s": READ_TIMEOUT_S,
            "sleep": self.waits,
        }
        return XStream(**(given | changes))

    def render(self, event: Event, place: int = 0) -> bytes:
        match event:
            case Create(number, pictures):
                message = post_of(number, pictures=pictures)
            case Edit(number, edit):
                message = post_of(number, edit=edit)
            case Noise():
                message = {"weather": {"fog": True}}
            case Heartbeat():
                return KEEP_ALIVE
            case Malformed(variant):
                return MALFORMED[variant] + KEEP_ALIVE
            case Raw(data):
                return data + KEEP_ALIVE
            case _:
                raise AssertionError(f"the filtered stream has no {event}")
        return json.dumps(message, ensure_ascii=False).encode() + KEEP_ALIVE

    def post_id(self, number: int) -> str:
        return f"x:{id_of(number)}"

    def payload_events(self, data: bytes) -> Iterable[Raw]:
        return [Raw(json.dumps(json.loads(line)["json"]).encode()) for line in data.splitlines()]

    def check_payload(self, items: Sequence[Item]) -> None:
        """Nine of the documentation's examples are posts; a compliance job and an answer about rules are not."""
        drafts = drafts_of(items)
        assert len(drafts) == 9 and len(ids_of(items)) == 6
        assert {draft.post.revision for draft in drafts if draft.post.id == "x:1234567890"} == {0, 4}
        reply = next(draft for draft in drafts if draft.post.id == "x:1307025659294674945")
        assert (reply.handle, reply.post.reach, reply.post.lang, reply.is_reply) == ("TwitterDev", 513961, "en", True)
        assert [link.alt for draft in drafts for link in draft.links] == ["Example image"]

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        if (problem := _unknown(request)) is not None:
            return problem
        self.queries_seen.append(dict(request.query))
        self.user_agents.append(request.headers["User-Agent"])
        if (refusal := self.stage.refusal()) is not None:
            return refused(request, refusal)
        if not self.rules:
            return _problem(
                409, "ConnectionException", "streaming-connection", connection_issue="RuleConfigurationIssue"
            )
        kind = GzipConnection if self.headers.get("Content-Encoding") == "gzip" else HttpConnection
        connection = kind(request, headers=self.headers, chunk_bytes=self.stage.chunk_bytes, heartbeat=KEEP_ALIVE)
        async with connection:
            await self.stage.play(connection)
        return connection.response

    async def _comply(self, request: web.Request) -> web.StreamResponse:
        if (problem := _unknown(request)) is not None:
            return problem
        if not self.extra:
            return _problem(403, "Client Forbidden", "client-forbidden", detail="Enterprise access is required.")
        if request.query["partition"] == self.broken_partition:
            return web.Response(status=503)
        async with HttpConnection(request, headers={}, heartbeat=KEEP_ALIVE) as connection:
            for line in self.extra.get((request.path, request.query["partition"]), ()):
                await connection.send(line + KEEP_ALIVE)
            await connection.idle()
        return connection.response

    async def _make_job(self, request: web.Request) -> web.Response:
        if self.gone is None:
            return _problem(403, "Client Forbidden", "client-forbidden")
        if self.failing_jobs:
            self.failing_jobs -= 1
            return _problem(400, "Invalid Request", "invalid-request", detail="You already have a job of this type.")
        assert (await request.json()) == {"type": "tweets", "name": "moodstream"}
        return web.json_response({"data": self._job(str(len(self.uploads)), "created")})

    async def _tell_job(self, request: web.Request) -> web.Response:
        failing, self.failing_results = self.failing_results, max(0, self.failing_results - 1)
        job = self._job(request.match_info["job"], "failed" if failing else "complete")
        return web.json_response({"data": {key: value for key, value in job.items() if not key.endswith("_url")}})

    def _job(self, job: str, status: str) -> dict[str, str]:
        urls = {key: f"{self.url}/storage/{job}?signature=x" for key in ("upload_url", "download_url")}
        return {"id": job, "type": "tweets", "name": "moodstream", "status": status, **urls}

    async def _upload(self, request: web.Request) -> web.Response:
        self.token_at_storage |= "Authorization" in request.headers
        self.uploads.append(await request.read())
        return web.Response()

    async def _download(self, request: web.Request) -> web.Response:
        times = {"created_at": "2026-11-20T12:00:00.000Z", "redacted_at": "2026-11-21T08:30:00.000Z"}
        results = [
            {"id": id, "action": "delete", "reason": reason, **times} for id, reason in (self.gone or {}).items()
        ]
        return web.Response(text="".join(json.dumps(result) + "\n" for result in results))

    async def _list_rules(self, request: web.Request) -> web.Response:
        if (problem := _unknown(request)) is not None:
            return problem
        if self.busy:
            self.busy -= 1
            return _problem(429, "Too Many Requests", "rate-limit-exceeded")
        start = int(request.query.get("pagination_token", "0"))
        page = list(self.rules.values())[start : start + RULES_PER_PAGE]
        meta: dict[str, Any] = {"sent": _now(), "result_count": len(page)}
        if start + RULES_PER_PAGE < len(self.rules):
            meta["next_token"] = str(start + RULES_PER_PAGE)
        # X leaves an empty list out.
        return web.json_response({"meta": meta} | ({"data": page} if page else {}))

    async def _change_rules(self, request: web.Request) -> web.Response:
        if (problem := _unknown(request)) is not None:
            return problem
        body, dry_run = await request.json(), request.query.get("dry_run") == "true"
        self.asked.append((dry_run, body))
        if "delete" in body:
            for rule_id in body["delete"]["ids"]:
                del self.rules[rule_id]
            deleted = {"deleted": len(body["delete"]["ids"]), "not_deleted": 0}
            return web.json_response({"meta": {"sent": _now(), "summary": deleted}})
        if self.refusing_rules:
            return web.json_response(self.refusing_rules, status=400)
        return self._add(body["add"], dry_run=dry_run)

    def _add(self, wanted: list[dict[str, str]], *, dry_run: bool) -> web.Response:
        """One bad rule keeps all of a request out."""
        taken = {rule["value"]: rule["id"] for rule in self.rules.values()}
        errors: list[dict[str, Any]] = [
            {
                "value": rule["value"],
                "id": taken[rule["value"]],
                "title": "DuplicateRule",
                "type": _type("duplicate-rules"),
            }
            for rule in wanted
            if rule["value"] in taken
        ]
        errors += [
            {
                "value": rule["value"],
                "details": ["Reference to invalid operator 'mood:'. Operator is not available (at position 1)"],
                "title": "UnprocessableEntity",
                "type": _type("invalid-rules"),
            }
            for rule in wanted
            if rule["value"].startswith("mood:")
        ]
        if len(self.rules) + len(wanted) > self.max_rules:
            errors = [{"title": "RulesCapExceeded", "detail": "Rule cap exceeded", "type": _type("rule-cap")}]
        created = [] if errors else [rule | {"id": str(next(self._rule_ids))} for rule in wanted]
        if not dry_run:
            self.rules |= {rule["id"]: rule for rule in created}
        summary = {
            "created": len(created),
            "not_created": len(wanted) - len(created),
            "valid": len(wanted) - len(errors),
            "invalid": len(errors),
        }
        answer = {"data": created, "errors": errors, "meta": {"sent": _now(), "summary": summary}}
        return web.json_response({key: value for key, value in answer.items() if value}, status=201)


def _unknown(request: web.Request) -> web.Response | None:
    if request.headers.get("Authorization") == f"Bearer {TOKEN}":
        return None
    return web.json_response({"title": "Unauthorized", "type": "about:blank", "status": 401}, status=401)


def _problem(status: int, title: str, kind: str, **more: str) -> web.Response:
    return web.json_response({"title": title, "type": _type(kind), **more}, status=status)


def _type(kind: str) -> str:
    return f"https://api.x.com/2/problems/{kind}"


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}.000Z"


def reset_in(seconds: float) -> dict[str, str]:
    """The headers of a used-up rate limit."""
    reset_at = str(int(time.time() + seconds))
    return {"x-rate-limit-limit": "50", "x-rate-limit-remaining": "0", "x-rate-limit-reset": reset_at}
