"""Matrix products in whole numbers: the artifact's int8 weights as they are, and each row of activations as 8 bits.

A row (a token) is scaled by its own largest value, so that a post's answer owes nothing to its batch-mates; one scale
for all of a tensor, as onnxruntime's quantize_dynamic takes, would make it. Nothing of the weights is lost. Four
products cost as much as one of float32 on a processor with VNNI, and a text encoder in all 2.7 times less.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import numpy as np
import onnxruntime as ort

from inference_worker.engines import onnx_model
from inference_worker.engines.onnx_model import MICROSOFT, node, tensor

_LARGEST: Final = 127
_MIDDLE: Final = "whole_numbers.128"
_STEP: Final = "whole_numbers.step"
_LEAST: Final = "whole_numbers.least"
_ONE: Final = "whole_numbers.one"
_LAST_AXIS: Final = "whole_numbers.last_axis"
_CONSTANTS: Final[dict[str, np.ndarray]] = {
    _MIDDLE: np.array(128, np.uint8),
    _STEP: np.array(1 / _LARGEST, np.float32),
    _LEAST: np.array(1e-9, np.float32),
    _ONE: np.array(1, np.float32),
    _LAST_AXIS: np.array([-1], np.int64),
}


def rewrite(model: bytes, weights: Mapping[str, np.ndarray], scales: Mapping[str, np.ndarray]) -> bytes:
    """The model with its products by these weights in whole numbers.

    weights: (K, N) int8 by the name of the graph's float initializer; scales: (1, N) float32 of its columns.
    """
    edited = onnx_model.read(model)
    graph = edited.graph
    quantised: dict[str, tuple[str, str]] = {}
    nodes = []
    for old in graph.node:
        if old.op_type != "MatMul" or old.input[1] not in weights:
            nodes.append(old)
            continue
        rows, weight = old.input
        if rows not in quantised:
            quantised[rows] = _quantise(rows, len(weights[weight]), nodes, graph.initializer)
        bytes_, step = quantised[rows]
        product = f"{old.output[0]}.columns_scaled"
        factors = [bytes_, f"{weight}.int8", _ONE, f"{weight}.scale", _MIDDLE]
        nodes += [
            node("MatMulIntegerToFloat", factors, product, domain=MICROSOFT),
            node("Mul", [product, step], old.output[0]),
        ]
    kept = [one for one in graph.initializer if one.name not in weights]
    kept += [tensor(f"{name}.int8", values) for name, values in weights.items()]
    kept += [tensor(f"{name}.scale", scales[name].reshape(-1)) for name in weights]
    kept += [tensor(name, values) for name, values in _CONSTANTS.items()]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    edited.opset_import.add(domain=MICROSOFT, version=1)
    return bytes(edited.SerializeToString())


def _quantise(rows: str, width: int, nodes: list[Any], initializers: Any) -> tuple[str, str]:
    """(…, width) float32 → names of the same as uint8 about 128, and of each row's step, (…, 1)."""
    name = f"{rows}.rows"
    flat = f"{name}.flat_shape"
    initializers.append(tensor(flat, np.array([-1, width], np.int64)))
    nodes += [
        node("ReduceMax", [rows, _LAST_AXIS], f"{name}.highest", keepdims=1),
        node("ReduceMin", [rows, _LAST_AXIS], f"{name}.lowest", keepdims=1),
        node("Neg", [f"{name}.lowest"], f"{name}.depth"),
        node("Max", [f"{name}.highest", f"{name}.depth"], f"{name}.largest"),
        node("Mul", [f"{name}.largest", _STEP], f"{name}.fitting_step"),
        node("Max", [f"{name}.fitting_step", _LEAST], f"{name}.step"),
        node("Reshape", [f"{name}.step", _LAST_AXIS], f"{name}.steps"),
        node("Shape", [f"{name}.steps"], f"{name}.count"),
        node("ConstantOfShape", [f"{name}.count"], f"{name}.middles", value=np.array([128], np.uint8)),
        node("Reshape", [rows, flat], f"{name}.flat"),
        node("QuantizeLinear", [f"{name}.flat", f"{name}.steps", f"{name}.middles"], f"{name}.flat_bytes", axis=0),
        node("Shape", [rows], f"{name}.shape"),
        node("Reshape", [f"{name}.flat_bytes", f"{name}.shape"], f"{name}.bytes"),
    ]
    return f"{name}.bytes", f"{name}.step"


@cache
def are_exact() -> bool:
    """Whether this processor multiplies bytes without saturating: those with VNNI do, AVX2 alone does not."""
    width = 64
    model = onnx_model.new([("bytes", "uint8")], [("sums", "int32")])
    model.graph.node.append(node("MatMulInteger", ["bytes", "weights"], "sums"))
    model.graph.initializer.append(tensor("weights", np.full((width, width), _LARGEST, np.int8)))
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return all(
        (session.run(None, {"bytes": np.full((rows, width), 255, np.uint8)})[0] == width * 255 * _LARGEST).all()
        for rows in (1, 33)  # one row and many take different ways through ONNX Runtime
    )
