"""An entry of a feed, as feedparser gives it → a draft."""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from ingest.authors import AuthorHash
from ingest.contract import EDIT_STEP, MAX_IMAGES, Post
from ingest.sources.html_text import Readable, read_html
from ingest.sources.items import Draft, MediaLink
from ingest.sources.live import clamped

SOURCE: Final = "rss"
MAX_TEXT_CHARS: Final = 5_000
"""A summary, not the whole article some feeds carry."""
SHORT_SIDE: Final = 256
MAX_REVISION: Final = (1 << 31) - 2
_GLOBAL: Final = ("http:", "https:", "urn:", "tag:")


def entry_id(entry: Any, feed_url: str) -> str | None:
    """A guid that is an address names the entry in every feed, another one in its own feed only."""
    name = entry.get("id") or entry.get("link") or entry.get("title") or entry.get("summary")
    if not name:
        return None
    scope = "" if str(name).startswith(_GLOBAL) else f"{feed_url}\n"
    return f"{SOURCE}:{blake2b(f'{scope}{name}'.encode(), digest_size=12).hexdigest()}"


def written_at(entry: Any) -> datetime | None:
    """When it was published, or else last updated; None if it says neither."""
    return _time(entry, "published") or _time(entry, "updated")


def digest(entry: Any) -> bytes:
    """Alike for the same words and pictures."""
    parts = (entry.get("title"), entry.get("summary"), *(link.url for link in _links(entry, Readable(""))))
    return blake2b("\0".join(str(part) for part in parts).encode(), digest_size=8).digest()


def revision(entry: Any) -> int:
    """Rises with the date of the last update, where the entry tells one."""
    published, updated = _time(entry, "published"), _time(entry, "updated")
    if published is None or updated is None or updated <= published:
        return 0
    return revision_after((updated - published).total_seconds())


def revision_after(seconds: float) -> int:
    return min(EDIT_STEP * max(1, int(seconds)), MAX_REVISION)


def draft_of(entry: Any, name: str, number: int, *, feed: Any, feed_url: str, authors: AuthorHash) -> Draft:
    """The entry as the post `name` in the revision `number`."""
    now = datetime.now(UTC)
    created_at, original = clamped(written_at(entry) or now, now)
    host = urlsplit(feed_url).hostname or ""
    author = entry.get("author") or feed.get("title") or feed_url
    link = entry.get("link") or ""
    summary = _readable(entry, "summary", base=link or feed_url)
    language = _language(entry) or feed.get("language")
    post = Post(
        id=name,
        source=SOURCE,
        revision=number,
        created_at=created_at,
        original_created_at=original,
        ingested_at=now,
        text=_text(entry, summary),
        lang=language.strip() if isinstance(language, str) and language.strip() else None,
        author=authors(SOURCE, f"{author}@{host}"),
        url=link if link.startswith(("https://", "http://")) else None,
        sensitive=_is_adult(entry, feed),
    )
    warnings = () if written_at(entry) else ("no date: taken as now",)
    return Draft(post=post, links=_links(entry, summary), handle=host, warnings=warnings)


def _text(entry: Any, summary: Readable) -> str:
    title = _readable(entry, "title").text
    body = summary.text
    if body.startswith(title):  # a feed of short messages has no titles of its own
        title = ""
    return "\n\n".join(filter(None, (title, body)))[:MAX_TEXT_CHARS]


def _readable(entry: Any, part: str, *, base: str = "") -> Readable:
    """A part that is HTML or plain text, with the addresses of its pictures made whole."""
    text, detail = entry.get(part) or "", entry.get(f"{part}_detail") or {}
    if detail.get("type") == "text/plain":
        return Readable(text.strip())
    read = read_html(text)
    with suppress(ValueError):
        return Readable(read.text, tuple(image._replace(src=urljoin(base, image.src)) for image in read.images))
    return Readable(read.text)


def _language(entry: Any) -> str | None:
    detail = entry.get("summary_detail") or entry.get("title_detail") or {}
    return detail.get("language") or None


def _is_adult(entry: Any, feed: Any) -> bool:
    rating = (entry.get("media_rating") or {}).get("content") or entry.get("rating")
    return rating == "adult" or bool(entry.get("itunes_explicit") or feed.get("itunes_explicit"))


def _links(entry: Any, summary: Readable) -> tuple[MediaLink, ...]:
    """Its pictures: those it names as such, else those in its text; thumbnails only where there is nothing else."""
    found = list(_attached(entry)) or [MediaLink(url=image.src, alt=image.alt) for image in summary.images]
    found = found or _thumbnail(entry)
    unlike = {link.url: link for link in found if link.url.startswith(("https://", "http://"))}
    return tuple(unlike.values())[:MAX_IMAGES]


def _attached(entry: Any) -> Iterator[MediaLink]:
    for media in entry.get("media_content", ()):
        if media.get("medium") == "image" or str(media.get("type", "")).startswith("image/"):
            width, height = _pixels(media)
            yield MediaLink(url=str(media.get("url", "")), width=width, height=height)
    for enclosure in entry.get("enclosures", ()):
        if str(enclosure.get("type", "")).startswith("image/"):
            yield MediaLink(url=str(enclosure.get("href", "")))


def _thumbnail(entry: Any) -> list[MediaLink]:
    """The smallest one that is large enough, else the largest."""
    thumbnails = entry.get("media_thumbnail", ())
    sizes = [(min(side or 0 for side in _pixels(media)), str(media.get("url"))) for media in thumbnails]
    enough = [size for size in sizes if size[0] >= SHORT_SIDE]
    return [MediaLink(url=(min(enough) if enough else max(sizes))[1])] if sizes else []


def _pixels(media: Any) -> tuple[int | None, int | None]:
    sides = []
    for side in ("width", "height"):
        value = str(media.get(side, ""))
        sides.append(int(value) if value.isdecimal() and 0 < len(value) < 6 and int(value) else None)
    return sides[0], sides[1]


def _time(entry: Any, which: str) -> datetime | None:
    parsed = dict.get(entry, f"{which}_parsed")  # feedparser's own get() gives one for the other, with a warning
    with suppress(ValueError, OverflowError, OSError, TypeError):
        return datetime.fromtimestamp(calendar.timegm(parsed), UTC) if parsed else None
    return None
