"""Why the mood of a topic moved between two windows: what people write, post and who they are, in numbers.

Words are compared by the log-odds ratio with an informative Dirichlet prior (Monroe, Colaresi & Quinn, "Fightin'
Words", Political Analysis 2008), counted by posts, so that one post counts a word once. The change of the mean is
parted into who talks and how they feel (Kitagawa 1955). What is within chance is said to be.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, CountVectorizer

from inference_worker.contract import LABELS, Counters, Prediction

from .estimates import Estimate, difference, net_sentiment
from .memes import leaders
from .search import modality_of

SHOWN: Final = 8
EXAMPLES: Final = 3
PRIOR: Final = 0.01
"""Weight of the prior: so much of all that was counted, spread as words are spread over both windows."""
FEWEST: Final = 20
"""Posts a group needs in both windows before its mean says anything."""
FEW_AUTHORS: Final = 3
_NOISE: Final = (
    "amp rt via im ive dont doesnt didnt cant wont thats youre don't doesn't didn't can't won't that's you're"
)
_STOP: Final = ENGLISH_STOP_WORDS | frozenset(_NOISE.split(" "))
_WORD: Final = re.compile(r"https?://\S+|www\.\S+|@[\w.-]+|#\w+|[^\W\d_][\w']*[^\W_]")
_EMOJI: Final = re.compile(
    "(?:[\U0001f1e6-\U0001f1ff]{2}|[\U0001f300-\U0001faff\u2600-\u27bf\u2b50\u2b55]"
    "(?:\ufe0f|[\U0001f3fb-\U0001f3ff])*(?:\u200d[\U0001f300-\U0001faff\u2600-\u27bf]\ufe0f?)*)"
)
Floats = npt.NDArray[np.float64]


class Side(NamedTuple):
    """One window. counters: all posts scored there, which is exact; posts: those of them that are retained and read."""

    posts: tuple[Prediction, ...]
    counters: Counters


class Term(NamedTuple):
    """A word, a pair of words, a hashtag or an emoji; now, before: posts that hold it; z: of the log-odds ratio.

    is_clear: beyond chance although so many terms were looked at (Šidák at 5 %); net: mean mood of its posts now, or
    before where there are none now.
    """

    text: str
    kind: str
    now: int
    before: int
    z: float
    is_clear: bool
    net: float
    examples: tuple[Prediction, ...]


class PictureGroup(NamedTuple):
    """Posts with one picture, also cropped or recompressed."""

    example: Prediction
    now: int
    before: int
    net: float


class Part(NamedTuple):
    """One part of the decomposition. groups: how many were told apart; who, how: what they add to the change."""

    by: str
    groups: int
    who: float
    how: float


class Reach(NamedTuple):
    """How much a few authors made of it. few: the most active ones' share of the posts whose author is known.

    without: the change without them; wide: share of posts that reach many, of those whose reach is known.
    known: authors known in the present window; top: name and posts of each of the few.
    """

    known: int
    few: float
    few_before: float
    without: Estimate | None
    top: tuple[tuple[str, int], ...]
    wide: float | None
    wide_before: float | None


@dataclass(frozen=True, kw_only=True)
class Reasons:
    """All that may explain a change."""

    now: Side
    before: Side
    change: Estimate | None
    terms: tuple[Term, ...]
    pictures: tuple[PictureGroup, ...]
    reach: Reach
    parts: tuple[Part, ...]
    modality: dict[str, tuple[float, float]]

    @property
    def is_clear(self) -> bool:
        return self.change is not None and self.change.lean != 0

    @property
    def is_comparable(self) -> bool:
        """Whether both windows have posts."""
        return bool(self.now.counters.posts and self.before.counters.posts)

    @property
    def read(self) -> tuple[int, int]:
        """Posts read of both windows: what a number of posts that hold something is a share of."""
        return len(self.now.posts), len(self.before.posts)

    def of_kind(self, kind: str) -> list[Term]:
        return [term for term in self.terms if term.kind == kind]


def reasons(now: Side, before: Side) -> Reasons:
    """Compares two windows of one topic."""
    net, net_before = net_sentiment(now.counters), net_sentiment(before.counters)
    return Reasons(
        now=now,
        before=before,
        change=difference(net, net_before) if net and net_before else None,
        terms=tuple(terms(now.posts, before.posts)),
        pictures=tuple(pictures(now.posts, before.posts)),
        reach=reach(now.posts, before.posts),
        parts=tuple(parts(now.posts, before.posts)),
        modality={name: (_share(now.posts, name), _share(before.posts, name)) for name in ("text", "image", "both")},
    )


def tokens(text: str) -> list[str]:
    """Words, neighbouring words, hashtags and emoji of a text; links and handles say nothing and are left out."""
    found: list[str] = []
    previous = ""
    for word in _WORD.findall(text.casefold().replace("’", "'")):
        if word.startswith(("http", "www.", "@")):
            previous = ""
            continue
        is_word = not word.startswith("#") and word not in _STOP and len(word) > 2
        if word.startswith("#") or is_word:
            found.append(word)
        if is_word and previous:
            found.append(f"{previous} {word}")
        previous = word if is_word else ""
    return found + _EMOJI.findall(text)


def kind_of(term: str) -> str:
    return "hashtag" if term.startswith("#") else "emoji" if _EMOJI.fullmatch(term) else "word"


def terms(now: Sequence[Prediction], before: Sequence[Prediction]) -> list[Term]:
    """What is written more, or less, than before: the SHOWN strongest of each kind, by |z|."""
    posts = [*now, *before]
    if not now or not before:
        return []
    vectorizer = CountVectorizer(analyzer=tokens, binary=True, min_df=min(3, len(posts)))
    try:
        counted = vectorizer.fit_transform(post.text for post in posts)
    except ValueError:  # no term occurs often enough
        return []
    names = vectorizer.get_feature_names_out()
    split = len(now)
    here, there = (
        np.asarray(part.sum(axis=0)).ravel().astype(np.float64) for part in (counted[:split], counted[split:])
    )
    z = log_odds(here, there)
    bound = NormalDist().inv_cdf(1 - (1 - 0.95 ** (1 / len(names))) / 2)
    columns = counted.tocsc()
    chosen: list[Term] = []
    for kind in ("word", "hashtag", "emoji"):
        of_kind = [number for number in np.argsort(-np.abs(z)) if kind_of(names[number]) == kind]
        for number in _without_parts(of_kind, names, here + there)[:SHOWN]:
            rows = columns.indices[columns.indptr[number] : columns.indptr[number + 1]]
            holding = [posts[row] for row in rows]
            inside = [posts[row] for row in rows if row < split] or holding
            if z[number] < 0:
                inside = [posts[row] for row in rows if row >= split] or holding
            chosen.append(
                Term(
                    text=str(names[number]),
                    kind=kind,
                    now=int(here[number]),
                    before=int(there[number]),
                    z=float(z[number]),
                    is_clear=bool(abs(z[number]) >= bound),
                    net=float(np.mean([post.score for post in inside])),
                    examples=examples(inside),
                )
            )
    return chosen


def _without_parts(order: Sequence[int], names: Sequence[str], counts: Floats) -> list[int]:
    """A pair of words stands for its words where they hardly occur without it, and the other way round."""
    kept: list[int] = []
    for number in order:
        words = set(names[number].split())
        rivals = [other for other in kept if words & set(names[other].split())]
        if all(min(counts[number], counts[other]) < 0.6 * max(counts[number], counts[other]) for other in rivals):
            kept.append(number)
        if len(kept) == 2 * SHOWN:
            break
    return kept


def log_odds(here: Floats, there: Floats) -> Floats:
    """z of each term's log-odds ratio under the prior (Monroe et al., eqs. 15, 16, 20-22)."""
    both = here + there
    weight = max(PRIOR * both.sum(), 1.0)
    prior = weight * both / both.sum()
    here_total, there_total = here.sum() + weight, there.sum() + weight
    a, b = here + prior, there + prior
    ratio = np.log(a / (here_total - a + 1e-9)) - np.log(b / (there_total - b + 1e-9))
    return np.asarray(ratio / np.sqrt(1 / a + 1 / b))


