"""The user's topics: names and queries in X's filtered-stream grammar, compiled once, applied alike to every source.

    keyword · "a phrase" · #hashtag · @mention · from:handle · lang:en · has:images
    OR (upper case) · AND by juxtaposition, which binds tighter · -negation · ( )

Words match whole words of the text, whatever the case: `tram` finds "Tram!" and "#tram", not "trample".
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken, VisitError

from ingest.errors import BadTopics

BUILT_IN: Final = "all"
MAX_NAME: Final = 60
MAX_QUERY: Final = 1024
MAX_DEPTH: Final = 50


class Subject(NamedTuple):
    """What a query can ask about a post."""

    text: str
    lang: str | None = None
    handle: str | None = None
    has_images: bool = False


# A letter or digit of a script that separates words: not Thai to Burmese, Khmer, kana, Han; nor Hangul, which adds
# particles to them.
_LETTER: Final = r"[^\W\u0e00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"

Predicate = Callable[[Subject], bool]

_PARSER = Lark(
    r"""
    query: any
    ?any: all ("OR" all)*
    ?all: term+
    ?term: "-" atom -> negation
         | atom
    ?atom: "(" any ")"
         | PHRASE   -> phrase
         | OPERATOR -> operator
         | HASHTAG  -> hashtag
         | MENTION  -> mention
         | KEYWORD  -> keyword
    PHRASE.2: /"[^"]*"/
    OPERATOR.2: /[A-Za-z_]+:[^\s()"]+/
    HASHTAG.2: /#[^\s()":]+/
    MENTION.2: /@[A-Za-z0-9_.-]+/
    KEYWORD.1: /(?!OR(?![^\s()]))[^\s()":#@-][^\s()":]*/
    %ignore /\s+/
    """,
    start="query",
    parser="lalr",
)


class Topic(NamedTuple):
    """A named query."""

    name: str
    query: str
    matches: Predicate


class Topics:
    """All topics of the user."""

    def __init__(self, topics: Iterable[Topic] = ()) -> None:
        self._topics = tuple(topics)
        self.names = tuple(topic.name for topic in self._topics)

    def match(self, subject: Subject) -> tuple[str, ...]:
        """Names of the topics a post belongs to, in the order of the file."""
        ready = subject._replace(text=_normal(subject.text))
        return tuple(topic.name for topic in self._topics if topic.matches(ready))


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    query: str


class _File(msgspec.Struct, forbid_unknown_fields=True):
    topic: list[_Entry] = []


def load_topics(path: Path) -> Topics:
    """Reads `[[topic]]` tables with `name` and `query`. Raises BadTopics naming topic, query and column."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        entries = msgspec.convert(tables, _File).topic
    except OSError as error:
        raise BadTopics(f"cannot read {path} (MOODSTREAM_TOPICS): {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise BadTopics(f"{path} is not a list of [[topic]] tables with name and query: {error}") from error
    return compile_topics((entry.name, entry.query) for entry in entries)


def compile_topics(definitions: Iterable[tuple[str, str]]) -> Topics:
    """(name, query) pairs → topics. Raises BadTopics."""
    topics: list[Topic] = []
    for name, query in definitions:
        if not 1 <= len(name) <= MAX_NAME or not name.isprintable() or name != name.strip():
            raise BadTopics(f"use a name of 1 to {MAX_NAME} printable characters", topic=name)
        if name == BUILT_IN:
            raise BadTopics(f"{BUILT_IN!r} is built in and holds every post; use another name", topic=name)
        if any(topic.name == name for topic in topics):
            raise BadTopics("two topics have this name", topic=name)
        try:
            topics.append(Topic(name, query, parse_query(query)))
        except BadTopics as error:
            raise BadTopics(error.problem, topic=name, query=query, column=error.column) from error
    return Topics(topics)


def parse_query(query: str) -> Predicate:
    """Query → predicate over subjects whose text went through `_normal`. Raises BadTopics with the column."""
    if len(query) > MAX_QUERY:
        raise BadTopics(f"a query has at most {MAX_QUERY} characters, this one {len(query)}", query=query)
    if _depth(query) > MAX_DEPTH:
        raise BadTopics(f"more than {MAX_DEPTH} parentheses within each other", query=query)
    try:
        predicate: Predicate = _Compiler().transform(_PARSER.parse(query))
    except VisitError as error:
        if isinstance(error.orig_exc, BadTopics):
            raise BadTopics(error.orig_exc.problem, query=query, column=error.orig_exc.column) from None
        raise
    except UnexpectedInput as error:
        raise BadTopics(_explain(error, query), query=query, column=_column(error, query)) from None
    return predicate


class _Compiler(Transformer[Token, Predicate]):
    """Parse tree → nested predicates."""

    def query(self, children: list[Predicate]) -> Predicate:
        return children[0]

    def any(self, children: list[Predicate]) -> Predicate:
        return lambda subject: any(child(subject) for child in children)

    def all(self, children: list[Predicate]) -> Predicate:
        return lambda subject: all(child(subject) for child in children)

    def negation(self, children: list[Predicate]) -> Predicate:
        child = children[0]
        return lambda subject: not child(subject)

    def phrase(self, children: list[Token]) -> Predicate:
        words = _normal(children[0][1:-1]).split()
        if not words:
            raise BadTopics("empty phrase; put words between the quotes", column=children[0].column)
        return _contains(r"[\W_]+".join(re.escape(word) for word in words), words[0][0], words[-1][-1])

    def keyword(self, children: list[Token]) -> Predicate:
        if children[0] == "AND":
            raise BadTopics("AND is understood between words; leave it out", column=children[0].column)
        word = _normal(children[0])
        return _contains(re.escape(word), word[0], word[-1])

    def hashtag(self, children: list[Token]) -> Predicate:
        tag = _normal(children[0])[1:]
        return _search(rf"(?<!\w)#{re.escape(tag)}(?!{_LETTER})")

    def mention(self, children: list[Token]) -> Predicate:
        return _search(rf"(?<!\w){re.escape(_normal(children[0]))}(?!{_LETTER})")

    def operator(self, children: list[Token]) -> Predicate:
        token = children[0]
        name, _, value = token.partition(":")
        value = value.casefold()
        if name == "from":
            handle = value.removeprefix("@")
            return lambda subject: (subject.handle or "").removeprefix("@").casefold() == handle
        if name == "lang":
            return lambda subject: (subject.lang or "").casefold().partition("-")[0] == value
        if name == "has" and value == "images":
            return lambda subject: subject.has_images
        problem = f"operator {str(token)!r} is not known; from:handle, lang:en and has:images are"
        raise BadTopics(problem, column=token.column)


def _contains(pattern: str, first: str, last: str) -> Predicate:
    """Whole words only; next to emoji, and in scripts that put no spaces between words, no boundary is asked for."""
    before = rf"(?<!{_LETTER})" if re.fullmatch(_LETTER, first) else ""
    after = rf"(?!{_LETTER})" if re.fullmatch(_LETTER, last) else ""
    return _search(before + pattern + after)


def _search(pattern: str) -> Predicate:
    search = re.compile(pattern).search
    return lambda subject: search(subject.text) is not None


def _normal(text: str) -> str:
    """Case, Unicode forms and curly apostrophes make no difference."""
    return unicodedata.normalize("NFKC", text).casefold().replace("’", "'")


def _depth(query: str) -> int:
    depth = deepest = 0
    for character in query:
        depth += (character == "(") - (character == ")")
        deepest = max(deepest, depth)
    return deepest


def _column(error: UnexpectedInput, query: str) -> int:
    if isinstance(error, UnexpectedEOF) or (isinstance(error, UnexpectedToken) and error.token.type == "$END"):
        return len(query) + 1
    return error.column


def _explain(error: UnexpectedInput, query: str) -> str:
    if not query.strip():
        return "empty query; give it at least one word"
    column = _column(error, query)
    if column > len(query):
        opened = query.count("(") - query.count(")")
        return "a closing parenthesis is missing" if opened > 0 else "the query ends where a word should follow"
    if isinstance(error, UnexpectedCharacters) and error.char == '"':
        return "this quotation mark is not closed"
    found = str(error.token) if isinstance(error, UnexpectedToken) else query[column - 1]
    if found == ")":
        return "unexpected ')': nothing to close here, or nothing between the parentheses"
    return f"unexpected {found!r}"
