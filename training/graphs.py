"""MDSE to three ONNX graphs and one file of weights that the graphs refer to by name.

A graph keeps tensors of up to INLINE_ELEMENTS; larger ones become external initializers, stored once under
"<graph>/<name>": matrices as int8 with a float32 scale per output channel, anything else as float16. They are decoded
to float32 when loaded, so storage is the only thing that is quantised and no post's result depends on its batch.
"""

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from training.models.mdse import MDSE

INLINE_ELEMENTS = 1024
OPSET = 20
WEIGHTS_FILE = "weights.safetensors"
Weights = dict[str, NDArray[np.float32]]


class _TextGraph(nn.Module):
    def __init__(self, model: MDSE) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        return self.model.encode_text(input_ids, attention_mask)


class _ImageGraph(nn.Module):
    def __init__(self, model: MDSE) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        return self.model.encode_image(pixel_values)


class _FusionGraph(nn.Module):
    def __init__(self, model: MDSE) -> None:
        super().__init__()
        self.model = model

    def forward(self, text_features: Tensor, attention_mask: Tensor, image_features: Tensor) -> tuple[Tensor, ...]:
        fusion = self.model.fuse(text_features, attention_mask, image_features)
        return fusion.logits, fusion.caption_logits, fusion.text_map, fusion.image_map


def export_graphs(model: MDSE, *, image_size: int, folder: Path) -> Weights:
    """Write text_encoder.onnx, image_encoder.onnx and fusion.onnx; returns their external weights in float32."""
    model = model.eval()
    if hasattr(model.text_encoder, "bert"):  # the fused attention of torch exports as guards against empty rows
        model.text_encoder.bert.set_attn_implementation("eager")
    batch, tokens = torch.export.Dim("B"), torch.export.Dim("T", min=2, max=512)
    sequence = {0: batch, 1: tokens}
    input_ids = torch.randint(1, 20, (2, 7))
    attention_mask = torch.tensor([[1] * 7, [1] * 5 + [0] * 2])
    pixel_values = torch.randn(2, 3, image_size, image_size)
    with torch.no_grad():
        text_features, image_features = (
            model.encode_text(input_ids, attention_mask)[0],
            model.encode_image(pixel_values)[0],
        )
    weights = _export(
        _TextGraph(model),
        {"input_ids": input_ids, "attention_mask": attention_mask},
        outputs=["text_features", "text_logits"],
        dynamic=(sequence, sequence),
        file=folder / "text_encoder.onnx",
    )
    weights |= _export(
        _ImageGraph(model),
        {"pixel_values": pixel_values},
        outputs=["image_features", "image_logits"],
        dynamic=({0: batch},),
        file=folder / "image_encoder.onnx",
    )
    weights |= _export(
        _FusionGraph(model),
        {"text_features": text_features, "attention_mask": attention_mask, "image_features": image_features},
        outputs=["logits", "caption_logits", "text_map", "image_map"],
        dynamic=(sequence, sequence, {0: batch}),
        file=folder / "fusion.onnx",
    )
    return weights


def _export(
    module: nn.Module,
    inputs: dict[str, Tensor],
    *,
    outputs: list[str],
    dynamic: tuple[dict[int, torch.export.Dim], ...],
    file: Path,
) -> Weights:
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as scratch:
        warnings.simplefilter("ignore")  # torch's exporter warns about its own internals
        program: Any = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=dynamic,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        whole = Path(scratch) / file.name
        program.save(whole, external_data=False)
        graph = onnx.load(whole)
    onnx.checker.check_model(graph)
    graph.metadata_props.clear()
    for node in graph.graph.node:  # stack traces of the exporting machine
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    _name_after_parameters(graph.graph, module)
    weights = _move_out(graph.graph)
    onnx.save(graph, file)
    return {f"{file.stem}/{name}": weight for name, weight in weights.items()}


def _name_after_parameters(graph: onnx.GraphProto, module: nn.Module) -> None:
    """The exporter transposes linear layers into unnamed constants: give them "<parameter>.transposed" back."""
    parameters = {name.removeprefix("model."): p.detach().numpy() for name, p in module.named_parameters()}
    matrices = {(p.T.shape, p.T.tobytes()): f"{name}.transposed" for name, p in parameters.items() if p.ndim == 2}
    renamed = {}
    for initializer in graph.initializer:
        array = numpy_helper.to_array(initializer)
        known = initializer.name.removeprefix("model.")
        name = known if known in parameters else matrices.get((array.shape, array.tobytes()), known)
        renamed[initializer.name] = initializer.name = name
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    for info in graph.value_info:
        info.name = renamed.get(info.name, info.name)


def _move_out(graph: onnx.GraphProto) -> Weights:
    weights: Weights = {}
    for initializer in graph.initializer:
        array = numpy_helper.to_array(initializer)
        if array.size <= INLINE_ELEMENTS:
            continue
        if array.dtype != np.float32:
            raise ValueError(f"initializer {initializer.name} is {array.dtype}; only float32 can be stored")
        weights[initializer.name] = array.copy()
        initializer.ClearField("raw_data")
        initializer.ClearField("float_data")
        initializer.data_location = onnx.TensorProto.EXTERNAL
        entries = {"location": WEIGHTS_FILE, "offset": "0", "length": str(array.nbytes)}
        for key, value in entries.items():
            initializer.external_data.add(key=key, value=value)
    return weights


def encode_weights(weights: Weights) -> dict[str, np.ndarray]:
    """float32 to the stored form. The output channel is the last axis of a transposed matrix, else the first."""
    stored: dict[str, np.ndarray] = {}
    for name, weight in weights.items():
        if weight.ndim != 2:
            stored[name] = weight.astype(np.float16)
            continue
        input_axis = 0 if name.endswith(".transposed") else 1
        scale = np.abs(weight).max(axis=input_axis, keepdims=True).astype(np.float32) / 127
        scale = np.where(scale == 0, np.float32(1), scale)
        stored[name] = np.rint(weight / scale).astype(np.int8)
        stored[f"{name}.scale"] = scale
    return stored


def decode_weights(stored: dict[str, np.ndarray]) -> Weights:
    """The stored form to float32: value = int8 · scale, or the float16 itself."""
    return {
        name: array.astype(np.float32) * stored[f"{name}.scale"] if array.dtype == np.int8 else array.astype(np.float32)
        for name, array in stored.items()
        if not name.endswith(".scale")
    }