def examples(posts: Sequence[Prediction]) -> tuple[Prediction, ...]:
    """Posts that show a thing best: the model is sure of them; each text once."""
    chosen: dict[str, Prediction] = {}
    for post in sorted(posts, key=lambda post: (post.abstained, -post.confidence, post.id)):
        chosen.setdefault(post.text.casefold().strip(), post)
        if len(chosen) == EXAMPLES:
            break
    return tuple(chosen.values())


def pictures(now: Sequence[Prediction], before: Sequence[Prediction]) -> list[PictureGroup]:
    """Pictures that more than one post shows, by how far their share of the posts read moved."""
    pictured = [
        (post, place < len(now))
        for place, post in enumerate([*now, *before])
        if len(post.image_hashes) > post.strongest_image
    ]
    if not pictured:
        return []
    hashes = [post.image_hashes[post.strongest_image] for post, _ in pictured]
    groups: dict[int, list[tuple[Prediction, bool]]] = {}
    for leader, entry in zip(grouped(hashes), pictured, strict=True):
        groups.setdefault(leader, []).append(entry)
    made = [
        PictureGroup(
            example=max((post for post, _ in group), key=lambda post: post.created_at),
            now=sum(is_now for _, is_now in group),
            before=sum(not is_now for _, is_now in group),
            net=float(np.mean([post.score for post, _ in group])),
        )
        for group in groups.values()
    ]
    many = [group for group in made if group.now + group.before > 1]

    def moved(group: PictureGroup) -> float:
        return abs(group.now / max(len(now), 1) - group.before / max(len(before), 1))

    return sorted(many, key=lambda group: (-moved(group), -group.now, group.example.id))[:SHOWN]


