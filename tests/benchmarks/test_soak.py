"""What the soak calls flat."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.benchmarks.soak import Life, Sample, sample_of


def life(memory: Callable[[int], float], files: Callable[[int], int] = lambda at: 20) -> Life:
    return Life("worker", [Sample(at, memory(at), memory(at), files(at)) for at in range(100)])


@pytest.mark.parametrize(
    ("lived", "is_flat"),
    [
        (life(lambda at: 100 + min(at, 25)), True),  # warming up is no growth
        (life(lambda at: 100 + at), False),
        (life(lambda at: 100, lambda at: 20 + at // 10), False),
    ],
)
def test_memory_and_files_that_grow_after_warming_up_are_not_flat(lived: Life, is_flat: bool) -> None:
    assert lived.is_flat is is_flat


def test_a_process_is_sampled_and_one_that_is_gone_is_none() -> None:
    sample = sample_of(os.getpid())
    assert sample is not None and sample.rss_mb >= sample.own_mb > 10 and sample.files >= 3
    assert sample_of(2**22 + 1) is None
