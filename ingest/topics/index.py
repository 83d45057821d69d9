"""Which of many conditions can match a post at all: thousands of topics cost hardly more than ten."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from ingest.topics.reading import Reading, pairs_of, tokens_of, words_of
from ingest.topics.terms import Condition


class TopicIndex:
    """Conditions by their keys. A post is checked only against those that share a key with it.

    Conditions without keys (just `sample:`) are checked against every post.
    """

    def __init__(self, conditions: Sequence[Condition]) -> None:
        self._predicates = tuple(condition.matches for condition in conditions)
        self._always = frozenset(number for number, condition in enumerate(conditions) if condition.keys is None)
        numbers = defaultdict[str, list[int]](list)
        for number, condition in enumerate(conditions):
            for key in condition.keys or ():
                numbers[key].append(number)
        self._numbers = dict(numbers)
        self._keys = frozenset(numbers)
        self._url_keys = frozenset(key for key in numbers if key.startswith("url:"))
        # What no reading lists as keys, since few rules need it: emoji, punctuation, scripts without spaces.
        scraps = {key for key in numbers if len(key) <= 2 and not tokens_of(words_of(key))}
        self._characters = frozenset(scrap for scrap in scraps if len(scrap) == 1)
        self._pairs = frozenset(scraps - self._characters)
        self._has_ascii_scraps = any(scrap.isascii() for scrap in scraps)

    def matching(self, reading: Reading) -> list[int]:
        """Numbers of the conditions that match, in their order."""
        predicates = self._predicates
        return [number for number in sorted(self.candidates(reading)) if predicates[number](reading)]

    def candidates(self, reading: Reading) -> set[int]:
        """Numbers of the conditions that may match; the others cannot."""
        found = set(self._always)
        for key in self._keys & reading.keys:
            found.update(self._numbers[key])
        if self._url_keys:
            for key in self._url_keys & reading.url_keys:
                found.update(self._numbers[key])
        if self._has_ascii_scraps or not reading.text.isascii():
            for key in self._scraps_of(reading.text):
                found.update(self._numbers[key])
        return found

    def _scraps_of(self, text: str) -> frozenset[str]:
        characters = self._characters.intersection(text) if self._characters else self._characters
        return characters | (self._pairs & pairs_of(text)) if self._pairs else characters
