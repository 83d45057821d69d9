"""The CPU engine gives each post the same answer, however many threads share a batch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_worker.engines.onnx import LEAST, PARTS, OnnxEngine, Precision, parts
from inference_worker.engines.whole_numbers import are_exact
from inference_worker.settings import DEFAULT_MODEL

CHANCE = np.random.default_rng(7)
IDS = CHANCE.integers(1000, 20_000, (5, 12))
MASK = (np.arange(12) < np.array([[12], [3], [7], [12], [1]])).astype(np.int64)
PIXELS = CHANCE.uniform(-1, 1, (5, 3, 224, 224)).astype(np.float32)


def engine(threads: int, precision: Precision) -> OnnxEngine:
    return OnnxEngine(DEFAULT_MODEL, threads=threads, precision=precision)


@pytest.fixture(scope="module", params=["float32", pytest.param("int8", marks=pytest.mark.vnni)])
def precision(request: pytest.FixtureRequest) -> Precision:
    if request.param == "int8" and not are_exact():
        pytest.skip("this processor saturates products of bytes")
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def alone(precision: Precision) -> OnnxEngine:
    return engine(1, precision)


@pytest.fixture(scope="module")
def shared(precision: Precision) -> OnnxEngine:
    return engine(3, precision)


@given(st.integers(1, 200), st.integers(1, 16))
def test_a_batch_is_cut_into_parts_worth_a_thread(rows: int, threads: int) -> None:
    cut = parts(rows, threads)
    assert [row for part in cut for row in range(part.start, part.stop)] == [*range(rows)]
    assert min(threads, rows) <= len(cut) <= (PARTS * threads if threads > 1 else 1)
    if len(cut) > threads:
        assert min(part.stop - part.start for part in cut) >= LEAST


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_threads_that_share_a_batch_give_what_one_gives(alone: OnnxEngine, shared: OnnxEngine, rows: int) -> None:
    ids, mask, pixels = IDS[:rows], MASK[:rows], PIXELS[:rows]
    texts, pictures = alone.encode_text(ids, mask), alone.encode_image(pixels)
    for one, other in (
        (texts, shared.encode_text(ids, mask)),
        (pictures, shared.encode_image(pixels)),
        (alone.fuse(texts[0], mask, pictures[0]), shared.fuse(texts[0], mask, pictures[0])),
    ):
        for mine, theirs in zip(one, other, strict=True):
            assert theirs.shape[0] == rows
            np.testing.assert_allclose(theirs, mine, atol=1e-4)


def test_batches_may_be_given_side_by_side(alone: OnnxEngine, shared: OnnxEngine) -> None:
    rows = [(3, 5), (1, 2), (5, 1)] * 4
    with ThreadPoolExecutor(shared.concurrency) as threads:
        texts = [*threads.map(lambda some: shared.encode_text(IDS[: some[0]], MASK[: some[0]]), rows)]
        pictures = [*threads.map(lambda some: shared.encode_image(PIXELS[: some[1]]), rows)]
    for (few, many), text, picture in zip(rows, texts, pictures, strict=True):
        wanted = (*alone.encode_text(IDS[:few], MASK[:few]), *alone.encode_image(PIXELS[:many]))
        for mine, theirs in zip(wanted, (*text, *picture), strict=True):
            np.testing.assert_allclose(theirs, mine, atol=1e-4)


def test_an_error_in_any_part_is_an_error_of_the_batch(shared: OnnxEngine) -> None:
    ids = IDS.copy()
    ids[-1, 0] = 10**6
    with pytest.raises(Exception, match="out of data bounds"):
        shared.encode_text(ids, MASK)
    assert len(shared.encode_text(IDS, MASK)[0]) == len(IDS)
