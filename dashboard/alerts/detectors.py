"""How surprising a topic's last minutes are, for all minutes of a batch at once.

Everything here is a function of the rollups alone, so a restart, a late start or a batch of any size changes nothing.

Volume    the window's posts, scored or not, against a negative binomial: mean of the baseline, overdispersion from how
          much its own stretches differ from one to the next (a slow climb adds none), and its own uncertainty.
Sentiment Welch's test on the mean score.     Share  two proportions, half a post added to each.
Silent    the same count model's chance of no post at all.
Drift     ADWIN on the mean score per five minutes of the last day.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, ndtri, stdtr

from inference_worker.contract import FIXED_POINT, Counters

from .baselines import DAY, PAST, RECENT, WEEK, Ints, Minutes
from .rules import Rule

Floats = npt.NDArray[np.float64]

PAST_NAME: Final = "past 12 h"
RECENT_NAME: Final = "the 3 h before"
YESTERDAY: Final = "same hour yesterday"
LAST_WEEK: Final = "same hour last week"
_STRONGEST: Final = 37.0
"""Beyond it the tail of the normal distribution is 0 in double precision."""
_FLOOR: Final = 0.02
"""Feeds are never quite Poisson: overdispersion assumed at least."""
_DAYS_DIFFER: Final = 0.1
"""One day is not like another: overdispersion added where the baseline is another day (a third, up or down)."""
_STRETCHES: Final = 12
"""A baseline shorter than so many windows says nothing of its own spread: a spike then waits."""
_BASELINE_POSTS: Final = 15
"""Posts a mean or share is compared with, at least."""
_BIN: Final = 5
_FIELD: Final = {name: index for index, name in enumerate(Counters._fields)}
_POSTS, _SHED, _SCORE, _SQUARE = (_FIELD[name] for name in ("posts", "shed", "score_sum", "score_square_sum"))


@dataclass(frozen=True, kw_only=True)
class Checks:
    """One window's findings at every minute of a batch; strength is signed where a rule knows both directions.

    against: per baseline (name, expected, strength, minutes of it there are); strength NaN where it does not exist.
    fires: all that exist were surprised, and effect and count are large enough; calm: one of them is less than half as
    surprised as it would have to be.
    """

    window_min: int
    observed: Floats
    sample: Ints
    against: list[tuple[str, Floats, Floats, Ints]]
    fires: npt.NDArray[np.bool_]
    calm: npt.NDArray[np.bool_]

    @property
    def strength(self) -> Floats:
        return self.against[0][2]

    @property
    def expected(self) -> Floats:
        return self.against[0][1]


def check(rule: Rule, minutes: Minutes, first: int, last: int) -> list[Checks]:
    """The rule's findings at the closed minutes first … last - 1, one entry per window."""
    ends = np.arange(first + 1, last + 1, dtype=np.int64)
    looks: dict[str, Callable[[Rule, Minutes, Ints, int], Checks]] = {
        "volume": _volume,
        "sentiment": _sentiment,
        "share": _share,
        "silent": _silent,
    }
    if rule.kind == "drift":
        return [_drift(rule, minutes, ends)]
    return [looks[rule.kind](rule, minutes, ends, window) for window in rule.windows_min]


def _volume(rule: Rule, minutes: Minutes, ends: Ints, window: int) -> Checks:
    observed = _came(minutes.total(ends - window, ends))
    against = _counts(minutes, ends, window, observed, upper=True)
    past, others = against[0], against[1:]
    fires = (past[2] >= rule.threshold) & (observed >= rule.min_posts)
    for _, expected, strength, _ in others:
        fires &= np.isnan(strength) | (strength >= rule.recheck_threshold) & (observed >= rule.ratio * expected)
    fires &= observed >= rule.ratio * past[1]
    return Checks(
        window_min=window,
        observed=observed.astype(np.float64),
        sample=observed,
        against=against,
        fires=fires,
        calm=_calm(rule, [strength for _, _, strength, _ in against]),
    )