def grouped(hashes: Sequence[bytes]) -> list[int]:
    """Number of the group of each hash: it joins the most frequent hash it is a copy of."""
    order = [found for found, _ in Counter(hashes).most_common()]
    words = np.frombuffer(b"".join(found.ljust(32, b"\0")[:32] for found in order), np.uint64)
    group = dict(zip(order, leaders(words), strict=True))
    return [group[found] for found in hashes]


def reach(now: Sequence[Prediction], before: Sequence[Prediction]) -> Reach:
    """What share of the posts the few most active authors wrote, and what the change is without them."""
    written = Counter(post.author for post in now if post.author)
    written_before = Counter(post.author for post in before if post.author)
    top = written.most_common(FEW_AUTHORS)
    top_before = written_before.most_common(FEW_AUTHORS)
    names = {name for name, _ in top}
    rest, rest_before = ([post for post in side if post.author not in names] for side in (now, before))
    net, net_before = (net_sentiment(summed(side)) for side in (rest, rest_before))
    return Reach(
        known=len(written),
        few=sum(count for _, count in top) / max(written.total(), 1),
        few_before=sum(count for _, count in top_before) / max(written_before.total(), 1),
        without=difference(net, net_before) if top and net and net_before else None,
        top=tuple((str(name), count) for name, count in top),
        wide=_wide(now),
        wide_before=_wide(before),
    )


WIDE: Final = 10_000
"""Followers or the like from which a post reaches many."""


def _wide(posts: Sequence[Prediction]) -> float | None:
    known = [post.reach for post in posts if post.reach is not None]
    return sum(count >= WIDE for count in known) / len(known) if known else None


def parts(now: Sequence[Prediction], before: Sequence[Prediction]) -> list[Part]:
    """The change of the mean parted by who talks, once for each way to tell them apart that is sound."""
    ways: dict[str, Callable[[Prediction], str]] = {
        "topic": lambda post: next(iter(post.topics), ""),
        "source": lambda post: post.source,
        "text or picture": modality_of,
        "language": lambda post: post.lang or "",
    }
    found = (kitagawa(by, now, before, group) for by, group in ways.items())
    return [part for part in found if part is not None]


def kitagawa(
    by: str, now: Sequence[Prediction], before: Sequence[Prediction], group: Callable[[Prediction], str]
) -> Part | None:
    """change = Σ Δshare · mean mood + Σ mean share · Δmood. None where fewer than two groups have FEWEST posts each.

    Groups with fewer posts in either window count as one, the rest; if that is in one window alone, nothing is said.
    """
    here, there = Counter(map(group, now)), Counter(map(group, before))
    large = {name for name in here if here[name] >= FEWEST and there[name] >= FEWEST}
    if len(large) < 2:
        return None
    sums = [
        _sums((name if name in large else None, post.score) for name, post in zip(map(group, side), side, strict=True))
        for side in (now, before)
    ]
    if sums[0].keys() != sums[1].keys():
        return None
    who = how = 0.0
    for name in sums[0]:
        (count, score), (count_before, score_before) = sums[0][name], sums[1][name]
        share, share_before = count / len(now), count_before / len(before)
        mean, mean_before = score / count, score_before / count_before
        who += (share - share_before) * (mean + mean_before) / 2
        how += (share + share_before) / 2 * (mean - mean_before)
    return Part(by, len(sums[0]), who, how)


def _sums(scores: Iterable[tuple[str | None, float]]) -> dict[str | None, tuple[int, float]]:
    sums: dict[str | None, tuple[int, float]] = {}
    for name, score in scores:
        count, total = sums.get(name, (0, 0.0))
        sums[name] = (count + 1, total + score)
    return sums


def summed(posts: Iterable[Prediction]) -> Counters:
    total = Counters()
    for post in posts:
        total = total.plus(Counters.of(post))
    return total


def class_shares(counters: Counters) -> dict[str, float]:
    return {label: getattr(counters, label) / counters.posts if counters.posts else 0.0 for label in LABELS}


def _share(posts: Sequence[Prediction], modality: str) -> float:
    return sum(modality_of(post) == modality for post in posts) / len(posts) if posts else 0.0
