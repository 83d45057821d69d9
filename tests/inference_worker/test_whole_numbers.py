"""Products in whole numbers are the float ones but for rounding, row by row."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from inference_worker.engines import onnx_model, whole_numbers
from inference_worker.engines.onnx_model import node, tensor

CHANCE = np.random.default_rng(7)
WEIGHTS = CHANCE.integers(-127, 128, (48, 16)).astype(np.int8)
SCALES = CHANCE.uniform(0.001, 0.01, (1, 16)).astype(np.float32)

pytestmark = [
    pytest.mark.vnni,
    pytest.mark.skipif(not whole_numbers.are_exact(), reason="this processor saturates products of bytes"),
]


def graph() -> bytes:
    """Two products of the same rows and one by a matrix that is not stored as bytes, in float32."""
    model = onnx_model.new([("rows", "float32")], [("once", "float32"), ("twice", "float32"), ("other", "float32")])
    model.graph.initializer.extend(
        [tensor("weight", WEIGHTS * SCALES), tensor("identity", np.eye(48, dtype=np.float32))]
    )
    model.graph.node.extend(
        [
            node("MatMul", ["rows", "weight"], "once"),
            node("MatMul", ["rows", "weight"], "twice"),
            node("MatMul", ["rows", "identity"], "other"),
        ]
    )
    return bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def rewritten() -> ort.InferenceSession:
    model = whole_numbers.rewrite(graph(), {"weight": WEIGHTS}, {"weight": SCALES})
    return ort.InferenceSession(model, providers=["CPUExecutionProvider"])


def test_a_product_is_off_by_the_rounding_of_its_row_alone(rewritten: ort.InferenceSession) -> None:
    rows = CHANCE.standard_normal((4, 7, 48)).astype(np.float32) * 10.0 ** CHANCE.integers(-3, 3, (4, 7, 1))
    rows = rows.astype(np.float32)
    once, twice, other = rewritten.run(None, {"rows": rows})
    step = np.abs(rows).max(axis=-1, keepdims=True) / 127
    most = step / 2 * np.abs(WEIGHTS * SCALES).sum(axis=0)
    assert once.shape == (4, 7, 16)
    assert (np.abs(once - rows @ (WEIGHTS * SCALES)) <= most * 1.001).all()
    np.testing.assert_array_equal(once, twice)
    np.testing.assert_array_equal(other, rows)


def test_a_row_owes_nothing_to_its_mates(rewritten: ort.InferenceSession) -> None:
    row = CHANCE.standard_normal((1, 1, 48)).astype(np.float32)
    mates = CHANCE.standard_normal((31, 1, 48)).astype(np.float32) * 1000
    alone = rewritten.run(None, {"rows": row})[0]
    np.testing.assert_array_equal(rewritten.run(None, {"rows": np.concatenate([mates, row])})[0][-1:], alone)


def test_a_row_of_zeros_stays_one(rewritten: ort.InferenceSession) -> None:
    assert not rewritten.run(None, {"rows": np.zeros((1, 2, 48), np.float32)})[0].any()


def test_the_rewritten_graph_has_no_float_copy_of_the_weights() -> None:
    model = onnx_model.read(whole_numbers.rewrite(graph(), {"weight": WEIGHTS}, {"weight": SCALES}))
    names = [one.name for one in model.graph.initializer]
    assert "weight" not in names
    assert [one.op_type for one in model.graph.node].count("MatMul") == 1
    assert [one.op_type for one in model.graph.node].count("QuantizeLinear") == 1  # of rows that two products share
