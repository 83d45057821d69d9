"""Counts by size, cumulative, that never fall."""

from inference_worker.histogram import Histogram


def test_values_count_in_the_first_bound_they_do_not_exceed_and_all_after() -> None:
    histogram = Histogram((1, 2, 4))
    histogram.add([0.5, 1, 1.5])
    histogram.add([4, 9])
    histogram.add([])
    assert list(histogram.buckets()) == [(1, 2), (2, 3), (4, 4), (float("inf"), 5)]
    assert histogram.total == 16


def test_times_before_zero_count_as_none() -> None:
    """Of a post whose author's clock is ahead."""
    histogram = Histogram((1,))
    histogram.add([-300.0, 2.0])
    assert list(histogram.buckets()) == [(1, 1), (float("inf"), 2)]
    assert histogram.total == 2
