"""A Mastodon status → a draft. Other servers of the fediverse speak the same API, more or less."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from ingest.authors import AuthorHash
from ingest.contract import EDIT_STEP, MAX_IMAGES, Post
from ingest.sources.html_text import plain
from ingest.sources.items import Draft, MediaLink, Skipped
from ingest.sources.live import UNREADABLE, clamped

SOURCE: Final = "mastodon"
MALFORMED: Final = "malformed status"
MAX_REVISION: Final = (1 << 31) - 1 - EDIT_STEP
_MASTODON_URI: Final = re.compile(r"/statuses/(\d{1,20})$")
_NUMBER: Final = re.compile(r"[\w-]{1,64}", re.ASCII)
MAX_HOST_CHARS: Final = 253
_OPTED_OUT: Final = re.compile(r"#(?:<span>)?(?:nobots?|noindex)\b", re.IGNORECASE)
_STILL: Final = frozenset({"image", "gifv"})
"""Attachments whose preview shows what they are; gifv is a meme's usual form."""
_MOVING: Final = frozenset({"video", "gifv"})


class Account(msgspec.Struct, frozen=True, kw_only=True):
    acct: str
    url: str | None = None
    note: str | None = None
    bot: bool | None = None
    noindex: bool | None = None
    followers_count: int | None = None


class Mention(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    acct: str


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    url: str | None = None
    preview_url: str | None = None
    remote_url: str | None = None
    description: str | None = None
    meta: Any = None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What is read of a status. `id` is the server's own number for it, `uri` its name everywhere."""

    id: str
    created_at: datetime
    account: Account
    uri: str | None = None
    url: str | None = None
    edited_at: datetime | None = None
    content: str | None = None
    spoiler_text: str | None = None
    visibility: str = "public"
    sensitive: bool | None = None
    language: str | None = None
    in_reply_to_id: str | None = None
    in_reply_to_account_id: str | None = None
    mentions: tuple[Mention, ...] = ()
    reblog: Any = None
    quote: Any = None
    media_attachments: tuple[Attachment, ...] = ()


_decoder = msgspec.json.Decoder(Status)


def read_status(data: str | bytes | msgspec.Raw) -> Status | None:
    """None for what is no status."""
    try:
        status = _decoder.decode(data)
    except UNREADABLE:
        return None
    return status if is_number(status.id) else None


def is_number(text: str) -> bool:
    """May this be a server's number of a status? Digits in Mastodon, letters too elsewhere."""
    return _NUMBER.fullmatch(text) is not None


def post_id(status: Status, host: str) -> str:
    """The same for one status wherever it is read: from its URI, the number of its home server, else a hash."""
    return own_id(host, status.id) if not status.uri else id_of_uri(status.uri)


def id_of_uri(uri: str) -> str:
    """Raises ValueError for what is no URI."""
    parts = urlsplit(uri)
    if not parts.hostname or len(parts.hostname) > MAX_HOST_CHARS:
        raise ValueError(f"no URI of a status: {uri[:80]!r}")
    host = f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname
    number = _MASTODON_URI.search(parts.path)
    return own_id(host, number[1] if number else blake2b(uri.encode(), digest_size=12).hexdigest())


def own_id(host: str, number: str) -> str:
    """Of a status written on `host` itself."""
    return f"{SOURCE}:{host}/{number}"


def draft_of(status: Status, host: str, *, authors: AuthorHash, skip_bots: bool) -> Draft | Skipped:
    """The status read from the server `host` as a draft, or why it makes none.

    A boost is passed over: the boosted status comes by itself, and its words are not the booster's.
    """
    now = datetime.now(UTC)
    try:
        name = post_id(status, host)
    except ValueError:
        return Skipped(reason=MALFORMED, item=f"uri {status.uri!r:.80}")
    if reason := _why_not(status, skip_bots):
        return Skipped(reason=reason, item=name)
    written_at = _aware(status.created_at)
    created_at, original = clamped(written_at, now)
    account = status.account
    post = Post(
        id=name,
        source=SOURCE,
        revision=revision(written_at, _aware(status.edited_at) if status.edited_at else None),
        created_at=created_at,
        original_created_at=original,
        ingested_at=now,
        text="\n\n".join(filter(None, (plain(part or "") for part in (status.spoiler_text, status.content)))),
        lang=status.language or None,
        author=authors(SOURCE, account.url or _full(account.acct, host)),
        reach=None if account.followers_count is None else max(0, account.followers_count),
        url=_web(status.url) or _web(status.uri),
        sensitive=bool(status.sensitive or status.spoiler_text),
    )
    return Draft(
        post=post,
        links=_links(status),
        handle=_full(account.acct, host),
        reply_to=next((_full(m.acct, host) for m in status.mentions if m.id == status.in_reply_to_account_id), None),
        is_reply=status.in_reply_to_id is not None,
        is_quote=status.quote is not None,
        has_video=any(media.type in _MOVING for media in status.media_attachments),
    )


def _full(acct: str, host: str) -> str:
    """name@host: a server leaves its own name out."""
    return acct if "@" in acct else f"{acct}@{host}"


def revision(created_at: datetime, edited_at: datetime | None) -> int:
    """Rises with every edit: Mastodon does not count them, but every server tells when the last one was."""
    if edited_at is None:
        return 0
    seconds = max(1, int((edited_at - created_at).total_seconds()))
    return min(EDIT_STEP * seconds, MAX_REVISION // EDIT_STEP * EDIT_STEP)


def _why_not(status: Status, skip_bots: bool) -> str | None:
    account = status.account
    if status.visibility != "public":
        return "not public"
    if status.reblog is not None:
        return "boost"
    if account.noindex or _OPTED_OUT.search(account.note or ""):
        return "author opted out (noindex, #nobot)"
    if account.bot and skip_bots:
        return "automated account"
    return None


def _links(status: Status) -> tuple[MediaLink, ...]:
    links = []
    for media in status.media_attachments:
        url = _web(media.preview_url) or _web(media.url) or _web(media.remote_url)
        if media.type in _STILL and url:
            width, height = _size(media.meta)
            links.append(MediaLink(url=url, alt=(media.description or "").strip(), width=width, height=height))
    return tuple(links[:MAX_IMAGES])


def _size(meta: Any) -> tuple[int | None, int | None]:
    original = meta.get("original") if isinstance(meta, dict) else None
    sizes = [original.get(side) for side in ("width", "height")] if isinstance(original, dict) else [None, None]
    width, height = (size if isinstance(size, int) and size > 0 else None for size in sizes)
    return width, height


def _web(url: str | None) -> str | None:
    return url if url and url.startswith(("https://", "http://")) else None


def _aware(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)
