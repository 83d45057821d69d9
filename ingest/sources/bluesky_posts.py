"""Bluesky's events → what the service takes: posts with links to their pictures, edits, and who is to be forgotten."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from ingest.authors import AuthorHash
from ingest.contract import EDIT_STEP, MAX_IMAGES, Deletion, Post
from ingest.sources.bluesky_wire import POSTS, Commit, Event, Position
from ingest.sources.items import Draft, Item, MediaLink, Skipped
from ingest.sources.live import UNREADABLE, clamped
from ingest.sources.times import parse_time

SOURCE: Final = "bluesky"
CDN: Final = "https://cdn.bsky.app"
SENSITIVE: Final = frozenset({"porn", "sexual", "nudity", "graphic-media", "gore"})
"""Labels an author puts on a post; gore is what graphic-media was called before 2024."""
PASSING: Final = frozenset({"desynchronized", "throttled"})
"""An inactive account is to be forgotten, however it became so: deleted and taken down for good; suspended and
deactivated because what must not be shown must not be kept, and nobody knows whether it ever comes back. These are the
exceptions: troubles of servers, which say nothing about what the author or a moderator wants."""

_DID: Final = re.compile(r"did:[a-z0-9]+:[A-Za-z0-9._:%-]{1,256}")
_RKEY: Final = re.compile(r"[A-Za-z0-9._:~-]{1,512}")
_CID: Final = re.compile(r"[A-Za-z0-9]{8,128}")
_TID: Final = re.compile(r"[234567a-j][234567a-z]{12}")
_TID_DIGITS: Final = {digit: value for value, digit in enumerate("234567abcdefghijklmnopqrstuvwxyz")}
_BEGINNING: Final = datetime(2022, 11, 1, tzinfo=UTC)
"""No post of Bluesky's is older, by the clocks of its servers."""
MAX_SECONDS: Final = (1 << 30) - 1
"""Of a revision, which travels in 32 bits."""
_NOTHING: Final = msgspec.Raw()


class _Record(msgspec.Struct, gc=False):
    text: str = ""
    created_at: str = msgspec.field(default="", name="createdAt")
    langs: list[str] | None = None
    embed: msgspec.Raw = _NOTHING
    facets: msgspec.Raw = _NOTHING
    labels: msgspec.Raw = _NOTHING
    reply: msgspec.Raw = _NOTHING


class _Ref(msgspec.Struct):
    link: str = msgspec.field(name="$link")


class _Blob(msgspec.Struct):
    ref: _Ref | None = None
    cid: str | None = None  # as blobs were written before 2023


class _Size(msgspec.Struct):
    width: int
    height: int


class _Picture(msgspec.Struct):
    image: _Blob
    alt: str = ""
    size: _Size | None = msgspec.field(default=None, name="aspectRatio")


class _External(msgspec.Struct):
    uri: str = ""


class _Embed(msgspec.Struct):
    """What hangs on a post; `media` is the embed beside a quoted post (recordWithMedia)."""

    type: str = msgspec.field(default="", name="$type")
    images: list[_Picture] = []
    external: _External | None = None
    media: _Embed | None = None


class _Feature(msgspec.Struct):
    uri: str = ""
    tag: str = ""


class _Facet(msgspec.Struct):
    features: list[_Feature] = []


class _Label(msgspec.Struct):
    val: str


class _Labels(msgspec.Struct):
    values: list[_Label] = []


_record_of = msgspec.json.Decoder(_Record).decode
_embed_of = msgspec.json.Decoder(_Embed).decode
_facets_of = msgspec.json.Decoder(list[_Facet]).decode
_labels_of = msgspec.json.Decoder(_Labels).decode


