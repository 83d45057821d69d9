"""Jetstream for the conformance suite: v1 plain and compressed, and v2, which hands out its dictionary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import lru_cache
from types import TracebackType

from ingest.authors import AuthorHash
from ingest.sources.bluesky import Bluesky
from ingest.sources.bluesky_wire import Dictionary
from ingest.sources.items import Draft, Item, LiveSource, Skipped
from tests.ingest.live.jetstream import (
    Dialect,
    Happening,
    Jetstream,
    JetstreamConnection,
    Player,
    Subscription,
    commit,
    did,
    made_up_dictionary,
    microseconds,
    post_record,
    tid,
)
from tests.ingest.live.upstream import (
    BEGAN,
    READ_TIMEOUT_S,
    Create,
    Delete,
    Edit,
    Event,
    Heartbeat,
    Malformed,
    Noise,
    Raw,
    Refuse,
    Script,
    Stage,
    Waits,
    deletions_of,
    drafts_of,
    text_of,
    time_of,
)

MALFORMED = (
    b'{"did": "did:plc:abc", "time_',
    b"[]",
    b"\xff\xfe not UTF-8",
    b'{"did": 5, "time_us": "soon", "kind": null}',
    b"\x28\xb5\x2f\xfd no zstd frame",
    b'{"$type": "message", "payload": {"$type": "network.bsky.jetstream.subscribeEvents#commit"}}',
)
dictionary = lru_cache(made_up_dictionary)


class JetstreamUpstream:
    """A Jetstream that plays a script; event number n of the log has seq n + 1 and happened n seconds after BEGAN."""

    dialect: Dialect = "v1"
    compressed = False
    name = "bluesky"
    resumes = True
    edits = True
    deletes = True
    polled = False
    credentials: tuple[str, ...] = ()
    malformed = len(MALFORMED) + 2
    payload: str | None = None

    def __init__(self) -> None:
        data = dictionary() if self.compressed else None
        self._server = Jetstream(self._play, self._refuse, (self.dialect,), data)
        self._serving = AsyncExitStack()
        self.url = ""
        self.play(Script.of())

    async def __aenter__(self) -> JetstreamUpstream:
        self.url = await self._serving.enter_async_context(self._server.serve())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._serving.aclose()

    def play(self, script: Script) -> None:
        self.stage, self.waits = Stage(self, script), Waits()

    def open(self, *, cursor: str | None = None) -> LiveSource:
        return Bluesky(
            authors=AuthorHash(b"key"),
            hosts=(self.url,),
            cursor=cursor,
            dictionary=Dictionary(dictionary()) if self.compressed else None,
            silence_s=READ_TIMEOUT_S,
            sleep=self.waits,
        )

    def _refuse(self, subscription: Subscription) -> Refuse | None:
        return self.stage.refusal()

    async def _play(self, connection: JetstreamConnection, subscription: Subscription) -> None:
        chunk_bytes, encoder = self.stage.chunk_bytes, self._server.encoder(subscription)
        player = Player(connection, chunk_bytes=chunk_bytes, encoder=encoder)
        await self.stage.play(player, log_from=self._place(subscription))

    def _place(self, subscription: Subscription) -> int | None:
        """Where in the log a cursor points; inclusive."""
        if subscription.cursor is None:
            return None
        if not subscription.is_time:
            return subscription.cursor - 1
        seconds = (subscription.cursor - microseconds(BEGAN)) / 1e6
        return max(0, -int(-seconds // 1))

    def post_id(self, number: int) -> str:
        return f"bluesky:{did(number % 3)}/{tid(time_of(number))}"

    def render(self, event: Event, place: int) -> bytes:
        if isinstance(event, Heartbeat):
            return b""
        if isinstance(event, Raw):
            return event.data
        if isinstance(event, Malformed) and event.variant < len(MALFORMED):
            return MALFORMED[event.variant]
        return self._happening(event, place).encode(self.dialect)

    def _happening(self, event: Event, place: int) -> Happening:
        time_us, seq, rev = (
            microseconds(BEGAN) + place * 1_000_000,
            place + 1,
            tid(BEGAN + timedelta(seconds=7000 + place)),
        )
        number = getattr(event, "number", 0)
        rkey = tid(time_of(number))
        match event:
            case Create(pictures=pictures):
                body = commit("create", rkey, rev, post_record(text_of(number), time_of(number), pictures=pictures))
            case Edit(edit=edit):
                body = commit("update", rkey, rev, post_record(text_of(number, edit), time_of(number)))
            case Delete():
                body = commit("delete", rkey, rev, None)
            case Noise():
                like = {
                    "$type": "app.bsky.feed.like",
                    "createdAt": "2026-07-04T14:38:08.999Z",
                    "subject": {"uri": "at://"},
                }
                body = commit("create", rkey, rev, like, collection="app.bsky.feed.like")
            case Malformed(variant=variant) if variant == len(MALFORMED):
                body = commit("create", rkey, rev, {"text": 5, "createdAt": []})
            case _:
                body = commit("create", "../../etc", rev, post_record("x", BEGAN))
        return Happening(did(number % 3), time_us, seq, "commit", body)

    def payload_events(self, data: bytes) -> Iterable[Raw]:
        return map(Raw, data.splitlines())

    def check_payload(self, items: Sequence[Item]) -> None:
        drafts = drafts_of(items)
        assert len(drafts) == 17 and len(deletions_of(items)) == 1
        assert not [item for item in items if isinstance(item, Skipped)]
        assert sum(bool(draft.links) for draft in drafts) == 2
        assert sum(bool(draft.urls) for draft in drafts) >= 3
        assert all(isinstance(draft, Draft) and not draft.warnings for draft in drafts)


class JetstreamV1(JetstreamUpstream):
    payload = "bluesky_jetstream_v1.jsonl"


class JetstreamV1Compressed(JetstreamUpstream):
    compressed = True


class JetstreamV2Compressed(JetstreamUpstream):
    dialect: Dialect = "v2"
    compressed = True
