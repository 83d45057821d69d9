"""Windows on the namespace clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dashboard.errors import InvalidView
from dashboard.windows import WINDOWS, Bins, between, bins_of, frame, zone_of
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
    with pytest.raises(InvalidView, match="window '5m' is none of 10m, 1h, 6h, 24h, 7d, all"):
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


def test_days_begin_at_the_readers_midnight() -> None:
    view = between(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 3, 10, 4, tzinfo=UTC), "America/New_York")
    assert view.bins == Bins("hour", 86_400)
    assert view.starts[:2] == [datetime(2025, 12, 31, 5, tzinfo=UTC), datetime(2026, 1, 1, 5, tzinfo=UTC)]
    # Summer time begins on 8 March: that day has 23 hours.
    assert view.starts[-2:] == [datetime(2026, 3, 8, 5, tzinfo=UTC), datetime(2026, 3, 9, 4, tzinfo=UTC)]
    assert view.ends[-2:] == [datetime(2026, 3, 9, 4, tzinfo=UTC), datetime(2026, 3, 10, 4, tzinfo=UTC)]
    assert view.edges[:2] == [0, 24]
    assert view.edges[-1] - view.edges[-2] == 23


def test_parts_of_a_day_begin_at_the_readers_midnight_too() -> None:
    view = frame("7d", CLOCK, zone="Asia/Tokyo")
    assert view.end == datetime(2015, 2, 24, 21, tzinfo=UTC)
    assert view.end - view.start == timedelta(days=7)
    assert frame("7d", CLOCK, zone="Europe/Berlin").end == datetime(2015, 2, 24, 20, tzinfo=UTC)


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "Australia/Lord_Howe"])
def test_days_that_begin_between_two_hours_stay_those_of_utc(zone: str) -> None:
    view = between(datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 8, 10, tzinfo=UTC), zone)
    assert (view.zone, view.bins, view.starts[0]) == ("UTC", Bins("day", 86_400), datetime(2026, 6, 1, tzinfo=UTC))


def test_a_day_the_clock_skips_has_no_bin() -> None:
    view = between(datetime(2011, 11, 1, tzinfo=UTC), datetime(2012, 1, 5, tzinfo=UTC), "Pacific/Apia")
    assert view.zone == "Pacific/Apia"
    assert all(start < end for start, end in zip(view.starts, view.ends, strict=True))


def test_readers_of_all_zones_share_what_does_not_depend_on_them() -> None:
    assert [zone_of(window, "Asia/Tokyo") for window in WINDOWS] == ["UTC"] * 4 + ["Asia/Tokyo"] * 2


def test_the_bin_that_fills_leaves_a_window_unfilled() -> None:
    clock = datetime(2026, 5, 4, 12, 30, 30, tzinfo=UTC)
    placed = frame("10m", clock)
    assert placed.filled(clock) == pytest.approx(0.95)
    assert placed.filled(placed.end) == 1.0
    assert placed.filled(placed.start) == 0.01
