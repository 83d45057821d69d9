"""The terms of a query: each a predicate over readings, and the keys by which the index finds it.

The index rests on one promise: a reading that a condition matches holds at least one of the condition's keys. It is
kept because a term that matches whole words has all its words in the text, each bounded by what is no letter.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple
from zlib import crc32

from ingest.errors import BadTopics
from ingest.topics.reading import LETTER, Reading, handle, language, normal, pairs_of, tokens_of, words_of

_DISTANCES: Final = "123456"
MAX_GAP: Final = 32
"""Spaces and punctuation between two words of a phrase; without a limit a hostile text takes quadratic time."""
KNOWN: Final = (
    "from:handle, to:handle, url:example.org, lang:en, sample:10, has:images|media|links|hashtags|mentions|cashtags "
    "and is:retweet|reply|quote are"
)

Predicate = Callable[[Reading], bool]

_compiled = lru_cache(maxsize=20_000)(re.compile)
"""Patterns are compiled when a post first may match: of thousands few are needed soon, and each takes a millisecond."""


class Condition(NamedTuple):
    """A query or a part of one.

    keys: a reading it matches has one of them; None where nothing can be said. word: set where it asks for just this
    one word. open_at: column of the negation by which it matches posts that hold none of its terms; None otherwise.
    """

    matches: Predicate
    keys: frozenset[str] | None
    word: str | None = None
    open_at: int | None = None
    can_be_negated: bool = True


def keyword(text: str, column: int) -> Condition:
    if text == "AND":
        raise BadTopics("AND is understood between words; leave it out", column=column)
    word = normal(text)
    if words_of(word) == {word}:
        return Condition(lambda reading: word in reading.words, _keys([word]), word)
    return _contains(re.escape(word), [word])


def phrase(text: str, column: int) -> Condition:
    quoted, _, distance = text.rpartition('"')
    words = normal(quoted[1:]).split()
    if not words:
        raise BadTopics("empty phrase; put words between the quotes", column=column)
    if distance:
        return _nearby(words, distance[1:], column)
    return _contains(rf"[\W_]{{1,{MAX_GAP}}}".join(map(re.escape, words)), words)


def tag(text: str) -> Condition:
    """A #hashtag or @mention."""
    return _tag(r"\w", text)


def cashtag(text: str) -> Condition:
    return _tag(r"\w$", text)


def operator(text: str, column: int) -> Condition:
    name, _, value = text.partition(":")
    value = value.strip('"').casefold()
    match name:
        case "from" if author := handle(value):
            is_author: Predicate = lambda reading: handle(reading.subject.handle or "") == author  # noqa: E731
            return Condition(is_author, frozenset({f"from:{author}"}))
        case "to" if answered := handle(value):
            is_answer: Predicate = lambda reading: handle(reading.subject.reply_to or "") == answered  # noqa: E731
            return Condition(is_answer, frozenset({f"to:{answered}"}))
        case "url" if words := [word for word in re.split(r"[\W_]+", normal(value)) if word]:
            return _link(words)
        case "lang" if language(value):
            return _spoken(value)
        case "sample":
            return _sample(value, column)
        case "has" | "is" if (fact := f"{name}:{value}") in _FACTS:
            return Condition(_FACTS[fact], frozenset({fact}))
    raise BadTopics(f"operator {text!r} is not known; {KNOWN}", column=column)


def _contains(pattern: str, words: list[str]) -> Condition:
    """Whole words only; next to emoji, and in scripts that put no spaces between words, no boundary is asked for."""
    before = rf"(?<!{LETTER})" if re.fullmatch(LETTER, words[0][0]) else ""
    after = rf"(?!{LETTER})" if re.fullmatch(LETTER, words[-1][-1]) else ""
    if not before and not after and len(words) == 1:
        return Condition(lambda reading: words[0] in reading.text, _keys(words))
    return Condition(_search(before + pattern + after, max(words, key=len)), _keys(words))


def _tag(not_before: str, text: str) -> Condition:
    tag = normal(text)
    return Condition(_search(rf"(?<![{not_before}]){re.escape(tag)}(?!{LETTER})", tag), _keys([tag[1:]]))