def _came(sums: Ints) -> Ints:
    """Posts, scored or not: a worker that sheds makes no silence."""
    return np.asarray(sums[:, _POSTS] + sums[:, _SHED])


def _calm(rule: Rule, strengths: list[Floats]) -> npt.NDArray[np.bool_]:
    """No longer surprising to one baseline at least; what has become usual in hours is no longer news."""
    calm = ~(strengths[0] >= rule.threshold / 2)
    for strength in strengths[1:]:
        calm |= strength < rule.recheck_threshold / 2
    return np.asarray(calm)


def _silent(rule: Rule, minutes: Minutes, ends: Ints, window: int) -> Checks:
    observed = _came(minutes.total(ends - window, ends))
    against = _counts(minutes, ends, window, observed, upper=False)
    expected = against[0][1]
    fires = (observed == 0) & (expected >= rule.min_posts) & ~np.isnan(against[0][2])
    for _, other, strength, _ in against[2:]:  # an hour that is always quiet is no silence
        fires &= np.isnan(strength) | (other >= rule.min_posts / 2)
    return Checks(
        window_min=window,
        observed=observed.astype(np.float64),
        sample=observed,
        against=against,
        fires=fires,
        calm=observed > 0,
    )


def _counts(
    minutes: Minutes, ends: Ints, window: int, observed: Ints, *, upper: bool
) -> list[tuple[str, Floats, Floats, Ints]]:
    """The window's count against each baseline, past first."""
    stretches = PAST // window
    edges = ends[:, None] - window - window * np.arange(stretches, -1, -1, dtype=np.int64)[None, :]
    parts = _came(minutes.total(edges[:, :-1].ravel(), edges[:, 1:].ravel())).reshape(-1, stretches)
    exists = edges[:, :-1] >= minutes.start
    known = exists.sum(axis=1)
    mean = ((parts * exists).sum(axis=1) + 0.5) / np.maximum(known, 1)
    steps = np.diff(parts.astype(np.float64), axis=1) ** 2 * exists[:, :-1]
    variance = steps.sum(axis=1) / 2 / np.maximum(exists[:, :-1].sum(axis=1), 1)
    over = np.maximum((variance - mean) / mean**2, _FLOOR)
    enough = known >= _STRETCHES

    def surprise(expected: Floats, stretches_known: Floats, there: npt.NDArray[np.bool_], more: float = 0.0) -> Floats:
        spread = (expected + (over + more) * expected**2) * (1 + 1 / np.maximum(stretches_known, 1))
        z = _count_strength(observed, expected, spread) if upper else -_shortfall(observed, expected, spread)
        return np.where(there & enough, z, np.nan)

    against = [(PAST_NAME, mean, surprise(mean, known.astype(np.float64), enough), known * window)]
    stretch = np.maximum(window, RECENT)
    recent = (_came(minutes.total(ends - window - stretch, ends - window)) + 0.5) * window / stretch
    there = ends - window - stretch >= minutes.start
    against.append(
        (RECENT_NAME, recent, surprise(recent, np.full(len(ends), stretch / window), there), there * stretch)
    )
    wide = max(window, 60)
    low = ends - window // 2 - wide // 2
    for name, shift in ((YESTERDAY, DAY), (LAST_WEEK, WEEK)):
        there = low - shift >= minutes.start
        then = (_came(minutes.total(low, low + wide, shift)) + 0.5) * window / wide
        against.append(
            (name, then, surprise(then, np.full(len(ends), wide / window), there, _DAYS_DIFFER), there * wide)
        )
    return against


def _count_strength(observed: Ints, mean: Floats, variance: Floats) -> Floats:
    """Chance of so many posts or more, as standard deviations of a normal distribution."""
    size = mean**2 / np.maximum(variance - mean, 1e-9 * mean)
    k = np.maximum(observed, 1).astype(np.float64)
    tail = betainc(k, size, mean / (mean + size))  # P(X >= k) of the negative binomial
    return np.where(observed > 0, np.clip(-ndtri(np.maximum(tail, 1e-300)), 0.0, _STRONGEST), 0.0)


