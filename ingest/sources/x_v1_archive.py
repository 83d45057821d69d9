"""Archives of X API v1.1 JSON: twarc, and the Internet Archive's grabs of the sample stream."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import msgspec

from ingest.authors import AuthorHash
from ingest.contract import Deletion, Post
from ingest.sources.items import Draft, Item, Skipped
from ingest.sources.line_archive import NO_PICTURE, Fields, Format, Read, each_line
from ingest.sources.times import event_time, parse_time
from ingest.sources.x_posts import NO_LANGUAGE, SOURCE, unescaped

_CONTROL: Final = frozenset(
    ("limit", "scrub_geo", "status_withheld", "user_withheld", "disconnect", "warning", "friends", "event")
)


class _User(msgspec.Struct):
    id_str: str = ""
    screen_name: str | None = None
    followers_count: int | None = None


class _Url(msgspec.Struct):
    expanded_url: str | None = None


class _Medium(msgspec.Struct):
    type: str = "photo"


class _Entities(msgspec.Struct):
    urls: list[_Url] = []
    media: list[_Medium] = []


class _Extended(msgspec.Struct):
    """What a tweet of more than 140 characters has beside the old fields."""

    full_text: str = ""
    entities: _Entities | None = None
    extended_entities: _Entities | None = None


class _Tweet(msgspec.Struct):
    id: int | str = ""
    id_str: str = ""
    created_at: str | None = None
    text: str | None = None
    full_text: str | None = None
    extended_tweet: _Extended | None = None
    entities: _Entities | None = None
    extended_entities: _Entities | None = None
    user: _User | None = None
    lang: str | None = None
    possibly_sensitive: bool | None = None
    retweeted_status: _Tweet | None = None
    is_quote_status: bool | None = None
    in_reply_to_status_id_str: str | None = None
    in_reply_to_screen_name: str | None = None
    withheld_in_countries: list[str] | str | None = None
    withheld_copyright: bool | None = None

    @property
    def whole_text(self) -> str:
        return unescaped((self.extended_tweet and self.extended_tweet.full_text) or self.full_text or self.text or "")

    @property
    def media(self) -> list[_Medium]:
        extended = self.extended_tweet
        for entities in (
            extended and extended.extended_entities,
            extended and extended.entities,
            self.extended_entities,
            self.entities,
        ):
            if entities and entities.media:
                return entities.media
        return []

    @property
    def urls(self) -> tuple[str, ...]:
        entities = (self.extended_tweet and self.extended_tweet.entities) or self.entities
        return tuple(url.expanded_url for url in entities.urls if url.expanded_url) if entities else ()


class _DeletedStatus(msgspec.Struct):
    id: int | str = ""
    id_str: str = ""


class _Delete(msgspec.Struct):
    status: _DeletedStatus
    timestamp_ms: str | int | None = None


class _Line(_Tweet):
    delete: _Delete | None = None


_line_of = msgspec.json.Decoder(_Line).decode
_fields_of = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _recognises(fields: Fields) -> bool:
    if "delete" in fields or len(fields) == 1:
        return "delete" in fields or not _CONTROL.isdisjoint(fields)
    return "user" in fields and "created_at" in fields and ("id_str" in fields or "full_text" in fields)


def _reader(authors: AuthorHash) -> Read:
    newest = datetime(2006, 3, 21, tzinfo=UTC)  # the first tweet

    def items_of(line: bytes) -> Iterator[Item]:
        nonlocal newest
        tweet = _line_of(line)
        if tweet.delete is not None:
            yield _deletion(tweet.delete, newest)
        elif tweet.text is None and tweet.full_text is None:
            fields = _fields_of(line)
            name = next((name for name in fields if name in _CONTROL), None)
            reason = f"control message {name}" if name else "message without a tweet"
            yield Skipped(reason=reason, item=line[:80].decode("utf-8", "replace"))
        else:
            item = _item(tweet, authors)
            if isinstance(item, Draft):
                newest = item.post.created_at
            yield item

    return each_line(items_of)


def _deletion(delete: _Delete, newest: datetime) -> Item:
    native_id = delete.status.id_str or str(delete.status.id)
    if not native_id.isdigit():
        return Skipped(reason="malformed deletion", item=native_id[:80])
    told = parse_time(str(delete.timestamp_ms)) if delete.timestamp_ms is not None else None
    return Deletion(
        source=SOURCE, post_id=f"{SOURCE}:{native_id}", deleted_at=told or newest, ingested_at=datetime.now(UTC)
    )


def _item(tweet: _Tweet, authors: AuthorHash) -> Item:
    native_id = tweet.id_str or str(tweet.id)
    if not native_id.isdigit():
        return Skipped(reason="tweet without an id", item=native_id[:80])
    if tweet.withheld_copyright or tweet.withheld_in_countries:
        return Skipped(reason="withheld in some countries", item=native_id)
    event = event_time(native_id, tweet.created_at)
    if event is None:
        return Skipped(reason="post without a readable time", item=native_id)
    content = tweet.retweeted_status or tweet
    user, media = tweet.user or _User(), content.media
    warnings = [event.warning] if event.warning else []
    return Draft(
        post=Post(
            id=f"{SOURCE}:{native_id}",
            source=SOURCE,
            created_at=event.at,
            ingested_at=datetime.now(UTC),
            text=content.whole_text,
            lang=tweet.lang if tweet.lang not in NO_LANGUAGE else None,
            author=authors(SOURCE, user.id_str) if user.id_str else None,
            reach=user.followers_count,
            url=f"https://x.com/i/web/status/{native_id}",
            sensitive=bool(tweet.possibly_sensitive or content.possibly_sensitive),
        ),
        warnings=(*warnings, *((NO_PICTURE,) if media else ())),
        handle=user.screen_name,
        reply_to=tweet.in_reply_to_screen_name,
        urls=content.urls,
        is_reply=tweet.in_reply_to_status_id_str is not None or tweet.in_reply_to_screen_name is not None,
        is_retweet=tweet.retweeted_status is not None,
        is_quote=bool(tweet.is_quote_status),
        has_video=any(medium.type == "video" for medium in media),
    )


FORMAT: Final = Format("X API v1.1 JSON Lines", _reader, _recognises)
