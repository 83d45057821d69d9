from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed (torch)")
pytest.importorskip("onnxscript", reason="the train extra is not installed (onnxscript)")

import onnx  # noqa: E402

from training.evaluate import GRAPHS, _session  # noqa: E402
from training.graphs import INLINE_ELEMENTS, decode_weights, encode_weights, export_graphs  # noqa: E402

pytestmark = [pytest.mark.train, pytest.mark.timeout(120)]
Build = Callable[..., Any]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, build_tiny_model: Build) -> tuple[Any, Path, Any]:
    """(model, folder of graphs, their external weights) of a tiny model, exported once."""
    model = build_tiny_model().eval()
    folder = tmp_path_factory.mktemp("graphs")
    return model, folder, export_graphs(model, image_size=16, folder=folder)


def run(folder: Path, weights: Any, batch: Any) -> tuple[np.ndarray, ...]:
    sessions = {graph: _session(folder / f"{graph}.onnx", weights) for graph in GRAPHS}
    mask = batch.attention_mask.numpy()
    text = sessions["text_encoder"].run(None, {"input_ids": batch.input_ids.numpy(), "attention_mask": mask})
    image = sessions["image_encoder"].run(None, {"pixel_values": batch.pixel_values.numpy()})
    feed = {"text_features": text[0], "attention_mask": mask, "image_features": image[0]}
    return text[1], image[1], *sessions["fusion"].run(None, feed)


def test_graphs_equal_torch_on_an_unseen_batch_size(exported: Any, build_batch: Build) -> None:
    model, folder, weights = exported
    batch = build_batch(rows=5, tokens=13, seed=4)
    batch.attention_mask[2, 6:] = 0
    with torch.inference_mode():
        expected = model(batch.input_ids, batch.attention_mask, batch.pixel_values)
    text, image, fused, caption, text_map, image_map = run(folder, weights, batch)
    for got, wanted in (
        (text, expected.text_logits),
        (image, expected.image_logits),
        (fused, expected.fused_logits),
        (caption, expected.caption_logits),
        (text_map, expected.text_map),
        (image_map, expected.image_map),
    ):
        np.testing.assert_allclose(got, wanted.numpy(), atol=1e-5)


def test_stored_weights_keep_rows_independent_of_their_batch(exported: Any, build_batch: Build) -> None:
    _, folder, weights = exported
    stored = decode_weights(encode_weights(weights))
    batch = build_batch(rows=6, tokens=9, seed=6)
    together = run(folder, stored, batch)
    one = type(batch)(*(field[4:5] for field in batch if field is not None))
    for alone, whole in zip(run(folder, stored, one), together, strict=True):
        np.testing.assert_allclose(alone[0], whole[4], atol=1e-5)


def test_big_initializers_leave_the_graph_under_the_names_of_their_parameters(exported: Any) -> None:
    model, folder, weights = exported
    for graph in GRAPHS:
        loaded = onnx.load(folder / f"{graph}.onnx", load_external_data=False)
        external = {i.name for i in loaded.graph.initializer if i.data_location == onnx.TensorProto.EXTERNAL}
        assert external == {name.removeprefix(f"{graph}/") for name in weights if name.startswith(f"{graph}/")}
        assert all(weights[f"{graph}/{name}"].size > INLINE_ELEMENTS for name in external)
    parameters = {name for name, _ in model.named_parameters()}
    names = {name.partition("/")[2].removesuffix(".transposed") for name in weights}
    assert names <= parameters


def test_stored_matrices_are_int8_with_one_scale_per_output_channel() -> None:
    generator = np.random.default_rng(0)
    weights = {
        "g/table": generator.normal(size=(50, 30)).astype(np.float32),
        "g/linear.transposed": generator.normal(size=(30, 40)).astype(np.float32),
        "g/kernel": generator.normal(size=(8, 4, 3, 3)).astype(np.float32),
    }
    weights["g/table"][3] = 0
    stored = encode_weights(weights)
    assert stored["g/table.scale"].shape == (50, 1)
    assert stored["g/linear.transposed.scale"].shape == (1, 40)
    assert stored["g/table"].dtype == np.int8 and stored["g/kernel"].dtype == np.float16
    decoded = decode_weights(stored)
    assert decoded.keys() == weights.keys()
    for name in ("g/table", "g/linear.transposed"):
        assert (np.abs(decoded[name] - weights[name]) <= stored[f"{name}.scale"] / 2 + 1e-7).all()
    np.testing.assert_allclose(decoded["g/kernel"], weights["g/kernel"], rtol=1e-3)
