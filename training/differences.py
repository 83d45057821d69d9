"""How much better one row of a table is than another, with an interval: both judged the same posts.

A row's gain on a post is the difference of how many of its seeds are right. The interval is a percentile bootstrap over
posts and over seeds, so it holds what another test set and what another seed would change.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

DRAWS: Final = 2000


@dataclass(frozen=True)
class Difference:
    """Accuracies' difference as a share, and its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def is_beyond_chance(self) -> bool:
        return self.low > 0 or self.high < 0


def difference(runs: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> Difference | None:
    """Of two rows' lines of results, over the seeds both have; None for fewer than two, or other posts."""
    mine, theirs = ({run["seed"]: run["right"] for run in rows} for rows in (runs, others))
    seeds = sorted(set(mine) & set(theirs))
    if len(seeds) < 2 or len({len(bits) for rows in (mine, theirs) for bits in rows.values()}) > 1:
        return None
    gains = np.array([[int(x) - int(y) for x, y in zip(mine[s], theirs[s], strict=True)] for s in seeds])
    return Difference(float(gains.mean()), *interval(gains))


def interval(values: NDArray[np.int64]) -> tuple[float, float]:
    """95 % interval of the mean of (seeds, posts)."""
    of_seeds, of_posts = _drawn(*values.shape)
    low, high = np.percentile(((of_seeds @ values) * of_posts).sum(1), [2.5, 97.5])
    return float(low), float(high)


@cache
def _drawn(seeds: int, posts: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of each seed (DRAWS, seeds) and of each post (DRAWS, posts) in every draw with replacement."""
    random = np.random.default_rng(0)
    of_seeds, of_posts = (random.multinomial(size, np.full(size, 1 / size), DRAWS) / size for size in (seeds, posts))
    return of_seeds, of_posts
