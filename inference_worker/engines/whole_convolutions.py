"""Convolutions in whole numbers: activations as unsigned bytes, weights as signed ones with a step per output channel.

An activation's step is static: that of a clipped one follows from its bound (ReLU6), that of any other comes with the
artifact, measured on training pictures. So a picture's answer owes nothing to its batch-mates. The first convolutions,
up to a value whose size the artifact tells, stay in float32: they are few, fast enough, and the most sensitive.
Half the time of float32 on a processor with VNNI.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from inference_worker.engines import onnx_model
from inference_worker.engines.onnx_model import MICROSOFT, node, tensor
from inference_worker.errors import ArtifactError

_LARGEST: Final = 127
_MIDDLE: Final = 128
_BYTES: Final = 255


@dataclass(frozen=True, slots=True)
class Activations:
    """Measured on training pictures, by the value's name in the graph.

    sizes: largest absolute value of what no Clip bounds; means: (C,) of what goes into a convolution.
    """

    sizes: Mapping[str, float]
    means: Mapping[str, np.ndarray]


def rewrite(model: bytes, weights: Mapping[str, np.ndarray], activations: Activations) -> bytes:
    """The model with its convolutions, and sums of what they put out, in whole numbers.

    weights: float32 by the name of an initializer that the graph declares without values.
    Raises ArtifactError if the size of a value is missing.
    """
    edited = onnx_model.read(model)
    graph = edited.graph
    inside = {one.name: onnx_model.values(one) for one in graph.initializer if one.raw_data}
    rewriting = _Rewriting({**inside, **weights}, activations)
    rewriting.find_bounds(graph.node)
    for old in graph.node:
        rewriting.add(old)
    used = {name for one in rewriting.nodes for name in one.input}
    kept = [one for one in graph.initializer if one.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(rewriting.nodes)
    graph.initializer.extend([*kept, *(tensor(name, values) for name, values in rewriting.constants.items())])
    edited.opset_import.add(domain=MICROSOFT, version=1)
    return bytes(edited.SerializeToString())


def to_bytes(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(O, …) float32 → the same as int8, and the step of each output channel, (O,) float32.

    Rounded so that the errors of a channel cancel, by rounding the other way what lies nearest to halves: inputs are
    mostly positive and alike from pixel to pixel, so that it is the sum of the errors that tells.
    """
    rows = weights.reshape(len(weights), -1).astype(np.float64)
    steps = np.abs(rows).max(axis=1, keepdims=True) / _LARGEST
    steps[steps == 0] = 1
    exact = rows / steps
    rounded = np.rint(exact)
    errors = rounded - exact
    excess = np.rint(errors.sum(axis=1, keepdims=True))
    order = np.argsort(-np.sign(excess) * errors, axis=1, kind="stable")
    is_worst = np.argsort(order, axis=1) < np.abs(excess)
    rounded -= np.sign(excess) * is_worst
    return rounded.astype(np.int8).reshape(weights.shape), steps[:, 0].astype(np.float32)


@dataclass(slots=True)
class _Rewriting:
    """steps: of each value that exists as bytes, by its name in the float graph; clipped, bounds: a value's clipped
    form, and the largest value of one that is clipped from 0 on."""

    values: Mapping[str, np.ndarray]
    activations: Activations
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    steps: dict[str, float] = field(default_factory=dict)
    clipped: dict[str, str] = field(default_factory=dict)
    bounds: dict[str, float] = field(default_factory=dict)
    _restored: set[str] = field(default_factory=set)

    def find_bounds(self, nodes: Any) -> None:
        for one in nodes:
            bounds = [self.values[name] for name in one.input[1:] if name in self.values]
            if one.op_type == "Clip" and len(bounds) == 2 and bounds[0] == 0:
                self.clipped[one.input[0]] = one.output[0]
                self.bounds[one.output[0]] = float(bounds[1])

    def add(self, old: Any) -> None:
        """The node in whole numbers if its input is there as bytes, or its size known; else as it is."""
        if old.op_type == "Conv" and (old.input[0] in self.steps or old.input[0] in self.activations.sizes):
            self._convolve(old)
        elif old.op_type == "Add" and all(name in self.steps for name in old.input):
            (output,) = old.output
            self._declare(output)
            terms = [part for name in old.input for part in _parts(name)]
            made = node("QLinearAdd", [*terms, *_parts(output)[1:]], f"{output}.bytes", domain=MICROSOFT)
            self.nodes.append(made)
        elif old.output[0] not in self.steps:  # a Clip whose output is there as bytes is done with
            self._restore(name for name in old.input if name in self.steps)
            self.nodes.append(old)

    def _convolve(self, old: Any) -> None:
        image, weight, *bias = old.input
        if image not in self.steps:
            self._declare(image)
            self.nodes.append(node("QuantizeLinear", [image, *_parts(image)[1:]], f"{image}.bytes"))
        output = self.clipped.get(old.output[0], old.output[0])
        self._declare(output)
        bytes_, steps = to_bytes(self.values[weight])
        drift = self._drift(image, bytes_ * _per_channel(steps) - self.values[weight])
        shift = (self.values[bias[0]] if bias else 0.0) - drift
        whole = np.rint(shift / (np.float64(self.steps[image]) * steps))
        self.constants |= {
            f"{weight}.bytes": bytes_,
            f"{weight}.step": steps,
            f"{weight}.zero": np.zeros(len(steps), np.int8),
            f"{weight}.shift": np.clip(whole, -(2**31), 2**31 - 1).astype(np.int32),
        }
        factors = [*_parts(image), f"{weight}.bytes", f"{weight}.step", f"{weight}.zero"]
        made = node("QLinearConv", [*factors, *_parts(output)[1:], f"{weight}.shift"], f"{output}.bytes")
        made.attribute.extend(old.attribute)
        self.nodes.append(made)

    def _drift(self, image: str, errors: np.ndarray) -> np.ndarray | float:
        """(O,): what the errors of the weights, (O, C, H, W), add to the outputs in the mean; C is 1 if depthwise."""
        means = self.activations.means.get(image)
        if means is None:
            return 0.0
        per_input = errors.sum(axis=(2, 3), dtype=np.float64)
        is_depthwise = errors.shape[1] == 1
        return np.asarray(per_input[:, 0] * means if is_depthwise else per_input @ means.astype(np.float64))

    def _declare(self, name: str) -> None:
        """Fixes the step of a value: from 0 to its bound in 255 steps, or 127 steps to either side of 0."""
        if name in self.bounds:
            step, zero = self.bounds[name] / _BYTES, 0
        elif name in self.activations.sizes:
            step, zero = self.activations.sizes[name] / _LARGEST, _MIDDLE
        else:
            raise ArtifactError(f"the artifact does not tell how large {name} gets: export it again")
        self.steps[name] = step
        self.constants |= {f"{name}.step": np.array(step, np.float32), f"{name}.zero": np.array(zero, np.uint8)}

    def _restore(self, names: Any) -> None:
        for name in names:
            if name not in self._restored:
                self.nodes.append(node("DequantizeLinear", _parts(name), name))
                self._restored.add(name)


def _parts(name: str) -> list[str]:
    """Bytes, step and zero point of a value."""
    return [f"{name}.bytes", f"{name}.step", f"{name}.zero"]


def _per_channel(steps: np.ndarray) -> np.ndarray:
    return steps.reshape(-1, 1, 1, 1)
