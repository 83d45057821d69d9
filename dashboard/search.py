"""Which retained posts a reader asks for: a search as plain words of a link, and the posts that answer it.

Reading is bounded: the newest READ posts of the range are read, and what was left out is told.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from redis import Redis

from inference_worker.contract import ALL, BUCKET_S, LABELS, Counters, Level, Prediction, Results
from ingest.topics.definitions import Subject
from ingest.topics.query import parse_query
from ingest.topics.reading import Reading

from .errors import InvalidView, NoResults
from .reading import UTC_NAME, iso
from .translation import translated

READ: Final = 2_000
PAGE: Final = 12
MODALITIES: Final = ("text", "image", "both")
FLAGS: Final[Mapping[str, Callable[[Prediction], bool]]] = {
    "image": lambda post: post.images > 0,
    "disagree": lambda post: post.disagrees,
    "abstained": lambda post: post.abstained,
    "answered": lambda post: not post.abstained,
    "corrected": lambda post: post.correction is not None,
    "wrong": lambda post: (post.correction or post.label or post.predicted) != post.predicted,
}
"""What a search may insist on, by its word in the link."""
FLAG_TITLES: Final = {
    "image": "has a picture",
    "disagree": "text and picture disagree",
    "abstained": "abstained",
    "answered": "not abstained",
    "corrected": "corrected",
    "wrong": "model was wrong",
}
_RANGE = re.compile(r"(\d{1,3})-(\d{1,3})")


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is asked for; the usual values ask for everything.

    confidence: percent, from and to; words: a query in the grammar of topics; start, end: None for as far as there is.
    """

    namespace: str
    topics: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    confidence: tuple[int, int] = (0, 100)
    modality: str = ""
    only: tuple[str, ...] = ()
    lang: str = ""
    source: str = ""
    words: str = ""
    start: datetime | None = None
    end: datetime | None = None

    @property
    def params(self) -> dict[str, str | list[str]]:
        """The search in a link, without what is usual."""
        low, high = self.confidence
        said: dict[str, str | list[str]] = {
            "topics": list(self.topics),
            "class": list(self.labels),
            "confidence": "" if (low, high) == (0, 100) else f"{low}-{high}",
            "modality": self.modality,
            "only": list(self.only),
            "lang": self.lang,
            "source": self.source,
            "words": self.words,
            "from": iso(self.start) if self.start else "",
            "to": iso(self.end) if self.end else "",
        }
        return {name: value for name, value in said.items() if value}


PARAMS: Final = ("topics", "class", "confidence", "modality", "only", "lang", "source", "words", "from", "to")


def search_of(namespace: str, get_all: Callable[[str], Sequence[str]]) -> Search:
    """The search of a link; what is none of the words known is left out. Raises InvalidView for an impossible time."""

    def first(name: str) -> str:
        return next(iter(get_all(name)), "")[:1024]

    modality = first("modality")
    return Search(
        namespace=namespace,
        topics=tuple(get_all("topics")),
        labels=tuple(label for label in LABELS if label in get_all("class")),
        confidence=_percents(first("confidence")),
        modality=modality if modality in MODALITIES else "",
        only=tuple(flag for flag in FLAGS if flag in get_all("only")),
        lang=first("lang"),
        source=first("source"),
        words=first("words"),
        start=moment(first("from")),
        end=moment(first("to")),
    )


def moment(said: str, zone: str = UTC_NAME) -> datetime | None:
    """ISO 8601 → UTC; a time that names no zone is of the reader's. Raises InvalidView."""
    if not said.strip():
        return None
    try:
        at = datetime.fromisoformat(said.strip().replace(" ", "T", 1))
        at = at if at.tzinfo else at.replace(tzinfo=ZoneInfo(zone))
        return at.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidView(f"time {said[:40]!r} cannot be read: write it as 2026-05-04 12:30") from error


def typed(at: datetime | None, zone: str) -> str:
    """A time in a field, on the reader's clock: `2026-05-04 12:30`, with seconds where it has some."""
    if at is None:
        return ""
    here = at.astimezone(ZoneInfo(zone))
    return f"{here:%Y-%m-%d %H:%M:%S}".removesuffix(":00")


