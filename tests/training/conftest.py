"""Tiny random encoders, so that every training test runs in seconds and downloads nothing.

torch is imported inside the fixtures: without the train extra the test modules skip themselves, and this file loads.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from training.batches import Batch
    from training.figures.drawing import Figure
    from training.figures.trained import TrainedRun
    from training.models.mdse import MDSE
    from training.one_run import Bench

TINY_IMAGE_SIZE = 16


@pytest.fixture(scope="session")
def build_tiny_model() -> "Callable[..., MDSE]":
    """MDSE on a two-layer text encoder and one convolution: 16 x 16 pixels to a 4 x 4 grid of 12 features."""
    import torch
    import transformers

    from training.encoders import ImageEncoder, TextEncoder
    from training.models.mdse import MDSE

    torch.set_num_threads(1)  # operations this small only wait for their second thread

    class TinyNetwork(torch.nn.Module):
        """The part of timm's interface that ImageEncoder uses."""

        num_features = 12

        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 12, 4, stride=4)
            self.norm = torch.nn.BatchNorm2d(12)

        def forward_features(self, pixel_values: Any) -> Any:
            return torch.nn.functional.relu(self.norm(self.conv(pixel_values)))

    def build(seed: int = 0, **arguments: Any) -> MDSE:
        torch.manual_seed(seed)
        config = transformers.BertConfig(
            vocab_size=50,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
            attention_probs_dropout_prob=0.0,
        )
        network = transformers.BertModel(config, add_pooling_layer=False)
        encoders = {"text_encoder": TextEncoder(network=network), "image_encoder": ImageEncoder(network=TinyNetwork())}
        return MDSE(**encoders, width=24, heads=4, **arguments)

    return build


@pytest.fixture(scope="session")
def build_batch() -> "Callable[..., Batch]":
    import torch

    from training.batches import Batch

    def build(rows: int = 4, tokens: int = 6, seed: int = 0, text: bool = True, image: bool = True) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        input_ids = torch.randint(1, 50, (rows, tokens), generator=generator)
        pixel_values = torch.randn(rows, 3, TINY_IMAGE_SIZE, TINY_IMAGE_SIZE, generator=generator)
        labels = torch.arange(rows) % 3
        return Batch(
            input_ids if text else None,
            torch.ones_like(input_ids) if text else None,
            pixel_values if image else None,
            labels,
        )

    return build


@pytest.fixture(scope="session")
def picture_bench() -> "Bench":
    """Ninety made-up posts whose texts say the class and whose pictures can be drawn, in states of 3 x 3 cells."""
    import numpy as np
    from PIL import Image

    from training.datasets.example import Corpus, Example
    from training.feature_cache import FeatureCache
    from training.one_run import Bench

    encoded = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(encoded, "PNG")
    texts = ("good day", "so so today", "bad")
    examples = [Example(str(n), texts[n % 3], encoded.getvalue(), n % 3) for n in range(90)]
    generator = np.random.default_rng(0)
    offsets = np.cumsum([0, *(len((example.text or "").split()) + 2 for example in examples for _ in range(2))])
    text = generator.standard_normal((4, int(offsets[-1]), 24)) * 0.5
    image = generator.standard_normal((90, 2, 9, 16))
    for row, example in enumerate(examples):
        text[:, offsets[row * 2] : offsets[(row + 1) * 2], example.label] += 2
        image[row, ..., example.label] += 1
    return Bench(
        name="mvsa_single",
        split="published",
        corpus=Corpus({"train": examples[:60], "validation": examples[60:75], "test": examples[75:]}),
        cache=FeatureCache(
            examples, text=text.astype(np.float16), offsets=offsets, image=image.astype(np.float16), seconds=1.0
        ),
        is_twin=np.array([True] + [False] * 14),
    )


@pytest.fixture(scope="session")
def trained_run(picture_bench: "Bench", tmp_path_factory: pytest.TempPathFactory) -> "Callable[..., TrainedRun]":
    """A shipped configuration, made small and trained for two epochs."""
    import torch

    from training.config import read_config, varied
    from training.figures.trained import TrainedRun
    from training.one_run import run_once
    from training.systems import build_model

    sizes = {"mdse": {"width": 16, "heads": 4}, "clmlf": {"width": 24, "heads": 4}, "spp_scl": {}}

    def train(name: str, **model: Any) -> TrainedRun:
        config = varied(
            read_config(name), {"epochs": 2, "views": 2, "batch_size": 16, "model": sizes[name] | model}, "a test"
        )
        folder = tmp_path_factory.mktemp(name)
        run_once(config, picture_bench, seed=1, folder=folder)
        shares = picture_bench.corpus.shares()
        built = build_model(config, text_width=24, image_width=16, classes=3, shares=shares)
        built.load_state_dict(torch.load(folder / "best.pt", weights_only=True)["model"])
        return TrainedRun(
            name=name,
            seed=1,
            config=config,
            bench=picture_bench,
            model=built.eval(),
            word_pieces=lambda text: ["[CLS]", *text.split(), "[SEP]"],
        )

    return train


@pytest.fixture(scope="session")
def rows_of() -> "Callable[[Figure], list[list[dict[str, Any]]]]":
    """All data sets of a figure, each once, in the order of its charts."""

    def rows(figure: "Figure") -> list[list[dict[str, Any]]]:
        return list(figure.chart.to_dict()["datasets"].values())

    return rows


@pytest.fixture(scope="session")
def bench_line() -> "Callable[..., dict[str, Any]]":
    """A line of results as the bench notes it, of ten posts."""

    def line(key: str, seed: int, right: str, weighted_f1: float = 0.5, validation: float = 0.5) -> dict[str, Any]:
        accuracy = right.count("1") / len(right)
        return {
            "key": key,
            "seed": seed,
            "right": right,
            "validation": {"weighted_f1": validation},
            "test": {
                "rows": len(right),
                "accuracy": accuracy,
                "weighted_f1": weighted_f1,
                "confusion": [[4, 1, 0], [1, 1, 0], [0, 1, 2]],
            },
        }

    return line


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of weights, tiny and random, of all encoders of the papers."""
    from tests.training.tiny_weights import write_tiny_weights
    from training.weights import PUBLISHED

    folder = tmp_path_factory.mktemp("weights")
    for name in PUBLISHED:
        write_tiny_weights(name, folder)
    return folder


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The hub switched off, as by HF_HUB_OFFLINE, and its cache, empty."""
    from huggingface_hub import constants

    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return cache
