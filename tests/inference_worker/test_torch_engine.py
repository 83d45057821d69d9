"""The torch engine answers as ONNX Runtime does, whatever a batch is padded to and whoever is in it."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the gpu extra is not installed (torch)")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from inference_worker import artifact  # noqa: E402
from inference_worker.contract import most_likely  # noqa: E402
from inference_worker.engines.onnx import OnnxEngine  # noqa: E402
from inference_worker.engines.torch import BATCHES, LENGTHS, TorchEngine  # noqa: E402
from inference_worker.errors import ArtifactError, EngineOutOfMemory  # noqa: E402
from inference_worker.predictor import Engine, Fusion, ImageCache, Predictor, Scores  # noqa: E402
from inference_worker.preprocess import Example  # noqa: E402
from inference_worker.settings import DEFAULT_MODEL  # noqa: E402
from ingest.contract import Post  # noqa: E402
from ingest.media.sanitize import make_safe  # noqa: E402
from ingest.sources.sample import SampleFeed  # noqa: E402

pytestmark = [pytest.mark.train, pytest.mark.timeout(120)]

MAX_TOKENS = 96
NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(scope="module")
def onnx() -> OnnxEngine:
    return OnnxEngine(DEFAULT_MODEL)


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, on_gpu])])
def engine(request: pytest.FixtureRequest) -> TorchEngine:
    return TorchEngine(DEFAULT_MODEL, max_tokens=MAX_TOKENS, device=request.param, precision="float32")


@pytest.fixture(scope="module")
def examples(onnx: OnnxEngine) -> dict[str, list[Example]]:
    """Six posts of each lane, of the bundled feed."""
    predictor = artifact.load(DEFAULT_MODEL, engine="onnx-float32")
    lanes: dict[str, list[Example]] = {}
    for draft in SampleFeed()._load():
        images = tuple(make_safe(picture.data) for picture in draft.pictures)
        post = Post(id="x:1", source="x", created_at=NOW, ingested_at=NOW, text=draft.post.text, images=images)
        example = predictor.prepare(post)
        lanes.setdefault(example.lane, []).append(example)
    return {lane: random.Random(7).sample(of_lane, 6) for lane, of_lane in lanes.items()}


def predictor_on(engine: Engine) -> Predictor:
    predictor = artifact.load(DEFAULT_MODEL, engine="onnx-float32")
    predictor.engine = engine
    return predictor


def anew(predictor: Predictor, examples: Sequence[Example]) -> list[Scores]:
    """The pictures are encoded each time: the cache is what must not hide a difference."""
    predictor.images = ImageCache(512)
    return predictor.predict(examples)


def assert_same(one: Scores, other: Scores, atol: float = 1e-4) -> None:
    assert most_likely(one.fused) == most_likely(other.fused)
    for mine, theirs in ((one.fused, other.fused), (one.text, other.text), (one.image, other.image)):
        assert (mine is None) == (theirs is None)
        if mine is not None and theirs is not None:
            np.testing.assert_allclose(mine, theirs, atol=atol)


def texts(rows: int, tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Of lengths from one token to all."""
    chance = np.random.default_rng(rows * 1000 + tokens)
    lengths = chance.integers(1, tokens + 1, rows)
    lengths[0] = tokens
    return chance.integers(1, 30_000, (rows, tokens)), (np.arange(tokens) < lengths[:, None]).astype(np.int64)


def answers(engine: Engine, rows: int, tokens: int) -> Fusion:
    input_ids, attention_mask = texts(rows, tokens)
    features, _ = engine.encode_text(input_ids, attention_mask)
    pictures = np.random.default_rng(rows).standard_normal((rows, 49, 384)).astype(np.float32)
    return engine.fuse(features, attention_mask, pictures)


