"""Scores by trait: where the model is weaker than its average says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.evaluation.feed import Feed
from dashboard.evaluation.judgement import InputKind, Slice
from dashboard.evaluation.scores import confusion, figures, proportion, share

KINDS: Final[tuple[InputKind, ...]] = ("text", "image", "both", "none")
LENGTHS: Final = (0, 40, 80, 140, 280)
"""Upper ends, in characters; 140 and 280 are what Twitter once allowed and allows."""
BANDS: Final = (0.5, 0.6, 0.7, 0.8, 0.9)
MAX_VALUES: Final = 12
"""Languages and sources beyond these, rarest first, are taken together."""
MAX_DAYS: Final = 31
MIN_LABELLED: Final = 50
"""Labelled rows a slice needs to be called the worst one."""
REST: Final = "others"
UNKNOWN: Final = "unknown"
_DAY_MS: Final = 86_400_000

Trait = tuple[np.ndarray, list[str]]
"""(N,) codes, and what each of them is called."""


def slices(feed: Feed) -> list[Slice]:
    """Every slice with rows in it, dimension by dimension; the worst one is marked."""
    found = [one for dimension, trait in DIMENSIONS.items() for one in _slices(dimension, *trait(feed), feed)]
    # low confidence is meant to be wrong more often: it is no weakness
    enough = [one for one in found if one.labelled >= MIN_LABELLED and one.dimension != "confidence"]
    if not enough:
        return found
    worst = min(enough, key=lambda one: one.macro_f1 or 0.0)
    return [msgspec.structs.replace(one, is_worst=True) if one is worst else one for one in found]


def input_kinds(feed: Feed) -> np.ndarray:
    """(N,) positions in KINDS."""
    return np.select([feed.has_text & feed.has_image, feed.has_image, feed.has_text], [2, 1, 0], default=3)


def _slices(dimension: str, codes: np.ndarray, values: list[str], feed: Feed) -> Iterator[Slice]:
    for code, value in enumerate(values):
        chosen = codes == code
        if rows := int(chosen.sum()):
            matrix = confusion(feed.labels[chosen], feed.predicted[chosen])
            labelled = int(matrix.sum())
            yield Slice(
                dimension=dimension,
                value=value,
                rows=rows,
                labelled=labelled,
                accuracy=proportion(int(matrix.trace()), labelled),
                macro_f1=float(figures(matrix).macro_f1) if labelled else None,
                coverage=share(int((~feed.abstained[chosen]).sum()), rows),
                mean_confidence=float(feed.confidence[chosen].mean(dtype=np.float64)),
            )


def _modality(feed: Feed) -> Trait:
    return input_kinds(feed), list(KINDS)


def _length(feed: Feed) -> Trait:
    names = [f"{low + 1}-{high}" for low, high in zip(LENGTHS, LENGTHS[1:], strict=False)]
    return np.searchsorted(LENGTHS, feed.length), ["0", *names, f"{LENGTHS[-1] + 1}+"]


def _confidence(feed: Feed) -> Trait:
    names = [f"{low:.0%}-{high:.0%}" for low, high in zip(BANDS, BANDS[1:], strict=False)]
    return np.searchsorted(BANDS, feed.confidence, side="right"), [f"< {BANDS[0]:.0%}", *names, f"{BANDS[-1]:.0%}+"]


def _language(feed: Feed) -> Trait:
    base = pc.utf8_lower(pc.list_element(pc.split_pattern(feed.languages, "-", max_splits=1), 0))
    return _most_frequent(base)


def _source(feed: Feed) -> Trait:
    return _most_frequent(feed.sources)


def _event_day(feed: Feed) -> Trait:
    """Days, or months where there are more than MAX_DAYS of them."""
    for unit in ("D", "M"):
        times = feed.created_ms.astype("datetime64[ms]").astype(f"datetime64[{unit}]")
        values, codes = np.unique(times, return_inverse=True)
        if len(values) <= MAX_DAYS:
            break
    return codes, [str(value) for value in values]


def _flag(name: str, holds: str) -> Callable[[Feed], Trait]:
    return lambda feed: (getattr(feed, name).astype(np.int8), [f"no {holds}", holds])


def _most_frequent(words: pa.ChunkedArray) -> Trait:
    """The MAX_VALUES most frequent words, ties by name; the rest together."""
    encoded = words.combine_chunks().dictionary_encode()
    values, codes = np.asarray(encoded.dictionary.to_pylist(), dtype=str), encoded.indices.to_numpy()
    kept = np.lexsort((values, -np.bincount(codes, minlength=len(values))))[:MAX_VALUES]
    place = np.full(len(values), len(kept))
    place[kept] = np.arange(len(kept))
    return place[codes], [*(str(values[index]) or UNKNOWN for index in kept), REST]


DIMENSIONS: Final[dict[str, Callable[[Feed], Trait]]] = {
    "modality": _modality,
    "language": _language,
    "length": _length,
    "emoji": _flag("has_emoji", "emoji"),
    "hashtags": _flag("has_hashtag", "hashtags"),
    "retweet": _flag("is_retweet", "retweet"),
    "source": _source,
    "confidence": _confidence,
    "event day": _event_day,
}
