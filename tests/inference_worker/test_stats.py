"""A worker's account of itself: the last minute, and no more memory than that takes."""

import tracemalloc

import msgspec
import pytest

from inference_worker.batcher import Batch, Item
from inference_worker.contract import WorkerState
from inference_worker.stats import WINDOW_S, Stats


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stats(clock: Clock) -> Stats:
    return Stats(name="w", model="m", engine="e", clock_s=clock)


def test_state_before_anything_is_all_zero(stats: Stats) -> None:
    state = stats.state(queue_age_s=0.0, lag=None)
    assert (state.posts_per_s, state.latency_p50_ms, state.latency_p99_ms, state.batch_size_mean) == (0, 0, 0, 0)


def test_state_sums_up_the_last_minute_alone(stats: Stats, clock: Clock) -> None:
    stats.posts_written([1000.0] * 50)
    clock.now_s = WINDOW_S + 1
    stats.posts_written([float(ms) for ms in range(1, 101)])
    state = stats.state(queue_age_s=0.25, lag=3)
    assert state.posts_per_s == pytest.approx(100 / WINDOW_S)
    assert (state.latency_p50_ms, state.latency_p95_ms) == (pytest.approx(50.5), pytest.approx(95.05))
    assert (state.queue_age_ms, state.lag) == (250.0, 3)
    assert stats.written == 150


def test_state_tells_size_padding_and_business_of_batches(stats: Stats, clock: Clock) -> None:
    items = tuple(Item(None, b"%d" % tokens, "text", tokens, 0, 0.0) for tokens in (6, 10))
    clock.now_s = 10.0
    stats.batch_done(Batch("text", items), 2.5)
    state = stats.state(queue_age_s=0.0, lag=0)
    assert (state.batch_size_mean, state.pad_waste) == (2.0, pytest.approx(4 / 20))
    assert state.engine_busy_share == pytest.approx(0.25)


def test_state_tells_how_many_pictures_of_the_last_minute_were_known(stats: Stats, clock: Clock) -> None:
    def known_pictures(now_s: float, known: int, new: int) -> float | None:
        clock.now_s = now_s
        return stats.state(queue_age_s=0.0, lag=0, known_pictures=known, new_pictures=new).known_pictures

    assert known_pictures(0.0, 0, 0) is None
    assert known_pictures(30.0, 1, 3) == 0.25
    assert known_pictures(61.0, 7, 7) == 0.5
    assert known_pictures(90.0, 11, 7) == pytest.approx(10 / 14)  # the first four were more than a minute ago
    assert known_pictures(1000.0, 11, 7) is None


def test_a_state_told_by_a_worker_that_does_not_tell_of_pictures_can_be_read(stats: Stats) -> None:
    told = msgspec.to_builtins(stats.state(queue_age_s=0.0, lag=0, known_pictures=1))
    assert told.pop("known_pictures") == 1.0
    assert msgspec.convert(told, WorkerState).known_pictures is None


def test_a_minute_of_many_posts_takes_some_bytes_each(stats: Stats) -> None:
    batch, batches = [1.5] * 64, 2000
    tracemalloc.start()
    try:
        for _ in range(batches):
            stats.posts_written(batch)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 10 * len(batch) * batches


def test_what_is_counted_since_the_start_outlives_the_window(stats: Stats, clock: Clock) -> None:
    items = tuple(Item(None, b"%d" % tokens, "text", tokens, 0, 0.0) for tokens in (6, 10))
    for _ in range(2):
        stats.batch_done(Batch("text", items), 0.5)
        stats.posts_written([30.0, 400.0], [3.0, 4000.0], abstained=1)
        clock.now_s += 10 * WINDOW_S
        stats.state(queue_age_s=0.0, lag=0)
    assert (stats.written, stats.abstained) == (4, 2)
    assert (stats.tokens, stats.padded_tokens, stats.busy_s) == (32, 40, 1.0)
    assert dict(stats.batch_sizes.buckets())[2] == 2
    ingested, created = dict(stats.since_ingested.buckets()), dict(stats.since_created.buckets())
    assert (ingested[0.035], ingested[0.5], ingested[float("inf")]) == (2, 4, 4)
    assert (created[5], created[1800], created[float("inf")]) == (2, 2, 4)