@pytest.mark.parametrize(("rows", "tokens"), [(1, 1), (1, 96), (3, 8), (5, 23), (BATCHES[-1] + 2, 3)])
def test_texts_and_their_fusion_are_those_of_onnx_runtime(
    engine: TorchEngine, onnx: OnnxEngine, rows: int, tokens: int
) -> None:
    """Exactly at a padded shape, below one, and above all of them."""
    for found, wanted in zip(
        (*engine.encode_text(*texts(rows, tokens)), *answers(engine, rows, tokens)),
        (*onnx.encode_text(*texts(rows, tokens)), *answers(onnx, rows, tokens)),
        strict=True,
    ):
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_pictures_are_those_of_onnx_runtime(engine: TorchEngine, onnx: OnnxEngine) -> None:
    pixel_values = np.random.default_rng(7).standard_normal((3, 3, 224, 224)).astype(np.float32)
    for found, wanted in zip(engine.encode_image(pixel_values), onnx.encode_image(pixel_values), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_posts_score_as_on_onnx_runtime_alone_together_and_with_other_mates(
    engine: TorchEngine, onnx: OnnxEngine, examples: dict[str, list[Example]]
) -> None:
    ours, theirs = predictor_on(engine), predictor_on(onnx)
    assert examples.keys() == {"text", "image", "both"}
    for of_lane in examples.values():
        wanted = anew(theirs, of_lane)
        alone = [anew(ours, [example])[0] for example in of_lane[:2]]
        for found in (anew(ours, of_lane), alone, anew(ours, of_lane[:3][::-1])[::-1]):
            for one, other in zip(found, wanted, strict=False):
                assert_same(one, other)


def test_padding_to_a_much_longer_mate_changes_nothing(engine: TorchEngine) -> None:
    input_ids, attention_mask = texts(2, 96)
    attention_mask[1] = np.arange(96) < 5
    features, logits = engine.encode_text(input_ids, attention_mask)
    for tokens in (5, 9, 33):
        alone, alone_logits = engine.encode_text(input_ids[1:, :tokens], attention_mask[1:, :tokens])
        np.testing.assert_allclose(alone[0, :5], features[1, :5], atol=1e-4)
        np.testing.assert_allclose(alone_logits[0], logits[1], atol=1e-4)


def test_only_shapes_of_the_fixed_set_are_run() -> None:
    engine = TorchEngine(DEFAULT_MODEL, max_tokens=90, device="cpu", precision="float32")
    seen: set[tuple[int, ...]] = set()
    module = engine._networks["text_encoder"].module
    module.register_forward_pre_hook(lambda _, inputs: seen.update(tuple(one.shape) for one in inputs))
    for rows, tokens in ((1, 1), (3, 9), (5, 90), (BATCHES[-1] + 1, 8)):
        engine.encode_text(*texts(rows, tokens))
    assert seen == {(1, 8), (4, 16), (8, 90), (BATCHES[-1], 8)}
    assert {rows for rows, _ in seen} <= set(BATCHES) and {8, 16} <= set(LENGTHS)


def test_batches_may_be_given_side_by_side(engine: TorchEngine) -> None:
    sizes = [(3, 20), (2, 20), (4, 7)] * 4
    alone = [answers(engine, *size) for size in sizes]
    with ThreadPoolExecutor(engine.concurrency) as threads:
        together = list(threads.map(lambda size: answers(engine, *size), sizes))
    for one, other in zip(alone, together, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_the_shipped_artifact_loads_and_reproduces_its_golden_rows() -> None:
    assert artifact.load(DEFAULT_MODEL, engine="torch-cpu").engine.name == "torch-float32"


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, on_gpu])])
def test_products_in_float16_keep_within_the_artifacts_tolerance(device: str, onnx: OnnxEngine) -> None:
    engine = TorchEngine(DEFAULT_MODEL, max_tokens=MAX_TOKENS, device=device)
    assert engine.name in json.loads((DEFAULT_MODEL / "golden.json").read_text())["tolerance"]
    artifact._replay_golden_rows(DEFAULT_MODEL, predictor_on(engine))
    for found, wanted in zip(answers(engine, 3, 20), answers(onnx, 3, 20), strict=True):
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted, atol=0.02)


def test_golden_rows_that_are_not_reproduced_refuse_to_start(copy: Path) -> None:
    golden = json.loads((copy / "golden.json").read_text())
    golden["rows"][0]["expected"]["fused"] = [0.0, 0.0, 1.0]
    (copy / "golden.json").write_text(json.dumps(golden))
    manifest = json.loads((copy / "artifact.json").read_text())
    del manifest["sha256"]["golden.json"]
    (copy / "artifact.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="golden row .* on engine torch-float32"):
        artifact.load(copy, engine="torch-cpu")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEFAULT_MODEL, tmp_path / "model"))


def write_graph(path: Path, operator: str, *, rows: str = "B", size: int = 1) -> None:
    """input_ids and attention_mask → two outputs, each by this operator from a number and a shape."""
    ports = [helper.make_tensor_value_info(name, TensorProto.INT64, [rows, "T"]) for name in ("ids", "mask")]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows, size]) for name in ("features", "logits")]
    nodes = [helper.make_node(operator, ["one", "shape"], [output.name]) for output in outputs]
    constants = {"one": np.float32(1), "shape": np.array([1, size])}
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "made", ports, outputs, initializers)
    path.write_bytes(helper.make_model(graph).SerializeToString())


def on_cpu(directory: Path) -> TorchEngine:
    return TorchEngine(directory, max_tokens=MAX_TOKENS, device="cpu", precision="float32")


def test_memory_that_is_not_there_is_the_batchers_to_know(copy: Path) -> None:
    write_graph(copy / "text_encoder.onnx", "Expand", size=2**48)
    with pytest.raises(EngineOutOfMemory, match="text_encoder of 1 posts"):
        on_cpu(copy).encode_text(*texts(1, 5))


def test_other_errors_of_torch_stay_what_they_are(copy: Path) -> None:
    with pytest.raises(IndexError):
        on_cpu(copy).encode_text(np.full((1, 8), 10**6), np.ones((1, 8), np.int64))


def test_a_graph_with_an_operator_that_is_not_known_is_refused(copy: Path) -> None:
    write_graph(copy / "text_encoder.onnx", "Tile")
    with pytest.raises(ArtifactError, match=r"model cannot be loaded by torch .*: operator ONNX:Tile"):
        on_cpu(copy)


def test_a_graph_that_varies_in_what_is_not_known_is_refused(copy: Path) -> None:
    write_graph(copy / "text_encoder.onnx", "Expand", rows="N")
    with pytest.raises(ArtifactError, match="ids varies in N: the torch engine knows B and T"):
        on_cpu(copy)


def test_without_a_gpu_the_engine_says_what_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ArtifactError, match="finds no CUDA device: use onnx, or torch-cpu"):
        artifact.load(DEFAULT_MODEL, engine="torch")
