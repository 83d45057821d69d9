"""Numbers and times as their reader writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dashboard.errors import InvalidView
from dashboard.reading import NUMBER_LABELS, Reading, iso, moment_of

NOON = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)


def test_each_language_has_its_own_marks() -> None:
    assert NUMBER_LABELS == {"en": "1,234.5", "de": "1.234,5", "fr": "1\u202f234,5"}
    assert Reading(numbers="de").signed(-0.314) == "−0,31"
    assert Reading(numbers="de").percent(3, 1000) == "0,3 %"
    assert Reading(numbers="fr").compact(4567) == "4\u202f567"
    assert Reading(numbers="de").compact(45_678) == "45,7k"


@pytest.mark.parametrize(
    ("zone", "text"),
    [
        ("UTC", "1 Jul 2026, 12:00 UTC"),
        ("Europe/Berlin", "1 Jul 2026, 14:00 CEST"),
        ("Asia/Kathmandu", "1 Jul 2026, 17:45 +0545"),
    ],
)
def test_clock_is_the_reader_s(zone: str, text: str) -> None:
    assert Reading(zone=zone).clock_time(NOON) == text


def test_unknown_zone_and_numbers_are_refused() -> None:
    with pytest.raises(InvalidView, match="zone '<b>' is no IANA time zone: name one such as Europe/Berlin"):
        Reading(zone="<b>")
    with pytest.raises(InvalidView, match="numbers 'xx' are none of en, de, fr"):
        Reading(numbers="xx")


def test_moments_of_links_are_utc() -> None:
    assert iso(NOON.astimezone(Reading(zone="Asia/Tokyo").at(NOON).tzinfo)) == "2026-07-01T12:00:00Z"
    assert moment_of("2026-07-01T14:00:00+02:00", "from") == NOON
    assert moment_of("2026-07-01T12:00", "from") == NOON


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "<script>"])
def test_other_moments_are_refused(text: str) -> None:
    with pytest.raises(InvalidView, match="is no time: write it as 2026-05-04T12:30:00Z"):
        moment_of(text, "to")


def test_a_day_is_as_long_as_it_is_said() -> None:
    assert moment_of("2026-07-02T12:00:00Z", "to") - NOON == timedelta(days=1)
