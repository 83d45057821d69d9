"""ONNX graph → torch.fx.GraphModule: the operators of our exports, each as opset 20 defines it.

Shapes stay Python's whole numbers and never become tensors: one that came back from a GPU would have to be waited for,
which neither torch.compile nor a graph under capture allows. (onnx2torch lacks Gelu and brings onnx and torchvision.)
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from inference_worker.errors import ArtifactError

Value: TypeAlias = Any
"""What flows along an edge: a tensor; of shapes, a list of whole numbers or one of them; a constant number."""
DTYPES: Final = {1: (np.float32, torch.float32), 7: (np.int64, torch.int64)}
"""ONNX's numbers of the data types our graphs hold; storage in fewer bits is the weights' matter."""
_ATTRIBUTES: Final = {1: "f", 2: "i", 3: "s", 7: "ints"}
"""Where a value is, by ONNX's number of its type."""


def convert(
    graph: Any, weights: Mapping[str, Tensor], *, products: torch.dtype, device: torch.device
) -> fx.GraphModule:
    """The graph of an ONNX model as a module; takes its inputs in order and gives its outputs as a tuple.

    weights: float32, of the initializers that the file holds no values of. products: in which matrix products and
    convolutions are reckoned; all else stays float32, their sums included.
    Raises ArtifactError naming what is not known here: an operator, its attributes, a data type, a missing weight.
    """
    root, traced = nn.Module(), fx.Graph()
    factors = {name for node in graph.node if node.op_type in _PRODUCTS for name in node.input}
    known: dict[str, Any] = {"": None}  # an input left out
    for number, one in enumerate(graph.initializer):
        constant = _constant(one, weights)
        if isinstance(constant, Tensor):
            constant = constant.to(device, products if one.name in factors else None)
            root.register_buffer(f"constant_{number}", _laid_out(constant))
            constant = traced.get_attr(f"constant_{number}")
        known[one.name] = constant
    for one in graph.input:
        known[one.name] = traced.placeholder(one.name)
    for node in graph.node:
        function = OPERATORS.get(node.op_type)
        if function is None or node.domain or len(node.output) != 1:
            raise ArtifactError(f"operator {node.domain or 'ONNX'}:{node.op_type}: the torch engine does not know it")
        arguments = [known[name] for name in node.input]
        options: dict[str, Any] = {one.name: _attribute(node, one) for one in node.attribute}
        options |= {"dtype": products} if node.op_type in _PRODUCTS else {}
        options |= {"device": device} if node.op_type in _MAKERS else {}
        try:
            inspect.signature(function).bind(*arguments, **options)
        except TypeError as error:
            raise ArtifactError(f"operator {node.op_type} with {len(arguments)} inputs, {options}: {error}") from error
        known[node.output[0]] = traced.call_function(function, tuple(arguments), options)
    traced.output(tuple(known[one.name] for one in graph.output))
    return fx.GraphModule(root, traced)


def _constant(initializer: Any, weights: Mapping[str, Tensor]) -> Value:
    """Whole numbers and single values as Python's, for they are shapes, axes and factors; else a tensor."""
    if initializer.name in weights:
        return weights[initializer.name]
    shape = tuple(initializer.dims)
    try:
        kind, _ = DTYPES[initializer.data_type]
        array = np.frombuffer(initializer.raw_data, kind).reshape(shape)
    except KeyError as error:
        raise ArtifactError(f"{initializer.name}: data type {error} is not known to the torch engine") from error
    except ValueError as error:
        raise ArtifactError(f"{initializer.name} {shape} has no values, here or in the weights: {error}") from error
    if not shape or kind is np.int64:
        return array.tolist()
    return torch.from_numpy(array.copy())


def _laid_out(constant: Tensor) -> Tensor:
    """Kernels of a convolution channels last, which is what makes its outputs so, and tensor cores want them."""
    return constant.contiguous(memory_format=torch.channels_last) if constant.ndim == 4 else constant


def _attribute(node: Any, attribute: Any) -> float | int | str | list[int]:
    field = _ATTRIBUTES.get(attribute.type)
    if field is None:
        raise ArtifactError(f"operator {node.op_type}: the torch engine cannot read its attribute {attribute.name}")
    value = getattr(attribute, field)
    if isinstance(value, bytes):
        return value.decode()
    return value if isinstance(value, float | int) else list(value)


def _matmul(a: Tensor, b: Tensor, *, dtype: torch.dtype) -> Tensor:
    return torch.matmul(a.to(dtype), b.to(dtype))


