"""X API v2 posts → drafts.

What is asked for and what is read stand side by side here. X's own specification has begun to say `post` where the API
says `tweet`; both are read. Fields may be missing, unknown ones may come.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Final

import msgspec

from ingest.authors import AuthorHash
from ingest.contract import EDIT_STEP, Post
from ingest.sources.items import Draft, MediaLink, Skipped
from ingest.sources.live import clamped
from ingest.sources.times import event_time

SOURCE: Final = "x"
FIELDS: Final = {
    "tweet.fields": "attachments,author_id,created_at,edit_history_tweet_ids,entities,in_reply_to_user_id,lang,"
    "note_tweet,possibly_sensitive,referenced_tweets,text,withheld",
    "expansions": "attachments.media_keys,author_id,referenced_tweets.id,referenced_tweets.id.attachments.media_keys",
    "media.fields": "alt_text,height,media_key,preview_image_url,type,url,width",
    "user.fields": "public_metrics,username",
}
MEDIA_HOST: Final = "pbs.twimg.com"
RENDITIONS: Final = {"small": 680, "medium": 1200, "large": 2048}
"""Name → longest side in pixels; proportions are kept and nothing is enlarged."""
SHORT_SIDE: Final = 256
NO_LANGUAGE: Final = frozenset(("und", "zxx", "art", "qam", "qct", "qht", "qme", "qst"))
"""X's codes for posts of mentions, hashtags, links or pictures only, and for what it cannot tell."""

_Id = Annotated[str, msgspec.Meta(pattern="^[0-9]{1,19}$")]


class _Note(msgspec.Struct):
    text: str


class _Reference(msgspec.Struct):
    type: str
    id: str


class _Attachments(msgspec.Struct):
    media_keys: list[str] | None = None


class _Url(msgspec.Struct):
    expanded_url: str | None = None
    unwound_url: str | None = None


class _Mention(msgspec.Struct):
    username: str
    id: str | None = None


class _Entities(msgspec.Struct):
    urls: list[_Url] | None = None
    mentions: list[_Mention] | None = None


class _Withheld(msgspec.Struct):
    copyright: bool = False
    country_codes: list[str] = []


def unescaped(text: str) -> str:
    """X's own texts have these three escaped, and no more."""
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") if "&" in text else text


class XPost(msgspec.Struct):
    """One version of a post; `text` is missing in objects of other kinds."""

    id: _Id
    text: str | None = None
    author_id: str | None = None
    created_at: str | None = None
    lang: str | None = None
    possibly_sensitive: bool | None = None
    withheld: _Withheld | None = None
    attachments: _Attachments | None = None
    entities: _Entities | None = None
    in_reply_to_user_id: str | None = None
    edit_history_tweet_ids: list[_Id] = []
    edit_history_post_ids: list[_Id] = []
    note_tweet: _Note | None = None
    note_post: _Note | None = None
    referenced_tweets: list[_Reference] | None = None
    referenced_posts: list[_Reference] | None = None

    @property
    def is_withheld(self) -> bool:
        return self.withheld is not None and (self.withheld.copyright or bool(self.withheld.country_codes))

    @property
    def versions(self) -> list[str]:
        """Ids of all versions up to now, the first one's first: an edit makes a new id."""
        return self.edit_history_tweet_ids or self.edit_history_post_ids or [self.id]

    @property
    def whole_text(self) -> str:
        """`text` ends after 280 characters, and has & < > escaped."""
        note = self.note_tweet or self.note_post
        text = note.text if note is not None else self.text or ""
        return unescaped(text)

    @property
    def media_keys(self) -> list[str]:
        return (self.attachments.media_keys if self.attachments is not None else None) or []

    def referenced(self, how: str) -> str | None:
        """Id of the post this one is an answer to ("replied_to"), quotes ("quoted") or reposts ("retweeted")."""
        references = self.referenced_tweets or self.referenced_posts or ()
        return next((reference.id for reference in references if reference.type == how), None)

    @property
    def reply_to(self) -> str | None:
        """Handle of the author answered, who is mentioned in the text."""
        if self.in_reply_to_user_id is None:
            return None
        mentions = (self.entities.mentions if self.entities is not None else None) or ()
        return next((mention.username for mention in mentions if mention.id == self.in_reply_to_user_id), None)

    @property
    def urls(self) -> tuple[str, ...]:
        """The text has t.co in their place."""
        urls = (self.entities.urls if self.entities is not None else None) or ()
        return tuple(url.unwound_url or url.expanded_url or "" for url in urls)


