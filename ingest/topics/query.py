"""Queries in X's filtered-stream grammar → conditions, with the column of what is wrong.

    keyword · "a phrase" · "two words"~3 · #hashtag · @mention · $cashtag
    from: · to: · url: · lang: · sample:10 · has:images|media|links|hashtags|mentions|cashtags · is:retweet|reply|quote
    OR (upper case) · AND by juxtaposition, which binds tighter · -negation · ( )

Words match whole words of the text, whatever the case: `tram` finds "Tram!" and "#tram", not "trample". As on X, each
alternative of a query needs a term that is not negated.
"""

from __future__ import annotations

from typing import Final, cast

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken

from ingest.errors import BadTopics
from ingest.topics import terms
from ingest.topics.reading import Reading
from ingest.topics.terms import Condition, Predicate

MAX_QUERY: Final = 1024
MAX_DEPTH: Final = 50


def parse_query(query: str) -> Condition:
    """Raises BadTopics with the column."""
    if len(query) > MAX_QUERY:
        raise BadTopics(f"a query has at most {MAX_QUERY} characters, this one {len(query)}", query=query)
    if _depth(query) > MAX_DEPTH:
        raise BadTopics(f"more than {MAX_DEPTH} parentheses within each other", query=query)
    try:
        condition = cast(Condition, _PARSER.parse(query))
    except BadTopics as error:
        raise BadTopics(error.problem, query=query, column=error.column) from None
    except UnexpectedInput as error:
        raise BadTopics(_explain(error, query), query=query, column=_column(error, query)) from None
    if condition.open_at is not None:
        problem = "a negation cannot stand alone: put a term that is not negated beside it, such as lang:en"
        raise BadTopics(problem, query=query, column=condition.open_at)
    return condition


class _Compiler(Transformer[Token, Condition]):
    """Parse tree → nested conditions."""

    def query(self, children: list[Condition]) -> Condition:
        return children[0]

    def any(self, children: list[Condition]) -> Condition:
        keys = [child.keys for child in children]
        known = frozenset[str]().union(*(some for some in keys if some is not None))
        open_at = next((child.open_at for child in children if child.open_at is not None), None)
        return Condition(_any_of(children), known if None not in keys else None, open_at=open_at)

    def all(self, children: list[Condition]) -> Condition:
        keys = min((child.keys for child in children if child.keys is not None), key=_frequency, default=None)
        is_open = all(child.open_at is not None for child in children)
        return Condition(_all_of(children), keys, open_at=children[0].open_at if is_open else None)

    def negation(self, children: list[Token | Condition]) -> Condition:
        minus, child = children
        assert isinstance(minus, Token) and isinstance(child, Condition)
        if not child.can_be_negated:
            raise BadTopics("sample: cannot be negated; ask for the rest of 100", column=minus.column)
        matches = child.matches
        return Condition(lambda reading: not matches(reading), None, open_at=minus.column)

    def keyword(self, children: list[Token]) -> Condition:
        return terms.keyword(*_placed(children))

    def phrase(self, children: list[Token]) -> Condition:
        return terms.phrase(*_placed(children))

    def tag(self, children: list[Token]) -> Condition:
        return terms.tag(str(children[0]))

    def cashtag(self, children: list[Token]) -> Condition:
        return terms.cashtag(str(children[0]))

    def operator(self, children: list[Token]) -> Condition:
        return terms.operator(*_placed(children))


def _placed(children: list[Token]) -> tuple[str, int]:
    """A term's text and column."""
    return str(children[0]), children[0].column or 1


_PARSER = Lark(
    r"""
    query: any
    ?any: all ("OR" all)*
    ?all: term+
    ?term: MINUS atom -> negation
         | atom
    ?atom: "(" any ")"
         | PHRASE   -> phrase
         | OPERATOR -> operator
         | HASHTAG  -> tag
         | MENTION  -> tag
         | CASHTAG  -> cashtag
         | KEYWORD  -> keyword
    MINUS: "-"
    PHRASE.2: /"[^"]*"(~[^\s()"]*)?/
    OPERATOR.2: /[A-Za-z_]+:("[^"]*"|[^\s()"]+)/
    HASHTAG.2: /#[^\s()":]+/
    MENTION.2: /@[A-Za-z0-9_.-]+/
    CASHTAG.2: /\$[A-Za-z][A-Za-z._]*/
    KEYWORD.1: /(?!OR(?![^\s()]))[^\s()":#@-][^\s()":]*/
    %ignore /\s+/
    """,
    start="query",
    parser="lalr",
    transformer=_Compiler(),
)


def _any_of(children: list[Condition]) -> Predicate:
    words, others = _parted(children)
    if not others:
        return lambda reading: not words.isdisjoint(reading.words)

    def matches(reading: Reading) -> bool:
        if not words.isdisjoint(reading.words):
            return True
        for other in others:  # noqa: SIM110  # a generator costs more than what it would run here
            if other(reading):
                return True
        return False

    return matches


def _all_of(children: list[Condition]) -> Predicate:
    words, others = _parted(children)
    if not others:
        return lambda reading: words <= reading.words

    def matches(reading: Reading) -> bool:
        if not words <= reading.words:
            return False
        for other in others:  # noqa: SIM110  # as above
            if not other(reading):
                return False
        return True

    return matches


def _parted(children: list[Condition]) -> tuple[frozenset[str], tuple[Predicate, ...]]:
    """Single words, which are looked up all at once, and the other children."""
    words = frozenset(child.word for child in children if child.word is not None)
    return words, tuple(child.matches for child in children if child.word is None)


def _frequency(keys: frozenset[str]) -> float:
    """How often one of the keys will turn up in a post, roughly: long words are rare, facts are not."""
    return sum(1.0 if key.startswith(("has:", "is:", "lang:")) else 2.0 ** -min(len(key), 10) for key in keys)


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
