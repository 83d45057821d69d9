"""CPU engine: the artifact's three graphs on ONNX Runtime, weights decoded from the artifact's one set.

In float32, or with the products by int8 weights in whole numbers (`whole_numbers.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import numpy as np
import onnxruntime as ort
from safetensors.numpy import load_file

from inference_worker.engines import whole_numbers
from inference_worker.errors import ArtifactError, EngineOutOfMemory
from inference_worker.predictor import Fusion

GRAPHS: Final = ("text_encoder", "image_encoder", "fusion")
SLOW_FUSIONS: Final = ("SkipLayerNormFusion",)
"""What ONNX Runtime would make of a sum and its normalisation takes 7 times as long as the two by themselves."""
Precision = Literal["float32", "int8"]
NAMES: Final[dict[Precision, str]] = {"float32": "onnx", "int8": "onnx-int8"}


class OnnxEngine:
    """Runs the graphs of an artifact directory; one call at a time per graph.

    threads: of ONNX Runtime inside one call; 0 leaves one per core.
    Raises ArtifactError if a graph or its weights cannot be loaded.
    """

    max_padding = 0.05  # a padded token costs as much as a real one, and by the token 64 posts hardly less than 8
    concurrency = 1  # it uses every core as it is

    def __init__(self, directory: Path, *, threads: int = 0, precision: Precision = "float32") -> None:
        self.name = NAMES[precision]
        try:
            weights = load_file(directory / "weights.safetensors")
            self._sessions = {
                graph: _session(directory / f"{graph}.onnx", weights, threads=threads, precision=precision)
                for graph in GRAPHS
            }
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
        try:
            return self._sessions[graph].run(None, inputs)  # type: ignore[no-any-return]
        except Exception as error:
            if "allocate memory" in str(error) or isinstance(error, MemoryError):
                raise EngineOutOfMemory(f"{graph} of {len(next(iter(inputs.values())))} posts: {error}") from error
            raise


def _session(path: Path, weights: dict[str, np.ndarray], *, threads: int, precision: Precision) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Idle threads that spin take their core from the preparing thread and from other processes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    prefix = f"{path.stem}/"
    model = path.read_bytes()
    stored = {key.removeprefix(prefix) for key in weights if key.startswith(prefix) and not key.endswith(".scale")}
    if precision == "int8":
        whole = {name: weights[prefix + name] for name in stored if _has_columns(weights, prefix + name)}
        model = whole_numbers.rewrite(model, whole, {name: weights[f"{prefix}{name}.scale"] for name in whole})
        stored -= whole.keys()
    floats = {name: ort.OrtValue.ortvalue_from_numpy(float32(weights, prefix + name)) for name in stored}
    options.add_external_initializers(list(floats), list(floats.values()))
    return ort.InferenceSession(
        model, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(SLOW_FUSIONS)
    )


def _has_columns(weights: dict[str, np.ndarray], key: str) -> bool:
    """Stored as int8 with a scale for each column, as a factor of MatMul is."""
    return weights[key].dtype == np.int8 and weights[f"{key}.scale"].shape == (1, weights[key].shape[1])


def float32(weights: dict[str, np.ndarray], key: str) -> np.ndarray:
    """A stored tensor as float32: int8 rows are multiplied by their scale, float16 is widened."""
    tensor = weights[key].astype(np.float32)
    scale = weights.get(f"{key}.scale")
    return tensor if scale is None else np.ascontiguousarray(tensor * scale)
