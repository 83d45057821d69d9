"""GPU engine: the artifact's graphs on torch at a fixed set of padded shapes, from the artifact's one set of weights.

Products are reckoned in float16, all else in float32. (bfloat16, of as many bits, moves probabilities of the shipped
model by up to 0.027, float16 by 0.002; what float16 cannot hold would show in the golden rows.) On a GPU every shape is
captured as a CUDA graph before the worker says it is ready: no shape is met for the first time in service. A batch
comes in on one stream, is scored on a second and leaves on a third, through pinned memory, so that copies of one batch
overlap with the scoring of another. Memory is taken at the start and hardly grows: several workers can share a GPU. On
a CPU the same code runs without capture, for tests. What it does on a GPU has not been measured.
"""

from __future__ import annotations

import logging
import threading
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import torch
from safetensors.numpy import load_file
from torch import Tensor

from inference_worker.engines import onnx_model
from inference_worker.engines.captured import Captured
from inference_worker.engines.onnx import GRAPHS, float32
from inference_worker.engines.onnx_to_fx import DTYPES, convert
from inference_worker.errors import ArtifactError, EngineOutOfMemory
from inference_worker.predictor import Fusion

BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128)
LENGTHS: Final = (8, 16, 24, 32, 40, 48, 64, 96, 128, 192, 256, 384, 512)
"""What a batch is padded to, in posts and in tokens; of the latter as far as the artifact's longest text."""
ROWS, TOKENS = "B", "T"
"""Names of the dimensions that vary in an artifact's graphs."""
Precision = Literal["float32", "float16"]
NAMES: Final[dict[Precision, str]] = {"float32": "torch-float32", "float16": "torch"}

logger = logging.getLogger(__name__)


class _Port(NamedTuple):
    """An input or output; dims: ROWS, TOKENS, or a size."""

    dims: tuple[str | int, ...]
    dtype: torch.dtype

    def shape(self, rows: int, tokens: int) -> tuple[int, ...]:
        return tuple(rows if one == ROWS else tokens if one == TOKENS else int(one) for one in self.dims)


class _Network(NamedTuple):
    """A graph; captured: by (rows, tokens)."""

    module: torch.fx.GraphModule
    inputs: tuple[_Port, ...]
    outputs: tuple[_Port, ...]
    captured: dict[tuple[int, int], Captured]

    @property
    def has_tokens(self) -> bool:
        return any(TOKENS in port.dims for port in self.inputs)


