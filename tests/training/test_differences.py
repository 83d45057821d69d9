"""The gain of one row over another against a direct computation."""

import numpy as np
import pytest

from training.differences import difference, interval


def runs(*bits: str) -> list[dict[str, object]]:
    return [{"seed": seed, "right": one} for seed, one in enumerate(bits, 1)]


def test_the_mean_is_the_difference_of_the_accuracies() -> None:
    found = difference(runs("1110", "1100"), runs("1000", "1010"))
    assert found is not None
    assert found.mean == pytest.approx((0.75 + 0.5) / 2 - (0.25 + 0.5) / 2)
    assert found.low <= found.mean <= found.high and not found.is_beyond_chance


def test_the_interval_is_as_wide_as_theory_says() -> None:
    """Seeds that agree leave the posts' chance alone: mean ± 1.96 s/√n."""
    gains = np.random.default_rng(1).choice([-1, 0, 1], p=[0.05, 0.8, 0.15], size=900)
    mine, theirs = ("".join("1" if gain == sign else "0" for gain in gains) for sign in (1, -1))
    found = difference(runs(mine, mine), runs(theirs, theirs))
    assert found is not None and found.is_beyond_chance
    half = 1.96 * gains.std() / 30
    assert found.low == pytest.approx(gains.mean() - half, abs=0.004)
    assert found.high == pytest.approx(gains.mean() + half, abs=0.004)


@pytest.mark.parametrize("others", [runs("1110"), [{"seed": 9, "right": "1110"}] * 2, runs("111", "111"), []])
def test_what_cannot_be_compared_has_no_difference(others: list[dict[str, object]]) -> None:
    assert difference(runs("1110", "1100"), others) is None


def test_the_interval_of_a_mean_is_as_wide_as_theory_says() -> None:
    right = np.random.default_rng(1).random(900) < 0.7
    low, high = interval(np.stack([right, right]).astype(np.int64))
    half = 1.96 * right.std() / 30
    assert low == pytest.approx(right.mean() - half, abs=0.004) and high == pytest.approx(
        right.mean() + half, abs=0.004
    )
