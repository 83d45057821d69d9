"""CPU engine: the artifact's three graphs on ONNX Runtime, weights decoded from the artifact's one set.

In float32, or in whole numbers: products by int8 weights (`whole_numbers.py`) and, where the artifact has measured its
activations (`activations.safetensors`), convolutions (`whole_convolutions.py`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

import numpy as np
import onnxruntime as ort
from safetensors.numpy import load_file

from inference_worker.engines import onnx_model, whole_convolutions, whole_numbers
from inference_worker.engines.whole_convolutions import Activations
from inference_worker.errors import ArtifactError, EngineOutOfMemory
from inference_worker.predictor import Fusion

GRAPHS: Final = ("text_encoder", "image_encoder", "fusion")
SLOW_FUSIONS: Final = ("SkipLayerNormFusion",)
"""What ONNX Runtime would make of a sum and its normalisation takes 7 times as long as the two by themselves."""
PARTS: Final = 2
"""Of a batch, for each thread: while something else has one's core for a moment, the others go on with the rest."""
LEAST: Final = 4
"""Posts of a part, where that leaves one for each thread: a text alone takes half as long again as one of four."""
Precision = Literal["float32", "int8"]
NAMES: Final[dict[Precision, str]] = {"float32": "onnx", "int8": "onnx-int8"}


class OnnxEngine:
    """Runs the graphs of an artifact directory; calls from any thread.

    A batch is cut into parts, and each thread takes part after part through the whole graph: threads that share every
    operator of it wait for each other some hundred times, which costs a tenth of all work. A thread that finds no part
    of one batch left goes on with the next, so that none waits while the other ends the last.
    threads: 0 makes one per core.
    Raises ArtifactError if a graph or its weights cannot be loaded.
    """

    max_padding = 0.05  # a padded token costs as much as a real one, and by the token 64 posts hardly less than 8
    concurrency = 2  # the second is there when threads have done with the first, and while Python makes scores of it

    def __init__(self, directory: Path, *, threads: int = 0, precision: Precision = "float32") -> None:
        self.name = NAMES[precision]
        self._threads = threads or _cores()
        self._parts = ThreadPoolExecutor(self._threads, thread_name_prefix="engine-part")
        try:
            weights = load_file(directory / "weights.safetensors")
            measured = directory / "activations.safetensors"
            activations = load_file(measured) if precision == "int8" and measured.is_file() else {}
            self._sessions = {
                graph: _session(directory / f"{graph}.onnx", weights, activations, precision) for graph in GRAPHS
            }
        except ArtifactError:
            raise
        except Exception as error:  # ONNX Runtime and safetensors raise a zoo of types
            raise ArtifactError(f"{directory} cannot be loaded by ONNX Runtime {ort.__version__}: {error}") from error

    def encode_text(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B, T) int64 twice → text_features (B, T, D), text_logits (B, C)."""
        outputs = self._run("text_encoder", input_ids=input_ids, attention_mask=attention_mask)
        return outputs[0], outputs[1]

    def encode_image(self, pixel_values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B, 3, H, W) float32 → image_features (B, M, D), image_logits (B, C)."""
        outputs = self._run("image_encoder", pixel_values=pixel_values)
        return outputs[0], outputs[1]

    def fuse(self, text_features: np.ndarray, attention_mask: np.ndarray, image_features: np.ndarray) -> Fusion:
        """(B, T, D), (B, T) int64, (B, M, D) → Fusion."""
        outputs = self._run(
            "fusion", text_features=text_features, attention_mask=attention_mask, image_features=image_features
        )
        return Fusion(*outputs)

    def _run(self, graph: str, **inputs: np.ndarray) -> list[np.ndarray]:
        rows = len(next(iter(inputs.values())))
        found = [*self._parts.map(partial(self._run_part, graph, inputs), parts(rows, self._threads))]
        return found[0] if len(found) == 1 else [np.concatenate(same) for same in zip(*found, strict=True)]

    def _run_part(self, graph: str, inputs: Mapping[str, np.ndarray], part: slice) -> list[np.ndarray]:
        try:
            outputs: list[np.ndarray] = self._sessions[graph].run(
                None, {name: one[part] for name, one in inputs.items()}
            )
        except Exception as error:
            if "allocate memory" in str(error) or isinstance(error, MemoryError):
                raise EngineOutOfMemory(f"{graph} of {part.stop - part.start} posts: {error}") from error
            raise
        return outputs


def parts(rows: int, threads: int) -> list[slice]:
    """A batch of so many posts, cut for so many threads; see PARTS and LEAST."""
    count = min(PARTS * threads, max(threads, rows // LEAST), rows) if threads > 1 else 1
    cuts = [rows * part // count for part in range(count + 1)]
    return [slice(first, last) for first, last in pairwise(cuts)]


def _cores() -> int:
    """Those this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _session(
    path: Path, weights: dict[str, np.ndarray], activations: dict[str, np.ndarray], precision: Precision
) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    stored = {key.removeprefix(f"{path.stem}/"): key for key in weights if _is_of(key, path.stem)}
    model = path.read_bytes()
    if precision == "int8":
        model = _in_whole_numbers(model, weights, stored, _of_graph(activations, path.stem))
    floats = {
        name: ort.OrtValue.ortvalue_from_numpy(float32(weights, stored[name]))
        for name in onnx_model.initializers(model)
        if name in stored
    }
    options.add_external_initializers(list(floats), list(floats.values()))
    return ort.InferenceSession(
        model, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(SLOW_FUSIONS)
    )


def _in_whole_numbers(
    model: bytes, weights: dict[str, np.ndarray], stored: dict[str, str], activations: Activations
) -> bytes:
    """stored: key in weights by the graph's own name."""
    if activations.sizes:
        decoded = {name: float32(weights, key) for name, key in stored.items()}
        model = whole_convolutions.rewrite(model, decoded, activations)
    whole = {name: key for name, key in stored.items() if _has_columns(weights, key)}
    scales = {name: weights[f"{key}.scale"] for name, key in whole.items()}
    return whole_numbers.rewrite(model, {name: weights[key] for name, key in whole.items()}, scales)


def _is_of(key: str, graph: str) -> bool:
    return key.startswith(f"{graph}/") and not key.endswith(".scale")


def _of_graph(measured: dict[str, np.ndarray], graph: str) -> Activations:
    """`<graph>/<value>.size` and `.mean` of activations.safetensors, for one graph."""
    mine = {key.removeprefix(f"{graph}/"): found for key, found in measured.items() if key.startswith(f"{graph}/")}
    return Activations(
        sizes={key.removesuffix(".size"): float(found) for key, found in mine.items() if key.endswith(".size")},
        means={key.removesuffix(".mean"): found for key, found in mine.items() if key.endswith(".mean")},
    )


def _has_columns(weights: dict[str, np.ndarray], key: str) -> bool:
    """Stored as int8 with a scale for each column, as a factor of MatMul is."""
    return weights[key].dtype == np.int8 and weights[f"{key}.scale"].shape == (1, weights[key].shape[1])


def float32(weights: dict[str, np.ndarray], key: str) -> np.ndarray:
    """A stored tensor as float32: int8 rows are multiplied by their scale, float16 is widened."""
    tensor = weights[key].astype(np.float32)
    scale = weights.get(f"{key}.scale")
    return tensor if scale is None else np.ascontiguousarray(tensor * scale)
