"""A post as queries see it: what a source tells of it, and the one form in which its words are compared."""

from __future__ import annotations

import re
import unicodedata
from functools import cached_property
from operator import add
from typing import Final, NamedTuple

LETTER: Final = r"[^\W\u0e00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
"""A letter, digit or _ of a script that separates words: not Thai to Burmese, Khmer, kana, Han; nor Hangul, which adds
particles to them."""
_WORD: Final = re.compile(f"{LETTER}+")
_ASCII_WORD: Final = re.compile("[a-z0-9_]+")
_URL: Final = re.compile(r"(?:https?://|(?<![\w.@])www\.)[^\s<>\"]+")
_OLD_CODES: Final = {"iw": "he", "in": "id", "ji": "yi"}
"""X still says `iw` for Hebrew and `in` for Indonesian."""


class Subject(NamedTuple):
    """What a query can ask about a post. Only `text` is needed; what a source does not know stays as it is here.

    text: with the descriptions of its pictures; handle: the author's; id: of the post, which `sample:` goes by;
    urls: of its links, expanded, where the text does not spell them out; reply_to: handle of the author answered.
    """

    text: str
    lang: str | None = None
    handle: str | None = None
    has_images: bool = False
    id: str = ""
    urls: tuple[str, ...] = ()
    reply_to: str | None = None
    is_reply: bool = False
    is_retweet: bool = False
    is_quote: bool = False
    has_video: bool = False


class Reading:
    """A subject read once for all queries.

    text: normal; words: its whole words, `_` counting as a letter (`line_9`); the same parted at `_` are keys.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.text = text = normal(subject.text)
        self.words = words_of(text)

    @property
    def keys(self) -> set[str]:
        """What the index looks rules up by: single words, and facts with a colon (which no word has in it).

        A fact may be claimed too often: a rule that asks for it then looks closely.
        """
        subject, text = self.subject, self.text
        keys = tokens_of(self.words) if "_" in text else set(self.words)
        if subject.lang:
            keys.add(f"lang:{language(subject.lang)}")
        if subject.handle:
            keys.add(f"from:{handle(subject.handle)}")
        if subject.has_images or subject.has_video:
            keys.update(("has:media", "has:images"))
        if subject.is_retweet or subject.is_quote:
            keys.update(("is:retweet", "is:quote"))
        if subject.is_reply or subject.reply_to is not None:
            keys.update(("is:reply", f"to:{handle(subject.reply_to or '')}"))
        for sign, key in _SIGNS:
            if sign in text:
                keys.add(key)
        if self._may_link:
            keys.add("has:links")
        return keys

    @property
    def url_keys(self) -> set[str]:
        """The same of its links."""
        return {f"url:{token}" for token in tokens_of(words_of(self.urls))} if self._may_link else set()

    @property
    def _may_link(self) -> bool:
        return bool(self.subject.urls) or "://" in self.text or "www." in self.text

    @cached_property
    def urls(self) -> str:
        """All its links, normal, one a line."""
        if not self._may_link:
            return ""
        return "\n".join((*map(normal, self.subject.urls), *_URL.findall(self.text)))


_SIGNS: Final = (("#", "has:hashtags"), ("@", "has:mentions"), ("$", "has:cashtags"))


def normal(text: str) -> str:
    """Case, Unicode forms and curly apostrophes make no difference."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", text).casefold().replace("’", "'")


def words_of(text: str) -> set[str]:
    """Whole words of a normal text; nothing of scripts that put no spaces between words."""
    return set((_ASCII_WORD if text.isascii() else _WORD).findall(text))


def tokens_of(words: set[str]) -> set[str]:
    """Words parted at `_`, which separates the words of a phrase as a space does."""
    return {token for word in words for token in word.split("_") if token}


def pairs_of(text: str) -> set[str]:
    """Neighbouring characters: what scripts without words between spaces are looked up by."""
    return set(map(add, text, text[1:]))


def handle(name: str) -> str:
    """A handle as it is compared."""
    return name.removeprefix("@").casefold()


def language(code: str) -> str:
    """`en-GB` → `en`, and today's code for an old one."""
    code = code.casefold().partition("-")[0]
    return _OLD_CODES.get(code, code)
