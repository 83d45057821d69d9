"""Convolutions in whole numbers are the float ones but for rounding, picture by picture."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from inference_worker.engines import onnx_model, whole_convolutions, whole_numbers
from inference_worker.engines.onnx_model import node, tensor
from inference_worker.engines.whole_convolutions import Activations, to_bytes
from inference_worker.errors import ArtifactError

CHANCE = np.random.default_rng(7)
SHAPES = {
    "stem": (8, 3, 3, 3),
    "into": (4, 8, 1, 1),
    "wide": (24, 4, 1, 1),
    "deep": (24, 1, 1, 1),
    "back": (4, 24, 1, 1),
}
WEIGHTS = {name: CHANCE.normal(0, 0.4, shape).astype(np.float32) for name, shape in SHAPES.items()}
BIASES = {f"{name}.bias": CHANCE.normal(0, 0.5, shape[0]).astype(np.float32) for name, shape in SHAPES.items()}
PICTURES = CHANCE.uniform(-1, 1, (6, 3, 12, 12)).astype(np.float32)
BLOCK = [
    node("Conv", ["pixel_values", "stem", "stem.bias"], "stemmed"),
    node("Clip", ["stemmed", "zero", "six"], "stemmed.clipped"),
    node("Conv", ["stemmed.clipped", "into", "into.bias"], "bottleneck"),
    node("Conv", ["bottleneck", "wide", "wide.bias"], "widened"),
    node("Clip", ["widened", "zero", "six"], "widened.clipped"),
    node("Conv", ["widened.clipped", "deep", "deep.bias"], "deepened", group=24),
    node("Clip", ["deepened", "zero", "six"], "deepened.clipped"),
    node("Conv", ["deepened.clipped", "back", "back.bias"], "returned"),
    node("Add", ["returned", "bottleneck"], "sum"),
    node("Abs", ["sum"], "features"),
]
"""As in EfficientNet-Lite: stem, linear bottleneck, widened, depthwise, back, and the sum of both bottlenecks."""
LINEAR = ["bottleneck", "returned", "sum"]
GOES_IN = ["bottleneck", "widened.clipped", "deepened.clipped"]

pytestmark = [
    pytest.mark.vnni,
    pytest.mark.skipif(not whole_numbers.are_exact(), reason="this processor saturates products of bytes"),
]


def graph(*outputs: str) -> bytes:
    model = onnx_model.new([("pixel_values", "float32")], [(name, "float32") for name in ("features", *outputs)])
    bounds = {"zero": np.array(0, np.float32), "six": np.array(6, np.float32)}
    model.graph.initializer.extend([tensor(name, values) for name, values in (WEIGHTS | BIASES | bounds).items()])
    model.graph.node.extend(BLOCK)
    return bytes(model.SerializeToString())


def run(model: bytes, pixel_values: np.ndarray) -> list[np.ndarray]:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return [np.asarray(found) for found in session.run(None, {"pixel_values": pixel_values})]


@pytest.fixture(scope="module")
def in_floats() -> dict[str, np.ndarray]:
    """What the values of the graph are, by name."""
    names = dict.fromkeys([*LINEAR, *GOES_IN])
    return dict(zip(["features", *names], run(graph(*names), PICTURES), strict=True))


@pytest.fixture(scope="module")
def activations(in_floats: dict[str, np.ndarray]) -> Activations:
    return Activations(
        sizes={name: float(np.abs(in_floats[name]).max()) for name in LINEAR},
        means={name: in_floats[name].mean(axis=(0, 2, 3)) for name in GOES_IN},
    )


@pytest.fixture(scope="module")
def rewritten(activations: Activations) -> bytes:
    return whole_convolutions.rewrite(graph(), {}, activations)


def test_features_are_off_by_little_more_than_their_last_step(
    rewritten: bytes, activations: Activations, in_floats: dict[str, np.ndarray]
) -> None:
    errors = np.abs(run(rewritten, PICTURES)[0] - in_floats["features"])
    step = activations.sizes["sum"] / 127
    assert errors.max() <= 5 * step
    assert errors.mean() <= step


def test_a_picture_owes_nothing_to_its_mates(rewritten: bytes) -> None:
    alone = run(rewritten, PICTURES[:1])[0]
    mates = np.concatenate([1000 * PICTURES[1:], PICTURES[:1]])
    np.testing.assert_array_equal(run(rewritten, mates)[0][-1:], alone)


def test_what_comes_before_the_first_known_size_stays_in_floats(rewritten: bytes) -> None:
    operators = [one.op_type for one in onnx_model.read(rewritten).graph.node]
    assert operators.count("Conv") == 2
    assert operators.count("QLinearConv") == 3
    assert operators.count("QLinearAdd") == 1
    assert operators.count("Clip") == 1  # bytes saturate at the others' bounds
    assert operators.count("QuantizeLinear") == operators.count("DequantizeLinear") == 1


def test_float_copies_of_whole_weights_are_gone(rewritten: bytes) -> None:
    assert {"stem", "into", "wide", "deep", "back"} & set(onnx_model.initializers(rewritten)) == {"stem", "into"}


def test_means_take_out_what_rounded_weights_add(
    activations: Activations, rewritten: bytes, in_floats: dict[str, np.ndarray]
) -> None:
    without = whole_convolutions.rewrite(graph(), {}, Activations(activations.sizes, {}))

    def drift(model: bytes) -> float:
        edited = onnx_model.read(model)
        edited.graph.output.add(name="sum")
        difference = run(edited.SerializeToString(), PICTURES)[1] - in_floats["sum"]
        return float(np.abs(difference.mean(axis=(0, 2, 3))).max())

    assert drift(rewritten) < drift(without)


def test_a_size_that_is_missing_is_named(activations: Activations) -> None:
    sizes = {name: size for name, size in activations.sizes.items() if name != "returned"}
    with pytest.raises(ArtifactError, match="how large returned gets"):
        whole_convolutions.rewrite(graph(), {}, Activations(sizes, {}))


def test_errors_of_a_channel_cancel() -> None:
    weights = CHANCE.uniform(-1, 1, (64, 30, 3, 3)).astype(np.float32)
    weights[5] = 0
    bytes_, steps = to_bytes(weights)
    errors = bytes_ - weights / steps.reshape(-1, 1, 1, 1)
    assert np.abs(errors).max() < 1
    assert np.abs(errors.sum(axis=(1, 2, 3))).max() <= 0.501
    assert np.abs(np.rint(weights / steps.reshape(-1, 1, 1, 1)) - bytes_).mean() < 0.05  # most are rounded as ever
    assert not bytes_[5].any()
