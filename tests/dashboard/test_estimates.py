"""Means and intervals against values worked out by hand or from tables."""

from __future__ import annotations

import numpy as np
import pytest

from dashboard.estimates import Estimate, difference, intervals, net_sentiment
from inference_worker.contract import FIXED_POINT, Counters


def counters(*scores: float) -> Counters:
    return Counters(
        posts=len(scores),
        score_sum=sum(round(score * FIXED_POINT) for score in scores),
        score_square_sum=sum(round(score**2 * FIXED_POINT) for score in scores),
    )


def test_no_posts_have_no_net_sentiment() -> None:
    assert net_sentiment(Counters()) is None


def test_interval_is_students() -> None:
    estimate = net_sentiment(counters(0.5, 0.1, -0.2, 0.4, 0.0))
    assert estimate is not None
    assert estimate.mean == pytest.approx(0.16, abs=0.001)
    # standard deviation 0.2881, five posts, t(4) = 2.776: half width 0.3577
    assert estimate.high - estimate.mean == pytest.approx(0.3577, rel=0.02)
    assert estimate.mean - estimate.low == pytest.approx(0.3577, rel=0.02)


def test_one_post_says_nothing_of_its_spread() -> None:
    assert net_sentiment(counters(0.4)) == (pytest.approx(0.4), -1.0, 1.0)


def test_two_posts_have_the_wide_interval_of_two() -> None:
    estimate = net_sentiment(counters(0.3, -0.1))
    assert estimate is not None
    assert (estimate.low, estimate.high) == (-1.0, 1.0)  # t(1) = 12.7


@pytest.mark.parametrize(("posts", "lean"), [(2, 0), (3, 1), (5, 1), (50, 1)])
def test_a_few_equal_posts_are_no_certainty(posts: int, lean: int) -> None:
    estimate = net_sentiment(counters(*[0.6] * posts))
    assert estimate is not None
    assert estimate.low < estimate.mean < estimate.high
    assert estimate.lean == lean


def test_interval_stays_within_the_scale() -> None:
    estimate = net_sentiment(counters(1.0, 0.2, 1.0))
    assert estimate is not None
    assert estimate.high == 1.0


def test_bins_without_posts_are_nan() -> None:
    mean, low, high = intervals([0, 2], [0, FIXED_POINT], [0, FIXED_POINT])
    assert np.isnan([mean[0], low[0], high[0]]).all()
    assert mean[1] == 0.5


@pytest.mark.parametrize(
    ("estimate", "lean"),
    [
        (Estimate(0.2, 0.1, 0.3), 1),
        (Estimate(-0.2, -0.3, -0.1), -1),
        (Estimate(0.1, -0.1, 0.3), 0),
        (Estimate(0.1, 0.004, 0.2), 0),
    ],
)
def test_lean_needs_an_interval_that_also_rounds_off_zero(estimate: Estimate, lean: int) -> None:
    assert estimate.lean == lean


def test_difference_adds_the_half_widths_in_quadrature() -> None:
    assert difference(Estimate(0.5, 0.2, 0.8), Estimate(0.1, -0.3, 0.5)) == pytest.approx((0.4, -0.1, 0.9))
