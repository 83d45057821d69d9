"""OpenVINO as an engine: the artifact's graphs with their weights written into them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import openvino
from safetensors.numpy import load_file

from inference_worker.engines import onnx_model
from inference_worker.engines.onnx import GRAPHS, float32
from inference_worker.engines.onnx_model import node, tensor
from inference_worker.predictor import Fusion

Precision = Literal["float32", "int8"]
GROUP: Final = 32
"""Neighbours in a row that share a step, where OpenVINO makes bytes of activations."""


class OpenVinoEngine:
    """In float32, or with the factors of products left as int8 and rows of activations made bytes by OpenVINO."""

    max_padding = 0.05

    def __init__(self, directory: Path, *, threads: int, precision: Precision) -> None:
        self.name = f"openvino-{precision}"
        weights = load_file(directory / "weights.safetensors")
        core = openvino.Core()
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        settings |= {"DYNAMIC_QUANTIZATION_GROUP_SIZE": GROUP} if precision == "int8" else {}
        settings |= {"INFERENCE_NUM_THREADS": threads} if threads else {}
        self._requests = {}
        for graph in GRAPHS:
            model = _with_weights(directory / f"{graph}.onnx", weights, keeps_int8=precision == "int8")
            self._requests[graph] = core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()

    def encode_text(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        features, logits = self._run("text_encoder", input_ids=input_ids, attention_mask=attention_mask)
        return features, logits

    def encode_image(self, pixel_values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        features, logits = self._run("image_encoder", pixel_values=pixel_values)
        return features, logits

    def fuse(self, text_features: np.ndarray, attention_mask: np.ndarray, image_features: np.ndarray) -> Fusion:
        inputs = {"text_features": text_features, "attention_mask": attention_mask, "image_features": image_features}
        return Fusion(*self._run("fusion", **inputs))

    def _run(self, graph: str, **inputs: np.ndarray) -> list[np.ndarray]:
        return [np.array(found) for found in self._requests[graph].infer(inputs).values()]


def _with_weights(path: Path, weights: dict[str, np.ndarray], *, keeps_int8: bool) -> bytes:
    model = onnx_model.read(path.read_bytes())
    graph, made = model.graph, []
    kept = []
    for one in graph.initializer:
        key = f"{path.stem}/{one.name}"
        if key not in weights:
            kept.append(one)
        elif keeps_int8 and one.name.endswith(".transposed"):
            kept += [tensor(f"{one.name}.int8", weights[key]), tensor(f"{one.name}.scale", weights[f"{key}.scale"][0])]
            made.append(node("DequantizeLinear", [f"{one.name}.int8", f"{one.name}.scale"], one.name, axis=1))
        else:
            kept.append(tensor(one.name, float32(weights, key)))
    nodes = [*made, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    return bytes(model.SerializeToString())