class PostReader:
    """Events → items. `cdn` is where pictures are fetched from, in place of Bluesky's own."""

    def __init__(self, *, authors: AuthorHash, cdn: str = CDN) -> None:
        self._authors = authors
        self._cdn = cdn

    def item_of(self, event: Event, *, at: datetime | None = None) -> Item | str:
        """The event's item, or why it makes none, in a phrase that is counted. `at`: when it came; None is now."""
        if (commit := event.commit) is not None:
            if commit.collection != POSTS:
                return "other records"
            return self._of_commit(event, commit, at or datetime.now(UTC))
        if event.account is not None:
            if event.account.active or event.account.status in PASSING:
                return "accounts still there"
            return self._deletion(event, author=self._authors(SOURCE, event.did))
        return "identities" if event.kind == "identity" else "events of other kinds"

    def _of_commit(self, event: Event, commit: Commit, at: datetime) -> Item:
        post_id = f"{SOURCE}:{event.did}/{commit.rkey}"
        if not (_DID.fullmatch(event.did) and _RKEY.fullmatch(commit.rkey)):
            return Skipped(reason="malformed post: no such address", item=post_id)
        if commit.operation == "delete":
            return self._deletion(event, post_id=post_id)
        try:
            record = _record_of(commit.record)
        except UNREADABLE:
            return Skipped(reason="malformed post", item=post_id)
        return self._draft(event, commit, record, post_id, at)

    def _draft(self, event: Event, commit: Commit, record: _Record, post_id: str, at: datetime) -> Draft:
        warnings: list[str] = []
        created_at, original = clamped(_created_at(record, event, warnings), at)
        post = Post(
            id=post_id,
            source=SOURCE,
            revision=_revision(commit) if commit.operation == "update" else 0,
            created_at=created_at,
            original_created_at=original,
            ingested_at=at,
            text=record.text,
            lang=record.langs[0].partition("-")[0].lower() or None if record.langs else None,
            author=self._authors(SOURCE, event.did),
            url=f"https://bsky.app/profile/{event.did}/post/{commit.rkey}",
            sensitive=bool(record.labels) and _is_sensitive(record.labels, warnings),
        )
        if not (record.embed or record.facets or record.reply):
            return Draft(post=post, warnings=tuple(warnings))
        embed = _tolerant(_embed_of, record.embed, _Embed(), "embed not understood", warnings)
        media = embed.media or embed
        return Draft(
            post=post,
            links=self._links(event.did, media.images, warnings),
            urls=_urls(record.facets, media.external, warnings),
            is_reply=bool(record.reply),
            is_quote=embed.type.startswith("app.bsky.embed.record"),
            has_video=media.type == "app.bsky.embed.video",
            warnings=tuple(warnings),
        )

    def _links(self, did: str, pictures: list[_Picture], warnings: list[str]) -> tuple[MediaLink, ...]:
        """Thumbnails: the smallest rendition there is, and far smaller than the original."""
        links = []
        for picture in pictures[:MAX_IMAGES]:
            cid = picture.image.ref.link if picture.image.ref else picture.image.cid
            if cid is None or not _CID.fullmatch(cid):
                warnings.append("picture without an address")
                continue
            url = f"{self._cdn}/img/feed_thumbnail/plain/{did}/{cid}@jpeg"
            size = picture.size
            links.append(MediaLink(url=url, alt=picture.alt, **_sides(size) if size else {}))
        if len(pictures) > MAX_IMAGES:
            warnings.append(f"images past the first {MAX_IMAGES} left out")
        return tuple(links)

    @staticmethod
    def _deletion(event: Event, *, post_id: str | None = None, author: str | None = None) -> Deletion:
        deleted_at = Position(event.time_us).at
        return Deletion(
            source=SOURCE, deleted_at=deleted_at, ingested_at=datetime.now(UTC), post_id=post_id, author=author
        )


def _created_at(record: _Record, event: Event, warnings: list[str]) -> datetime:
    """What the author's program wrote, whatever its clock; the time of arrival if that is no time at all."""
    try:
        at: datetime | None = datetime.fromisoformat(record.created_at)
    except ValueError:
        at = parse_time(record.created_at)
    if at is None:
        warnings.append("time not understood, that of arrival taken")
        return Position(event.time_us).at
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def tid_time(tid: str) -> datetime | None:
    """The time in a record key or rev (microseconds, then a clock's id, in base 32); None if it has none."""
    if not _TID.fullmatch(tid):
        return None
    number = 0
    for digit in tid:
        number = number << 5 | _TID_DIGITS[digit]
    return datetime.fromtimestamp((number >> 10) / 1e6, UTC)


def _revision(commit: Commit) -> int:
    """Edits are not numbered: the seconds from the post's key to the edit stand for that, the same on every reading."""
    edited_at, written_at = tid_time(commit.rev), tid_time(commit.rkey)
    if edited_at is None:
        return EDIT_STEP
    if written_at is None or not _BEGINNING <= written_at <= edited_at:
        written_at = _BEGINNING
    seconds = int((edited_at - written_at) / timedelta(seconds=1))
    return EDIT_STEP * min(max(1, seconds), MAX_SECONDS)


def _sides(size: _Size) -> dict[str, int]:
    """Of the original; a ratio (4:3) tells no size, nor does a number no picture has."""
    is_size = min(size.width, size.height) >= 32 and max(size.width, size.height) <= 65_535
    return {"width": size.width, "height": size.height} if is_size else {}


def _urls(facets: msgspec.Raw, external: _External | None, warnings: list[str]) -> tuple[str, ...]:
    """Links, which the text shows shortened if at all."""
    found = _tolerant(_facets_of, facets, [], "facets not understood", warnings)
    urls = [feature.uri for facet in found for feature in facet.features if feature.uri]
    if external is not None and external.uri:
        urls.append(external.uri)
    return tuple(dict.fromkeys(urls))


def _is_sensitive(labels: msgspec.Raw, warnings: list[str]) -> bool:
    found = _tolerant(_labels_of, labels, _Labels(), "labels not understood", warnings)
    return any(label.val in SENSITIVE for label in found.values)


def _tolerant(decode: Any, raw: msgspec.Raw, nothing: Any, warning: str, warnings: list[str]) -> Any:
    """A part of a record that does not fit is left out rather than the post."""
    if not raw:
        return nothing
    try:
        return decode(raw)
    except UNREADABLE:
        warnings.append(warning)
        return nothing
