"""A Reddit post (t3) or comment (t1) → a draft."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from ingest.authors import AuthorHash
from ingest.contract import EDIT_STEP, MAX_IMAGES, Post
from ingest.sources.html_text import plain
from ingest.sources.items import Draft, MediaLink, Skipped
from ingest.sources.live import MAX_AGE, UNREADABLE, clamped

SOURCE: Final = "reddit"
MEDIA_HOSTS: Final = ("preview.redd.it", "i.redd.it", "external-preview.redd.it")
MALFORMED: Final = "malformed thing"
GONE: Final = "deleted or removed"
SHORT_SIDE: Final = 256
_NAME: Final = re.compile(r"t[13]_[0-9a-z]{1,13}")
_ERASED: Final = frozenset({"[deleted]", "[removed]"})
_BOTS: Final = frozenset({"AutoModerator"})


class Thing(msgspec.Struct, frozen=True, kw_only=True):
    """What is read of a post or comment; `name` is its kind and id, `t3_abc`."""

    name: str
    created_utc: float
    author: str | None = None
    author_fullname: str | None = None
    edited: float | bool | None = None
    permalink: str = ""
    over_18: bool | None = None
    spoiler: bool | None = None
    removed_by_category: str | None = None
    title: str = ""
    selftext: str | None = None
    selftext_html: str | None = None
    body: str | None = None
    body_html: str | None = None
    url: str | None = None
    is_self: bool | None = None
    is_video: bool | None = None
    post_hint: str | None = None
    preview: Any = None
    gallery_data: Any = None
    media_metadata: Any = None

    @property
    def is_comment(self) -> bool:
        return self.name.startswith("t1_")

    @property
    def is_gone(self) -> bool:
        """Erased by its author or by moderators; of an erased account everything counts as erased."""
        words = {self.author, self.body, self.selftext}
        return not _ERASED.isdisjoint(words) or self.author is None or self.removed_by_category is not None


class Unreadable(NamedTuple):
    """An entry of a listing that is no thing; its digest tells it from others, since listings repeat themselves."""

    digest: str


class _Child(msgspec.Struct):
    data: msgspec.Raw


class _Children(msgspec.Struct):
    children: list[msgspec.Raw]


class _Listing(msgspec.Struct):
    data: _Children


def read_listing(body: bytes) -> list[Thing | Unreadable]:
    """Entries of a listing, in its order. Raises msgspec.MsgspecError for what is no listing."""
    return [_thing(child) for child in msgspec.json.decode(body, type=_Listing).data.children]


def _thing(child: msgspec.Raw) -> Thing | Unreadable:
    with suppress(*UNREADABLE):
        thing = msgspec.json.decode(msgspec.json.decode(child, type=_Child).data, type=Thing)
        if _NAME.fullmatch(thing.name):
            return thing
    return Unreadable(blake2b(child, digest_size=8).hexdigest())


def post_id(name: str) -> str:
    return f"{SOURCE}:{name}"


def order(name: str) -> int:
    """Ids are counted up, in base 36, within each kind."""
    return int(name.partition("_")[2], 36)


def draft_of(thing: Thing, *, authors: AuthorHash) -> Draft | Skipped:
    """The thing as a draft, or why it makes none."""
    if thing.is_gone:
        return Skipped(reason=GONE, item=thing.name)
    if thing.author in _BOTS:
        return Skipped(reason="automated account", item=thing.name)
    now = datetime.now(UTC)
    try:
        written_at = datetime.fromtimestamp(thing.created_utc, UTC)
    except (ValueError, OverflowError, OSError):
        return Skipped(reason=MALFORMED, item=thing.name)
    if now - written_at > MAX_AGE:
        return Skipped(reason="older than two days", item=thing.name)  # a slow subreddit's newest may be of last year
    created_at, original = clamped(written_at, now)
    post = Post(
        id=post_id(thing.name),
        source=SOURCE,
        revision=revision(thing),
        created_at=created_at,
        original_created_at=original,
        ingested_at=now,
        text=_text(thing),
        author=authors(SOURCE, thing.author_fullname or thing.author or ""),
        url=f"https://www.reddit.com{thing.permalink}" if thing.permalink.startswith("/") else None,
        sensitive=bool(thing.over_18 or thing.spoiler),
    )
    return Draft(
        post=post,
        links=_links(thing),
        handle=thing.author,
        urls=(thing.url,) if thing.url and not (thing.is_self or _is_reddits(thing.url)) else (),
        is_reply=thing.is_comment,
        has_video=bool(thing.is_video),
    )


def revision(thing: Thing) -> int:
    """Edits are not counted by Reddit, but dated; an old edit is `true`, without a date."""
    if not thing.edited:
        return 0
    seconds = 1 if thing.edited is True else max(1, int(thing.edited - thing.created_utc))
    return EDIT_STEP * min(seconds, (1 << 30) - 1)


def _text(thing: Thing) -> str:
    if thing.is_comment:
        return plain(thing.body_html) if thing.body_html else (thing.body or "").strip()
    told = plain(thing.selftext_html) if thing.selftext_html else (thing.selftext or "").strip()
    return "\n\n".join(filter(None, (thing.title.strip(), told)))


def _links(thing: Thing) -> tuple[MediaLink, ...]:
    """Pictures the author posted; not the previews of pages linked to, which are others' words."""
    with suppress(KeyError, TypeError, AttributeError, IndexError, ValueError):
        if thing.gallery_data:
            return _gallery(thing.gallery_data["items"], thing.media_metadata)
        if thing.post_hint == "image" or _host(thing.url) == "i.redd.it":
            return (_picture(thing),)
    return ()


def _picture(thing: Thing) -> MediaLink:
    if not thing.preview:
        return MediaLink(url=str(thing.url))
    image = thing.preview["images"][0]
    source = image["source"]
    sizes = [(size["width"], size["height"], size["url"]) for size in [*image["resolutions"], source]]
    return MediaLink(url=_smallest(sizes), width=int(source["width"]), height=int(source["height"]))


def _gallery(items: Any, metadata: Any) -> tuple[MediaLink, ...]:
    links = []
    for item in items:
        media = metadata.get(item["media_id"]) or {}
        if media.get("status") != "valid" or media.get("e") != "Image":
            continue
        source = media["s"]
        sizes = [(size["x"], size["y"], size["u"]) for size in [*media.get("p", ()), source] if size.get("u")]
        alt = str(item.get("caption") or "")
        links.append(MediaLink(url=_smallest(sizes), alt=alt, width=int(source["x"]), height=int(source["y"])))
    return tuple(links[:MAX_IMAGES])


def _smallest(sizes: list[tuple[int, int, str]]) -> str:
    """The smallest rendition whose short side is long enough, else the largest there is."""
    enough = [size for size in sizes if min(size[0], size[1]) >= SHORT_SIDE]
    *_, url = min(enough) if enough else max(sizes)
    return str(url)


def _host(url: str | None) -> str:
    with suppress(ValueError):
        return urlsplit(url or "").hostname or ""
    return ""


def _is_reddits(url: str) -> bool:
    return _host(url).endswith((".redd.it", ".reddit.com"))
