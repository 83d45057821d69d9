"""Tiny random encoders, so that every training test runs in seconds and downloads nothing.

torch is imported inside the fixtures: without the train extra the test modules skip themselves, and this file loads.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from training.batches import Batch
    from training.models.mdse import MDSE

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
        encoders = {"text_encoder": TextEncoder(config=config), "image_encoder": ImageEncoder(network=TinyNetwork())}
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
