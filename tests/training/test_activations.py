from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the train extra is not installed (torch)")
onnx = pytest.importorskip("onnx", reason="the train extra is not installed (onnx)")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402

from training.activations import PERCENTILE, measure_activations  # noqa: E402

pytestmark = pytest.mark.train

PICTURES = np.random.default_rng(7).standard_normal((4, 3, 6, 6)).astype(np.float32)


def convolution(source: str, target: str, channels: tuple[int, int]) -> tuple[onnx.NodeProto, onnx.TensorProto]:
    """A 1 x 1 convolution that doubles and, where it widens, repeats its channels."""
    into, out = channels
    weight = np.zeros((out, into, 1, 1), np.float32)
    weight[np.arange(out), np.arange(out) % into] = 2
    name = f"{target}.weight"
    return helper.make_node("Conv", [source, name], [target]), numpy_helper.from_array(weight, name)


def write_graph(folder: Path, activation: str) -> None:
    """pixel_values → a → activation → b (linear) → c → activation → d (linear), e = b + d → f."""
    first, second, third, fourth, last = (
        convolution("pixel_values", "a", (3, 4)),
        convolution("a.active", "b", (4, 4)),
        convolution("b", "c", (4, 8)),
        convolution("c.active", "d", (8, 4)),
        convolution("e", "f", (4, 4)),
    )
    bounds = ["least", "most"] if activation == "Clip" else []
    nodes = [
        first[0],
        helper.make_node(activation, ["a", *bounds], ["a.active"]),
        second[0],
        third[0],
        helper.make_node(activation, ["c", *bounds], ["c.active"]),
        fourth[0],
        helper.make_node("Add", ["b", "d"], ["e"]),
        last[0],
        helper.make_node(activation, ["f", *bounds], ["image_features"]),
    ]
    limits = [numpy_helper.from_array(np.array(v, np.float32), n) for n, v in (("least", 0), ("most", 6))]
    graph = helper.make_graph(
        nodes,
        "pictures",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["B", 3, 6, 6])],
        [helper.make_tensor_value_info("image_features", TensorProto.FLOAT, ["B", 4, 6, 6])],
        [*limits, *(weight for _, weight in (first, second, third, fourth, last))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, folder / "image_encoder.onnx")
    save_file({"text_encoder/other": np.zeros(3, np.float32)}, folder / "weights.safetensors")


def test_sizes_and_means_are_those_of_the_values(tmp_path: Path) -> None:
    write_graph(tmp_path, "Clip")
    measured = measure_activations(tmp_path, [PICTURES[:3], PICTURES[3:]])
    active = np.clip(2 * PICTURES[:, [0, 1, 2, 0]], 0, 6)
    b = 2 * active
    d = 2 * np.clip(2 * b, 0, 6)
    sizes = {key: float(value) for key, value in measured.items() if key.endswith(".size")}
    assert sizes == {
        f"image_encoder/{name}.size": pytest.approx(np.percentile(np.abs(value), PERCENTILE), rel=1e-5)
        for name, value in (("b", b), ("d", d), ("e", b + d))
    }
    means = {key for key in measured if key.endswith(".mean")}
    assert means == {f"image_encoder/{name}.mean" for name in ("b", "c.active", "e")}
    batches = [value.mean(axis=(0, 2, 3)) for value in (b[:3], b[3:])]
    np.testing.assert_allclose(measured["image_encoder/b.mean"], np.mean(batches, axis=0), rtol=1e-3)


def test_a_network_without_bounds_has_nothing_to_tell(tmp_path: Path) -> None:
    write_graph(tmp_path, "Relu")
    assert measure_activations(tmp_path, [PICTURES]) == {}