def _shortfall(observed: Ints, mean: Floats, variance: Floats) -> Floats:
    """Chance of no post at all, as standard deviations; 0 where there was one."""
    size = mean**2 / np.maximum(variance - mean, 1e-9 * mean)
    none = np.exp(-size * np.log1p(mean / size))
    return np.where(observed == 0, np.clip(-ndtri(np.maximum(none, 1e-300)), 0.0, _STRONGEST), 0.0)


def _sentiment(rule: Rule, minutes: Minutes, ends: Ints, window: int) -> Checks:
    now = minutes.total(ends - window, ends)
    posts = now[:, _POSTS]
    mean, variance = _moments(now)
    against = []
    for name, then, span in _stretches(minutes, ends, window):
        other, spread = _moments(then)
        enough = (then[:, _POSTS] >= _BASELINE_POSTS) & (posts >= 2) & (span > 0)
        strength = _welch(mean, variance, posts, other, spread, then[:, _POSTS])
        against.append((name, other, np.where(enough, strength, np.nan), span))
    return _shifted(rule, window, mean, posts, against)


def _share(rule: Rule, minutes: Minutes, ends: Ints, window: int) -> Checks:
    now = minutes.total(ends - window, ends)
    posts, field = now[:, _POSTS], _FIELD[rule.of]
    observed = now[:, field] / np.maximum(posts, 1)
    against = []
    for name, then, span in _stretches(minutes, ends, window):
        n = then[:, _POSTS]
        pooled = (now[:, field] + then[:, field] + 1) / (posts + n + 2)
        error = np.sqrt(pooled * (1 - pooled) * (1 / np.maximum(posts, 1) + 1 / np.maximum(n, 1)))
        expected = then[:, field] / np.maximum(n, 1)
        enough = (n >= max(_BASELINE_POSTS, rule.min_posts)) & (posts > 0) & (span > 0)
        strength = np.clip((observed - expected) / error, -_STRONGEST, _STRONGEST)
        against.append((name, expected, np.where(enough, strength, np.nan), span))
    return _shifted(rule, window, observed, posts, against)


def _stretches(minutes: Minutes, ends: Ints, window: int) -> list[tuple[str, Ints, Ints]]:
    """Baselines of a mean or share: sums and minutes; the past as far as the topic reaches, if long enough."""
    begin = np.maximum(ends - window - PAST, minutes.start)
    span = np.maximum(ends - window - begin, 0)
    span = np.where(span >= window, span, 0)
    found = [(PAST_NAME, minutes.total(ends - window - span, ends - window), span)]
    wide = max(window, 60)
    low = ends - window // 2 - wide // 2
    for name, shift in ((YESTERDAY, DAY), (LAST_WEEK, WEEK)):
        there = (low - shift >= minutes.start) * wide
        found.append((name, minutes.total(low, low + wide, shift), there))
    return found


def _shifted(
    rule: Rule, window: int, observed: Floats, posts: Ints, against: list[tuple[str, Floats, Floats, Ints]]
) -> Checks:
    """Far from the past, and from every other baseline there is, to the same side."""
    _, expected, strength, _ = against[0]
    side = np.sign(observed - expected)
    fires = (posts >= rule.min_posts) & (np.abs(strength) >= rule.threshold)
    fires &= np.abs(observed - expected) >= rule.effect
    if rule.direction != "both":
        fires &= side == (1 if rule.direction == "up" else -1)
    for _, _, other, _ in against[1:]:
        fires &= np.isnan(other) | (other * side >= rule.recheck_threshold)
    return Checks(
        window_min=window,
        observed=observed,
        sample=posts,
        against=against,
        fires=np.asarray(fires),
        calm=_calm(rule, [np.abs(strength), *(other * side for _, _, other, _ in against[1:])]),
    )