class Media(msgspec.Struct):
    media_key: str
    type: str = "photo"
    url: str | None = None
    preview_image_url: str | None = None
    alt_text: str | None = None
    width: int | None = None
    height: int | None = None


class _Metrics(msgspec.Struct):
    followers_count: int | None = None


class User(msgspec.Struct):
    id: str
    username: str | None = None
    public_metrics: _Metrics | None = None


class Includes(msgspec.Struct):
    media: list[Media] = []
    users: list[User] = []
    tweets: list[XPost] = []
    posts: list[XPost] = []


class Message(msgspec.Struct):
    """One line of the stream, or one answer of a lookup, where `data` is a list. Without `data` it is no post."""

    data: XPost | list[XPost] | None = None
    includes: Includes = msgspec.field(default_factory=Includes)

    @property
    def posts(self) -> list[XPost]:
        """What of it are posts."""
        found = self.data if isinstance(self.data, list) else [self.data] if self.data is not None else []
        return [post for post in found if post.text is not None]


read_message: Final = msgspec.json.Decoder(Message).decode
"""Raises msgspec.DecodeError for what is no message."""


def draft_of(post: XPost, includes: Includes, *, authors: AuthorHash, at: datetime) -> Draft | Skipped:
    """The post as received `at`. A repost is its author's own post with the text and the pictures of the other's."""
    if post.is_withheld:
        return Skipped(reason="withheld in some countries", item=post.id)
    warnings = []
    content = post
    if (reposted_id := post.referenced("retweeted")) is not None:
        others = (other for other in (*includes.tweets, *includes.posts) if other.id == reposted_id)
        content = next(others, post)
        if content is post:
            warnings.append("repost without the whole text")
    versions = post.versions
    # An edit stays at the time of the first version: it is the same post. Its id tells that, created_at may not.
    event = event_time(versions[0], post.created_at)
    if event is None:
        warnings.append("no time of its own")
    created_at, original = clamped(event.at if event is not None else at, at)
    user = next((user for user in includes.users if user.id == post.author_id), None)
    media = _media(content.media_keys, includes.media)
    links = tuple(_links(media))
    if len(links) < len(content.media_keys):
        warnings.append("pictures not told where")
    return Draft(
        post=Post(
            id=f"{SOURCE}:{versions[0]}",
            source=SOURCE,
            revision=EDIT_STEP * (versions.index(post.id) if post.id in versions else len(versions) - 1),
            created_at=created_at,
            original_created_at=original,
            ingested_at=at,
            text=content.whole_text,
            lang=post.lang if post.lang not in NO_LANGUAGE else None,
            author=authors(SOURCE, post.author_id) if post.author_id is not None else None,
            reach=user.public_metrics.followers_count if user is not None and user.public_metrics is not None else None,
            url=f"https://x.com/i/web/status/{post.id}",
            sensitive=bool(post.possibly_sensitive or content.possibly_sensitive),
        ),
        links=links,
        warnings=tuple(warnings),
        handle=user.username if user is not None else None,
        reply_to=post.reply_to,
        urls=content.urls,
        is_reply=post.in_reply_to_user_id is not None or post.referenced("replied_to") is not None,
        is_retweet=reposted_id is not None,
        is_quote=post.referenced("quoted") is not None,
        has_video=any(medium.type == "video" for medium in media),
    )


def _media(keys: list[str], included: list[Media]) -> list[Media]:
    """In the order of the post."""
    by_key = {medium.media_key: medium for medium in included}
    return [by_key[key] for key in keys if key in by_key]


def _links(media: list[Media]) -> Iterator[MediaLink]:
    """Of a video and a GIF the still that stands for it."""
    for medium in media:
        url = medium.url if medium.type == "photo" else medium.preview_image_url
        if url:
            yield MediaLink(
                url=rendition(url, medium.width, medium.height),
                alt=medium.alt_text or "",
                width=medium.width,
                height=medium.height,
            )


def rendition(url: str, width: int | None, height: int | None) -> str:
    """The picture in the smallest of X's renditions that has 256 px on its short side; any other host's as it is."""
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    if scheme != "https" or host != MEDIA_HOST:
        return url
    name = "small"
    if width and height:
        shape = min(width, height) / max(width, height)
        name = next((name for name, side in RENDITIONS.items() if side * shape >= SHORT_SIDE), "large")
    path, _, query = path.partition("?")
    others = [part for part in query.split("&") if part and not part.startswith("name=")]
    return f"{scheme}://{host}/{path}?{'&'.join([*others, f'name={name}'])}"
