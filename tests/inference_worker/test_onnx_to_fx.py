"""Every operator gives on torch what ONNX Runtime gives; what is not known is refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnxruntime as ort
import pytest

torch = pytest.importorskip("torch", reason="the gpu extra is not installed (torch)")

import onnx  # noqa: E402
from onnx import helper, numpy_helper  # noqa: E402

from inference_worker.engines import onnx_model  # noqa: E402
from inference_worker.engines.onnx_to_fx import OPERATORS, convert  # noqa: E402
from inference_worker.errors import ArtifactError  # noqa: E402

pytestmark = pytest.mark.train

Constant: TypeAlias = np.ndarray | np.generic
CHANCE = np.random.default_rng(7)
FLOATS = CHANCE.standard_normal((2, 3, 4)).astype(np.float32)
PICTURES = CHANCE.standard_normal((2, 4, 9, 7)).astype(np.float32)
IDS = np.array([[1, 0, 4], [2, 2, 3]])


def array(*values: float, kind: type = np.int64) -> np.ndarray:
    return np.array(values, kind)


def weights(*shape: int) -> np.ndarray:
    return CHANCE.standard_normal(shape).astype(np.float32)


def one_node(operator: str, x: np.ndarray, constants: Sequence[Constant], attributes: Mapping[str, Any]) -> Any:
    names = [f"c{number}" for number in range(len(constants))]
    constant_first = operator == "Gather" and x.dtype == np.int64
    inputs = [*names, "x"] if constant_first else ["x", *names]
    return model([helper.make_node(operator, inputs, ["y"], **attributes)], x, dict(zip(names, constants, strict=True)))


def model(nodes: Sequence[Any], x: np.ndarray, constants: Mapping[str, Constant]) -> Any:
    """x → y, the first dimension of x left open."""
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info("x", kind, ["B", *x.shape[1:]])],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def converted(made: Any, **weights_: Any) -> Any:
    graph = onnx_model.read(made.SerializeToString()).graph
    return convert(graph, weights_, products=torch.float32, device=torch.device("cpu"))


def assert_as_onnx_runtime(made: Any, x: np.ndarray) -> None:
    session = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    module = converted(made)
    for rows in (x, x[:1]):
        (wanted,) = session.run(None, {"x": rows})
        (found,) = module(torch.from_numpy(rows))
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-6, atol=1e-5)
        assert found.numpy().dtype == wanted.dtype


CONVOLUTION = {"kernel_shape": [3, 3], "dilations": [1, 1], "strides": [2, 2], "pads": [0, 0, 1, 1], "group": 1}
NODES: list[tuple[str, np.ndarray, list[Constant], dict[str, Any]]] = [
    ("Add", FLOATS, [weights(4)], {}),
    ("Cast", IDS, [], {"to": onnx.TensorProto.FLOAT}),
    ("Clip", FLOATS, [np.float32(-0.5), np.float32(0.25)], {}),
    ("Clip", FLOATS, [np.float32(-0.5)], {}),
    ("Concat", FLOATS, [weights(5, 3, 4)], {"axis": 0}),
    ("Conv", PICTURES, [weights(5, 4, 3, 3), weights(5)], CONVOLUTION),
    ("Conv", PICTURES, [weights(4, 1, 3, 3)], CONVOLUTION | {"group": 4, "pads": [1, 1, 1, 1], "auto_pad": "NOTSET"}),
    ("Div", FLOATS, [np.float32(3)], {}),
    ("Exp", FLOATS, [], {}),
    ("Expand", FLOATS[:, :1], [array(1, 3, 1)], {}),
    ("Gather", IDS, [weights(5, 6)], {"axis": 0}),
    ("Gather", FLOATS, [np.int64(2)], {"axis": 2}),
    ("Gelu", FLOATS, [], {"approximate": "none"}),
    ("Gemm", FLOATS[:, 0], [weights(5, 4), weights(5)], {"transB": 1}),
    ("Gemm", FLOATS[:, 0], [weights(4, 5), weights(5)], {"alpha": 0.5, "beta": 2.0}),
    ("LayerNormalization", FLOATS, [weights(4), weights(4)], {"epsilon": 1e-3, "axis": -1, "stash_type": 1}),
    ("MatMul", FLOATS, [weights(4, 5)], {}),
    ("Mul", FLOATS, [weights(3, 1)], {}),
    ("ReduceL2", FLOATS, [array(-1)], {"keepdims": 1}),
    ("ReduceMax", FLOATS, [array(1)], {"keepdims": 1}),
    ("ReduceMean", FLOATS, [array(1)], {"keepdims": 0}),
    ("ReduceSum", FLOATS, [array(1, 2)], {"keepdims": 0}),
    ("Reshape", FLOATS, [array(-1, 2, 6)], {"allowzero": 1}),
    ("Reshape", FLOATS, [array(0, -1)], {}),
    ("Softmax", FLOATS, [], {"axis": -1}),
    ("Squeeze", FLOATS[..., :1], [array(2)], {}),
    ("Sub", FLOATS, [np.float32(1)], {}),
    ("Transpose", FLOATS, [], {"perm": [0, 2, 1]}),
    ("Unsqueeze", FLOATS, [array(-1, 1)], {}),
]
POSITIONS = [
    helper.make_node("Shape", ["x"], ["size"], start=1, end=2),
    helper.make_node("Squeeze", ["size"], ["length"]),
    helper.make_node("Range", ["zero", "length", "one"], ["positions"]),
    helper.make_node("Unsqueeze", ["length", "axis"], ["again"]),
    helper.make_node("Shape", ["x"], ["rows"], start=0, end=1),
    helper.make_node("Concat", ["rows", "again"], ["shape"], axis=0),
    helper.make_node("Gather", ["shape", "zero"], ["first"]),
    helper.make_node("Unsqueeze", ["first", "axis"], ["rows_again"]),
    helper.make_node("Concat", ["rows_again", "again"], ["same"], axis=0),
    helper.make_node("Expand", ["zero", "same"], ["zeros"]),
    helper.make_node("Add", ["zeros", "positions"], ["y"]),
]
"""Positions as our exports make them, of the shape alone."""
NUMBERS: dict[str, Constant] = {"zero": np.int64(0), "one": np.int64(1), "axis": array(0)}


@pytest.mark.parametrize(("operator", "x", "constants", "attributes"), NODES, ids=[node[0] for node in NODES])
def test_an_operator_gives_what_onnx_runtime_gives(
    operator: str, x: np.ndarray, constants: list[Constant], attributes: dict[str, Any]
) -> None:
    assert_as_onnx_runtime(one_node(operator, x, constants, attributes), x)


def test_shapes_are_reckoned_as_onnx_runtime_does() -> None:
    assert_as_onnx_runtime(model(POSITIONS, FLOATS, NUMBERS), FLOATS)


def test_every_operator_is_compared() -> None:
    assert {node[0] for node in NODES} | {node.op_type for node in POSITIONS} == OPERATORS.keys()


def test_torch_can_compile_it_whole_for_any_batch() -> None:
    module = converted(model(POSITIONS, FLOATS, NUMBERS))
    compiled = torch.compile(module, backend="eager", fullgraph=True, dynamic=True)
    for rows in (2, 3, 5):
        given = torch.zeros(rows, 4, 1)
        torch.testing.assert_close(compiled(given), module(given))


def test_products_are_reckoned_as_told() -> None:
    graph = onnx_model.read(one_node("MatMul", FLOATS, [weights(4, 5)], {}).SerializeToString()).graph
    module = convert(graph, {}, products=torch.float16, device=torch.device("cpu"))
    (found,) = module(torch.from_numpy(FLOATS))
    assert [found.dtype, *(one.dtype for one in module.buffers())] == [torch.float16, torch.float16]


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (one_node("Sin", FLOATS, [], {}), "operator ONNX:Sin: the torch engine does not know it"),
        (
            model([helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")], FLOATS, {}),
            "operator com.microsoft:Gelu",
        ),
        (one_node("Softmax", FLOATS, [], {"axes": 1}), "operator Softmax .*axes"),
        (one_node("Clip", FLOATS, [np.float32(0)] * 3, {}), "operator Clip with 4 inputs"),
        (one_node("Transpose", FLOATS, [], {"perm": [0.5]}), "operator Transpose: .* cannot read its attribute perm"),
        (one_node("Add", FLOATS, [np.ones(4)], {}), "c0: data type 11 is not known"),
        (
            one_node("Conv", PICTURES, [weights(4, 4, 3, 3)], CONVOLUTION | {"auto_pad": "SAME_UPPER"}),
            "auto_pad SAME_UPPER",
        ),
    ],
    ids=["operator", "domain", "attribute", "inputs", "attribute type", "data type", "auto_pad"],
)
def test_what_is_not_known_is_refused_by_name(made: Any, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        converted(made)(torch.from_numpy(PICTURES))


def test_a_weight_that_is_nowhere_is_named() -> None:
    made = one_node("Add", FLOATS, [weights(4)], {})
    made.graph.initializer[0].ClearField("raw_data")
    with pytest.raises(ArtifactError, match=r"c0 \(4,\) has no values"):
        converted(made)
    (found,) = converted(made, c0=torch.ones(4))(torch.from_numpy(FLOATS))
    np.testing.assert_array_equal(found.numpy(), FLOATS + 1)
