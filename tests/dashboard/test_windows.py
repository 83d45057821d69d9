"""Windows on the namespace clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dashboard.errors import InvalidView
from dashboard.windows import WINDOWS, Bins, bins_of, frame
from inference_worker.contract import BUCKET_S

CLOCK = datetime(2015, 2, 24, 19, 21, 40, tzinfo=UTC)


def test_window_ends_with_the_bin_the_clock_falls_into() -> None:
    view = frame("10m", CLOCK)
    assert view.start == datetime(2015, 2, 24, 19, 12, tzinfo=UTC)
    assert view.end == datetime(2015, 2, 24, 19, 22, tzinfo=UTC)
    assert view.before == datetime(2015, 2, 24, 19, 2, tzinfo=UTC)
    assert view.bins == Bins("minute", 60)
    assert view.count == 10


def test_all_begins_with_the_first_post() -> None:
    view = frame("all", CLOCK, datetime(2015, 2, 17, 8, tzinfo=UTC))
    assert view.start == datetime(2015, 2, 17, 6, tzinfo=UTC)
    assert view.end == datetime(2015, 2, 24, 21, tzinfo=UTC)
    assert view.before is None
    assert view.bin_label == "per 3 hours"


def test_all_of_one_moment_is_one_bin() -> None:
    assert frame("all", CLOCK).count == 1


def test_unknown_window_is_refused() -> None:
    with pytest.raises(InvalidView, match="window '5m' is none of 10m, 1h, 6h, 24h, all"):
        frame("5m", CLOCK)


@pytest.mark.parametrize("span", [timedelta(hours=hours) for hours in (1, 3, 12, 30, 100, 300, 1000, 10_000, 150_000)])
def test_bins_are_whole_buckets_and_few(span: timedelta) -> None:
    bins = bins_of(span)
    assert bins.width_s % BUCKET_S[bins.level] == 0
    assert span.total_seconds() / bins.width_s <= 230


@pytest.mark.parametrize("window", [window for window, span in WINDOWS.items() if span])
def test_window_is_compared_with_a_stretch_of_equal_length(window: str) -> None:
    view = frame(window, CLOCK)
    assert view.before is not None
    assert view.end - view.start == view.start - view.before == WINDOWS[window]
    assert view.starts[0] == view.start
    assert view.starts[-1] + timedelta(seconds=view.bins.width_s) == view.end