class TorchEngine:
    """Runs the graphs of an artifact directory; arrays as in `onnx.py`, calls from as many threads as `concurrency`.

    max_tokens: of the longest text; precision: of products.
    Raises ArtifactError if the device is missing or has no room, or a graph cannot be converted.
    """

    max_padding = 0.1  # not measured: of its batches alone, before they are padded to a shape
    concurrency = 2

    def __init__(
        self, directory: Path, *, max_tokens: int, device: str = "cuda", precision: Precision = "float16"
    ) -> None:
        self._device = torch.device(device)
        self._is_cuda = self._device.type == "cuda"
        if self._is_cuda and not torch.cuda.is_available():
            raise ArtifactError(f"engine torch: torch {torch.__version__} finds no CUDA device: use onnx, or torch-cpu")
        # By default convolutions in float32 round to ten bits, and what is summed in parts is rounded between them.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
        self.name = NAMES[precision]
        self._lengths = (*(length for length in LENGTHS if length < max_tokens), max_tokens)
        self._batches: tuple[int, ...] = BATCHES
        try:
            weights = load_file(directory / "weights.safetensors")
            self._networks = {
                graph: _network(directory / f"{graph}.onnx", weights, getattr(torch, precision), self._device)
                for graph in GRAPHS
            }
        except Exception as error:  # protobuf and safetensors raise a zoo of types
            raise ArtifactError(f"{directory} cannot be loaded by torch {torch.__version__}: {error}") from error
        self._computing = threading.Lock()
        self._backend = torch.get_device_module(self._device)
        self._incoming, self._scoring, self._outgoing = (self._backend.Stream() for _ in range(3))
        if self._is_cuda:
            with torch.inference_mode():
                self._batches = self._capture_all()
            if not self._batches:
                raise ArtifactError(f"engine torch: {torch.cuda.get_device_name()} has no room for a single post")

    def encode_text(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        features, logits = self._run("text_encoder", input_ids, attention_mask)
        return features, logits

    def encode_image(self, pixel_values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        features, logits = self._run("image_encoder", pixel_values)
        return features, logits

    def fuse(self, text_features: np.ndarray, attention_mask: np.ndarray, image_features: np.ndarray) -> Fusion:
        return Fusion(*self._run("fusion", text_features, attention_mask, image_features))

    def _run(self, graph: str, *inputs: np.ndarray) -> list[np.ndarray]:
        """Raises EngineOutOfMemory."""
        rows, most = len(inputs[0]), self._batches[-1]
        try:
            with torch.inference_mode():
                parts = [
                    self._run_part(self._networks[graph], [one[start : start + most] for one in inputs])
                    for start in range(0, rows, most)
                ]
        except RuntimeError as error:  # torch.OutOfMemoryError is one; on a CPU it has no type of its own
            if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
                raise EngineOutOfMemory(f"{graph} of {rows} posts: {error}") from error
            raise
        return parts[0] if len(parts) == 1 else [np.concatenate(same) for same in zip(*parts, strict=True)]

    def _run_part(self, network: _Network, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        rows, tokens = inputs[0].shape[:2] if network.has_tokens else (len(inputs[0]), 0)
        padded = _fitting(self._batches, rows), _fitting(self._lengths, tokens) if tokens else 0
        staged = [self._staged(port, one, padded) for port, one in zip(network.inputs, inputs, strict=True)]
        with self._backend.stream(self._incoming):
            arrived = [one.to(self._device, non_blocking=True) for one in staged]
            are_here = self._mark(self._incoming)
        # Graphs share their memory, so that one runs at a time, and what it gave is taken away before the next.
        with self._computing, self._backend.stream(self._scoring):
            self._scoring.wait_event(are_here)
            outputs = network.captured.get(padded, network.module)(*arrived)
            taken = [
                output[tuple(map(slice, port.shape(rows, tokens)))].clone(memory_format=torch.contiguous_format)
                for port, output in zip(network.outputs, outputs, strict=True)
            ]
            are_done = self._mark(self._scoring)
        with self._backend.stream(self._outgoing):
            self._outgoing.wait_event(are_done)
            left = [self._pinned(one.shape, one.dtype).copy_(one, non_blocking=True) for one in taken]
            have_left = self._mark(self._outgoing)
        have_left.synchronize()
        return [one.numpy() for one in left]

    def _staged(self, port: _Port, given: np.ndarray, padded: tuple[int, int]) -> Tensor:
        """Where the device reads it, with zeros for padding."""
        staged = self._pinned(port.shape(*padded), port.dtype)
        view = staged.numpy()
        if view.shape != given.shape:
            view.fill(0)
        view[tuple(map(slice, given.shape))] = given
        return staged

    def _pinned(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, pin_memory=self._is_cuda)

    def _mark(self, stream: Any) -> Any:
        """A point in a stream to be waited for, on a GPU without keeping a core busy."""
        event = torch.cuda.Event(blocking=True) if self._is_cuda else self._backend.Event()
        event.record(stream)
        return event

    def _capture_all(self) -> tuple[int, ...]:
        """The batches there is room for; the largest is captured first, for the others fit into its memory."""
        pool = torch.cuda.graph_pool_handle()
        fitting: list[int] = []
        for rows in reversed(BATCHES):
            try:
                captured = [
                    (network, tokens, self._capture(network, rows, tokens, pool))
                    for network in self._networks.values()
                    for tokens in (self._lengths[::-1] if network.has_tokens else (0,))
                ]
            except torch.OutOfMemoryError as error:
                logger.warning("the GPU has no room for batches of %d posts: %s", rows, error)
                continue
            for network, tokens, one in captured:
                network.captured[rows, tokens] = one
            fitting.insert(0, rows)
        return tuple(fitting)

    def _capture(self, network: _Network, rows: int, tokens: int, pool: Any) -> Captured:
        inputs = [
            torch.zeros(port.shape(rows, tokens), dtype=port.dtype, device=self._device) for port in network.inputs
        ]
        return Captured(network.module, inputs, stream=self._scoring, pool=pool)


def _network(path: Path, weights: dict[str, np.ndarray], products: torch.dtype, device: torch.device) -> _Network:
    graph = onnx_model.read(path.read_bytes()).graph
    prefix = f"{path.stem}/"
    stored = {
        key.removeprefix(prefix): torch.from_numpy(float32(weights, key))
        for key in weights
        if key.startswith(prefix) and not key.endswith(".scale")
    }
    module = convert(graph, stored, products=products, device=device)
    return _Network(module, tuple(map(_port, graph.input)), tuple(map(_port, graph.output)), {})


def _port(value: Any) -> _Port:
    """Raises ArtifactError if a dimension varies that is not known here."""
    dims = tuple(one.dim_param or one.dim_value for one in value.type.tensor_type.shape.dim)
    if unknown := {one for one in dims if isinstance(one, str)} - {ROWS, TOKENS}:
        raise ArtifactError(f"{value.name} varies in {', '.join(unknown)}: the torch engine knows {ROWS} and {TOKENS}")
    return _Port(dims, DTYPES[value.type.tensor_type.elem_type][1])


def _fitting(sizes: Sequence[int], wanted: int) -> int:
    return sizes[bisect_left(sizes, wanted)]