def _moments(sums: Ints) -> tuple[Floats, Floats]:
    n = np.maximum(sums[:, _POSTS], 1).astype(np.float64)
    mean = sums[:, _SCORE] / FIXED_POINT / n
    variance = np.maximum(sums[:, _SQUARE] / FIXED_POINT / n - mean**2, 0.0) * n / np.maximum(n - 1, 1)
    return mean, variance


def _welch(mean: Floats, variance: Floats, n: Ints, other: Floats, spread: Floats, m: Ints) -> Floats:
    """Welch's t as standard deviations of a normal distribution with the same tail; signed."""
    # Few alike posts say nothing of their own spread: half of the baseline's at least.
    a, b = np.maximum(variance, spread / 2) / np.maximum(n, 1), spread / np.maximum(m, 1)
    error = np.sqrt(np.maximum(a + b, 1e-9))
    t = (mean - other) / error
    freedom = np.maximum((a + b) ** 2 / np.maximum(a**2 / np.maximum(n - 1, 1) + b**2 / np.maximum(m - 1, 1), 1e-18), 1)
    tail = stdtr(freedom, -np.abs(t))
    return np.asarray(np.sign(t) * np.clip(-ndtri(np.maximum(tail, 1e-300)), 0.0, _STRONGEST))


def _drift(rule: Rule, minutes: Minutes, ends: Ints) -> Checks:
    """ADWIN over the last day, looked at once per quarter of an hour; in between the last look stands."""
    quarter = ends - ends % 15
    looks = np.unique(quarter)
    found = {int(at): _adwin(rule, minutes, int(at)) for at in looks}
    values = np.array([found[int(at)] for at in quarter], dtype=np.float64)
    posts = minutes.total(ends - 60, ends)[:, _POSTS]
    observed, expected, strength, span = values.T
    against = [("the day so far", expected, strength, span.astype(np.int64))]
    return Checks(
        window_min=60,
        observed=observed,
        sample=posts,
        against=against,
        fires=(np.abs(strength) > 0) & (np.abs(observed - expected) >= rule.effect),
        calm=strength == 0,
    )


def _adwin(rule: Rule, minutes: Minutes, end: int) -> tuple[float, float, float, float]:
    """Mean score of the last hour and before the change, its strength (0 without a change) and minutes before it."""
    begin = max(end - PAST, minutes.start)
    edges = np.arange(end - (end - begin) // _BIN * _BIN, end + 1, _BIN, dtype=np.int64)
    if len(edges) < 13:
        return 0.0, 0.0, 0.0, 0.0
    sums = minutes.total(edges[:-1], edges[1:])
    posted = np.flatnonzero(sums[:, _POSTS])
    if sums[:, _POSTS].sum() < rule.min_posts or len(posted) < 12:
        return 0.0, 0.0, 0.0, 0.0
    from river.drift import ADWIN  # it brings 130 MB with it: only where there is enough to look at

    # One value per bin: its mean score moved into [0, 1], as ADWIN's bound assumes.
    detector: Any = ADWIN(delta=0.002, clock=1)  # type: ignore[no-untyped-call]
    cut, noticed = -1, -1
    for index in posted:
        detector.update((sums[index, _SCORE] / FIXED_POINT / sums[index, _POSTS] + 1) / 2)
        if detector.drift_detected:
            cut, noticed = int(index) - int(detector.width) + 1, int(index)
    since = (len(edges) - 1 - noticed) * _BIN
    if cut < 6 or since > 60:
        return 0.0, 0.0, 0.0, 0.0
    before, after = sums[:cut].sum(axis=0)[None], sums[-12:].sum(axis=0)[None]
    if min(before[0, _POSTS], after[0, _POSTS]) < _BASELINE_POSTS:
        return 0.0, 0.0, 0.0, 0.0
    (mean, variance), (other, spread) = _moments(after), _moments(before)
    strength = _welch(mean, variance, after[:, _POSTS], other, spread, before[:, _POSTS])
    return float(mean[0]), float(other[0]), float(strength[0]), float(cut * _BIN)
