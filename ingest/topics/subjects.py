"""What of a draft its topics are matched on, alike for every source."""

from __future__ import annotations

from collections.abc import Iterable

from ingest.sources.items import Draft
from ingest.topics.reading import Subject


def subject_of(draft: Draft, descriptions: Iterable[str], *, has_images: bool) -> Subject:
    """The author's description of a picture counts as text here: a meme's words are in no other place."""
    text = "\n".join((draft.post.text, *descriptions)) if has_images else draft.post.text
    return Subject(
        text=text,
        lang=draft.post.lang,
        handle=draft.handle,
        has_images=has_images,
        id=draft.post.id.partition(":")[2],
        urls=draft.urls,
        reply_to=draft.reply_to,
        is_reply=draft.is_reply,
        is_retweet=draft.is_retweet,
        is_quote=draft.is_quote,
        has_video=draft.has_video,
    )