def _percents(said: str) -> tuple[int, int]:
    found = _RANGE.fullmatch(said)
    low, high = (int(found[1]), int(found[2])) if found else (0, 100)
    return (low, high) if low <= high <= 100 else (0, 100)


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Retained posts of a range, newest first. left_out: there are older ones unread.

    start, end: as asked for, widened to the whole buckets its posts are counted in.
    counters: of all posts scored in the range, kept or not; of several topics the busiest's, as a
    post may be in more than one.
    """

    clock: datetime
    kind: str
    start: datetime
    end: datetime
    posts: tuple[Prediction, ...]
    counters: Counters
    left_out: bool

    @property
    def scored(self) -> int:
        return self.counters.posts


def read(
    redis: Redis,
    namespace: str,
    topics: Sequence[str],
    start: datetime | None,
    end: datetime | None,
    *,
    first: datetime,
    address: str,
    limit: int = READ,
) -> Stretch:
    """The newest posts of any of the topics, `limit` shared among them, or of all posts. Raises DashboardError.

    first: of the namespace's posts, where a range without a start begins.
    """
    with translated(namespace, address):
        results = Results(redis, namespace)
        kind, clock = results.meta().kind, results.watermark()
        if clock is None:
            raise NoResults(namespace)
        after = clock + timedelta(seconds=1)
        begin, until = max(start, first) if start else first, min(end, after) if end else after
        level = level_of(until - begin)
        begin, until = floor(begin, level), min(_ceiling(until, level), after)
        wanted = topics or (ALL,)
        if begin >= until:
            return Stretch(
                clock=clock, kind=kind, start=begin, end=until, posts=(), counters=Counters(), left_out=False
            )
        share = -(-limit // len(wanted))
        of_topics = [results.posts(topic, begin, until, limit=share) for topic in wanted]
        # Where one topic was cut off, older posts of the others would make it look rarer than it is.
        cuts = [of_topic[-1].created_at for of_topic in of_topics if len(of_topic) >= share]
        found = {
            post.id: post for of_topic in of_topics for post in of_topic if post.created_at >= max(cuts, default=begin)
        }
        posts = sorted(found.values(), key=lambda post: (post.created_at, post.id), reverse=True)
        return Stretch(
            clock=clock,
            kind=kind,
            start=begin,
            end=until,
            posts=tuple(posts),
            counters=_counted(results, wanted, level, begin, until),
            left_out=bool(cuts),
        )


def level_of(span: timedelta) -> Level:
    """The rollup in which the posts of so long a range are counted."""
    return "minute" if span <= timedelta(days=4) else "hour" if span <= timedelta(days=90) else "day"


def floor(at: datetime, level: Level) -> datetime:
    """Start of the bucket a time falls into."""
    seconds = int(at.timestamp())
    return datetime.fromtimestamp(seconds - seconds % BUCKET_S[level], UTC)


def _ceiling(at: datetime, level: Level) -> datetime:
    return floor(at + timedelta(seconds=BUCKET_S[level], microseconds=-1), level)


def _counted(results: Results, topics: Sequence[str], level: Level, start: datetime, end: datetime) -> Counters:
    sums = [
        Counters(*map(sum, zip(*buckets.values(), strict=True))) if buckets else Counters()
        for buckets in results.rollups(topics, level, start, end).values()
    ]
    return max(sums, key=lambda counters: counters.posts)


def matching(posts: Iterable[Prediction], search: Search) -> list[Prediction]:
    """The posts that answer a search. Raises BadTopics with the column of what is wrong in its words."""
    condition = parse_query(search.words) if search.words.strip() else None
    flags = [FLAGS[flag] for flag in search.only]
    low, high = search.confidence
    return [
        post
        for post in posts
        if (not search.labels or post.mood in search.labels)
        and low <= 100 * post.confidence <= high
        and (not search.modality or modality_of(post) == search.modality)
        and (not search.lang or (post.lang or "unknown") == search.lang)
        and (not search.source or post.source == search.source)
        and all(flag(post) for flag in flags)
        and (condition is None or condition.matches(Reading(subject_of(post))))
    ]


def modality_of(post: Prediction) -> str:
    """What the model had to go by."""
    if post.text_probabilities is None:
        return "image"
    return "text" if post.image_probabilities is None else "both"


def subject_of(post: Prediction) -> Subject:
    """A scored post as queries see it: its author's handle, expanded links and what it answers are no longer known."""
    text = "\n".join((post.text, *post.alt)) if post.images else post.text
    return Subject(text=text, lang=post.lang, has_images=post.images > 0, id=post.id.partition(":")[2])