def _keys(words: list[str]) -> frozenset[str]:
    """The longest word; where there is none (kana, emoji, punctuation) two neighbouring characters, or a single one."""
    tokens = tokens_of(words_of(" ".join(words)))
    if tokens:
        return frozenset({_longest(tokens)})
    longest = max(words, key=len)
    return frozenset({max(pairs_of(longest) or {longest})})


def _longest(tokens: set[str]) -> str:
    return max(tokens, key=lambda token: (len(token), token))


def _search(pattern: str, part: str) -> Predicate:
    """`part` is in all that the pattern matches; looking for it first is several times faster than the pattern."""
    return lambda reading: part in reading.text and _compiled(pattern).search(reading.text) is not None


def _nearby(words: list[str], distance: str, column: int) -> Condition:
    """As Lucene's sloppy phrase: so many words may stand between, and swapping two neighbours costs two."""
    if len(distance) != 1 or distance not in _DISTANCES:
        raise BadTopics(f"~{distance}: a distance is 1 to {_DISTANCES[-1]}", column=column)
    if len(words) < 2 or len(set(words)) < len(words):
        raise BadTopics("a distance needs two words or more, all different", column=column)
    if strange := [word for word in words if words_of(word) != {word}]:
        raise BadTopics(f"a distance counts words between spaces, which {strange[0]!r} is not", column=column)
    places, needed, most = {word: place for place, word in enumerate(words)}, frozenset(words), int(distance)

    def matches(reading: Reading) -> bool:
        return needed <= reading.words and _spread(places, reading.text) <= most

    return Condition(matches, _keys(words))


_TOKEN: Final = re.compile(rf"{LETTER}+|\w")


def _spread(places: dict[str, int], text: str) -> int:
    """The least that the words of `places`, all of them in the text, are moved against their order there."""
    shifts = sorted(
        (position - places[token], token) for position, token in enumerate(_TOKEN.findall(text)) if token in places
    )
    least, latest = len(text), dict[str, int]()
    for shift, token in shifts:
        latest[token] = shift
        if len(latest) == len(places):
            least = min(least, shift - min(latest.values()))
    return least


_IN_MANY_LINKS: Final = {"http", "https", "www", "com", "org", "net", "html"}


def _link(words: list[str]) -> Condition:
    """The words in a row in one link: those of `example.org/a` are in `https://www.example.org/a-b`."""
    pattern = r"(?:(?!\n)[\W_])+".join(map(re.escape, words))
    pattern = rf"(?<![^\W_]){pattern}(?![^\W_])"
    tokens = tokens_of(words_of(" ".join(words)))
    key = f"url:{_longest(tokens - _IN_MANY_LINKS or tokens)}" if tokens else "has:links"
    return Condition(lambda reading: _compiled(pattern).search(reading.urls) is not None, frozenset({key}))


def _spoken(value: str) -> Condition:
    """A region asked for must be the post's; without one any will do."""
    wanted, key = value.casefold(), language(value)
    if "-" in wanted:
        return Condition(lambda reading: (reading.subject.lang or "").casefold() == wanted, frozenset({f"lang:{key}"}))
    return Condition(lambda reading: language(reading.subject.lang or "") == key, frozenset({f"lang:{key}"}))


def _sample(value: str, column: int) -> Condition:
    """The same posts each time, edits of them too."""
    if not value.isdecimal() or not 1 <= int(value) <= 100:
        raise BadTopics(f"sample:{value}: give the percentage to keep, a whole number from 1 to 100", column=column)
    percentage = int(value)
    return Condition(lambda reading: crc32(reading.subject.id.encode()) % 100 < percentage, None, can_be_negated=False)


_FACTS: Final[dict[str, Predicate]] = {
    "has:images": lambda reading: reading.subject.has_images,
    "has:media": lambda reading: reading.subject.has_images or reading.subject.has_video,
    "has:links": lambda reading: bool(reading.urls),
    "has:hashtags": _search(r"(?<!\w)#\d*[^\W\d]", "#"),
    "has:mentions": _search(r"(?<!\w)@\w", "@"),
    "has:cashtags": _search(r"(?<![\w$])\$[a-z]{1,6}(?!\w)", "$"),
    "is:retweet": lambda reading: reading.subject.is_retweet,
    "is:reply": lambda reading: reading.subject.is_reply or reading.subject.reply_to is not None,
    "is:quote": lambda reading: reading.subject.is_quote,
}