def _conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    group: int = 1,
    auto_pad: str = "NOTSET",
    dtype: torch.dtype,
) -> Tensor:
    """Of pictures; pads: top, left, bottom, right."""
    if auto_pad != "NOTSET" or len(pads) != 4:
        raise ArtifactError(f"Conv with auto_pad {auto_pad} and pads {pads}: the torch engine does not know it")
    top, left, bottom, right = pads
    if (top, left) != (bottom, right):
        x, top, left = F.pad(x, (left, right, top, bottom)), 0, 0
    return F.conv2d(x.to(dtype), weight, bias, list(strides), [top, left], list(dilations), group)


def _gemm(
    a: Tensor, b: Tensor, c: Tensor, *, alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0
) -> Tensor:
    """Heads are Gemms, once a post: in float32, for logits rounded to bfloat16 differ in the third digit."""
    a = a.float()
    return torch.addmm(c, a.T if transA else a, b.T if transB else b, alpha=alpha, beta=beta)


def _layer_norm(
    x: Tensor, scale: Tensor, bias: Tensor, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    return F.layer_norm(x.float(), x.shape[axis:], scale, bias, epsilon)


def _softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    return torch.softmax(x.float(), axis)


def _gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    return F.gelu(x, approximate=approximate)


def _clip(x: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    return torch.clamp(x, low, high)


def _exp(x: Tensor) -> Tensor:
    return torch.exp(x)


def _reduce_sum(x: Tensor, axes: list[int], *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
    return x.float().sum(axes, bool(keepdims))


def _reduce_mean(x: Tensor, axes: list[int], *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
    return x.float().mean(axes, bool(keepdims))


def _reduce_max(x: Tensor, axes: list[int], *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
    return torch.amax(x, axes, bool(keepdims))


def _reduce_l2(x: Tensor, axes: list[int], *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
    return torch.linalg.vector_norm(x.float(), dim=axes, keepdim=bool(keepdims))


def _transpose(x: Tensor, *, perm: list[int]) -> Tensor:
    return x.permute(perm)


def _reshape(x: Tensor, shape: list[int], *, allowzero: int = 0) -> Tensor:
    kept = [x.shape[at] if size == 0 and not allowzero else size for at, size in enumerate(shape)]
    return x.reshape(kept)


def _expand(x: Tensor | float, shape: list[int], *, device: torch.device) -> Tensor:
    if not isinstance(x, Tensor):
        return torch.full(shape, x, device=device)
    return x.broadcast_to(torch.broadcast_shapes(x.shape, shape))


def _unsqueeze(x: Value, axes: list[int]) -> Value:
    if not isinstance(x, Tensor):
        return [x]
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _squeeze(x: Value, axes: list[int] | None = None) -> Value:
    if isinstance(x, list):
        (number,) = x
        return number
    return x.squeeze() if axes is None else x.squeeze(axes)


def _concat(*parts: Value, axis: int) -> Value:
    if isinstance(parts[0], Tensor):
        return torch.cat(parts, axis)
    return [size for part in parts for size in part]


def _gather(x: Value, indices: Value, *, axis: int = 0) -> Value:
    if isinstance(x, list):
        return x[indices]
    if isinstance(indices, Tensor):
        return x.index_select(axis, indices.flatten()).unflatten(axis, indices.shape)
    return x.select(axis, indices)


def _shape(x: Tensor, *, start: int = 0, end: int | None = None) -> list[int]:
    return list(x.shape[start:end])


def _range(start: int, limit: int, delta: int, *, device: torch.device) -> Tensor:
    return torch.arange(start, limit, delta, device=device)


def _cast(x: Tensor, *, to: int) -> Tensor:
    return x.to(DTYPES[to][1])


OPERATORS: Final[dict[str, Callable[..., Value]]] = {
    "Add": operator.add,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "Div": operator.truediv,
    "Exp": _exp,
    "Expand": _expand,
    "Gather": _gather,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "LayerNormalization": _layer_norm,
    "MatMul": _matmul,
    "Mul": operator.mul,
    "Range": _range,
    "ReduceL2": _reduce_l2,
    "ReduceMax": _reduce_max,
    "ReduceMean": _reduce_mean,
    "ReduceSum": _reduce_sum,
    "Reshape": _reshape,
    "Shape": _shape,
    "Softmax": _softmax,
    "Squeeze": _squeeze,
    "Sub": operator.sub,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
_PRODUCTS: Final = {"Conv", "MatMul"}
_MAKERS: Final = {"Expand", "Range"}
"""What makes tensors of numbers, and has to be told where."""
