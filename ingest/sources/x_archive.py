"""Archives of X API v2 JSON as twarc2 and the streams leave it: a line is an answer, a message or a flattened post."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import msgspec

from ingest.authors import AuthorHash
from ingest.sources.items import Item, Skipped
from ingest.sources.line_archive import Fields, Format, Read, archived, each_line
from ingest.sources.times import event_time
from ingest.sources.x_posts import Includes, Media, Message, User, XPost, draft_of

_FLAT: Final = frozenset(
    ("author_id", "edit_history_tweet_ids", "public_metrics", "conversation_id", "referenced_tweets", "__twarc")
)


class _Referenced(XPost):
    """A whole post in the place of a reference to it, as `twarc2 flatten` makes it."""

    type: str = ""


class _FlatAttachments(msgspec.Struct):
    media: list[Media] = []


class _Flat(msgspec.Struct):
    """What flattening has put into a post of what stood in `includes`."""

    author: User | None = None
    attachments: _FlatAttachments | None = None
    referenced_tweets: list[_Referenced] = []

    @property
    def includes(self) -> Includes:
        return Includes(
            media=self.attachments.media if self.attachments is not None else [],
            users=[self.author] if self.author is not None else [],
            tweets=[post for post in self.referenced_tweets if post.text is not None],
        )


_message_of = msgspec.json.Decoder(Message).decode
_post_of = msgspec.json.Decoder(XPost).decode
_flat_of = msgspec.json.Decoder(_Flat).decode


def _recognises(fields: Fields) -> bool:
    if "data" in fields:
        data = bytes(fields["data"])[:1]
        return data in (b"{", b"[") and not fields.keys() - {
            "data",
            "includes",
            "errors",
            "meta",
            "matching_rules",
            "__twarc",
        }
    return "id" in fields and "text" in fields and "id_str" not in fields and not _FLAT.isdisjoint(fields)


def _reader(authors: AuthorHash) -> Read:
    def items_of(line: bytes) -> Iterator[Item]:
        message = _message_of(line)
        posts, includes = message.posts, message.includes
        if message.data is None:
            post = _post_of(line) if b'"text"' in line else None
            if post is None or post.text is None:
                yield Skipped(reason="message without posts", item=line[:80].decode("utf-8", "replace"))
                return
            posts, includes = [post], _flat_of(line).includes
        elif not posts:
            yield Skipped(reason="message without posts", item=line[:80].decode("utf-8", "replace"))
        for post in posts:
            yield _item(post, includes, authors)

    return each_line(items_of)


def _item(post: XPost, includes: Includes, authors: AuthorHash) -> Item:
    if event_time(post.versions[0], post.created_at) is None:
        return Skipped(reason="post without a readable time", item=post.id)
    item = draft_of(post, includes, authors=authors, at=datetime.now(UTC))
    return item if isinstance(item, Skipped) else archived(item)


FORMAT: Final = Format("X API v2 JSON Lines", _reader, _recognises)
