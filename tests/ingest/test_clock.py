"""Event time passes as asked: paced, paused, cut to a stretch, and gone on with."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

from ingest.clock import ReplayClock

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


async def test_it_keeps_the_pace_and_lets_the_late_through() -> None:
    clock = ReplayClock(100.0)
    began = time.monotonic()
    late = [await clock.wait(at(seconds), number) for number, seconds in enumerate((0, 20, 5, 30), start=1)]
    assert 0.28 <= time.monotonic() - began < 2
    assert late == [False, False, True, False]


async def test_errors_of_waiting_do_not_add_up() -> None:
    clock = ReplayClock(60.0)
    began = time.monotonic()
    for number in range(1, 302):
        await clock.wait(at(0.3 * (number - 1)), number)  # due every 5 ms
    assert abs(time.monotonic() - began - 1.5) < 0.1


async def test_without_a_speed_nothing_waits_or_is_late() -> None:
    clock = ReplayClock()
    assert [await clock.wait(at(seconds), 1) for seconds in (0, 86_400, 5)] == [False, False, False]


async def test_a_pause_stops_event_time() -> None:
    is_paused = True
    clock = ReplayClock(10.0, paused=lambda: is_paused)
    waiting = asyncio.create_task(clock.wait(at(0), 1))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    is_paused = False
    await waiting
    began = time.monotonic()
    next_one = asyncio.create_task(clock.wait(at(5), 2))
    await asyncio.sleep(0.15)
    is_paused = True
    await asyncio.sleep(0.6)
    assert not next_one.done()
    is_paused = False
    await next_one
    assert 0.9 < time.monotonic() - began < 1.9


async def test_what_was_read_before_passes_at_once_and_the_clock_goes_on_from_there() -> None:
    clock = ReplayClock(10.0, read_before=3)
    began = time.monotonic()
    for number, seconds in enumerate((0, 1000, 2000), start=1):
        await clock.wait(at(seconds), number)
    assert time.monotonic() - began < 0.2
    await clock.wait(at(2004), 4)
    assert 0.38 < time.monotonic() - began < 1


def test_a_stretch_begins_with_its_start_and_ends_before_its_end() -> None:
    clock = ReplayClock(start=at(10), end=at(20))
    assert [clock.covers(at(seconds)) for seconds in (9, 10, 19, 20)] == [False, True, True, False]
    assert ReplayClock().covers(NOON)
