"""Preset `paper`: BERT-base, RoBERTa-base, ResNet-50, VGG-19, ViT-B/16 and CLIP ViT-B/32, from the weights given.

Every text goes through its encoder's own tokenizer as published, and every picture, normalised with mean = std = 0.5
as everywhere here, is put to its encoder's own mean and standard deviation first.
"""

import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import timm
import torch
from einops import rearrange
from safetensors import SafetensorError
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import BertModel, CLIPTextModelWithProjection, CLIPVisionModelWithProjection, RobertaModel
from transformers.utils import logging as transformers_logging
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from training.batches import MAX_TOKENS, MEAN, STD
from training.config import CLIP, SMALL, BadConfig
from training.encoders import (
    StoredStatistics,
    TextEncoder,
    small_image_encoder,
    small_text_encoder,
    small_tokenizer,
)
from training.feature_cache import FrozenEncoders
from training.weights import MissingWeights, Weights, find_weights

TEXT_NETWORKS: Final = {"e5-small-v2": BertModel, "bert-base-uncased": BertModel, "roberta-base": RobertaModel}


class CLIPTextEncoder(nn.Module):
    """CLIP's vector of a text, in the space it shares with pictures. What stands at padding changes nothing.

    Inputs   input_ids, attention_mask: (B, T) int64
    Returns  (B, 1, width) float32
    """

    def __init__(self, *, network: CLIPTextModelWithProjection) -> None:
        super().__init__()
        config: Any = network.config
        self.network: Any = network
        self.width: int = config.projection_dim
        self.max_tokens: int = config.max_position_embeddings

    def layers(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The vector as if it were the only layer's only word piece: (1, B, 1, width)."""
        return self.forward(input_ids, attention_mask)[None]

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        # The vector is that of the first end of text, or of the highest id: padding may be neither.
        input_ids = input_ids.masked_fill(attention_mask == 0, 0)
        vectors: Tensor = self.network(input_ids=input_ids, attention_mask=attention_mask).text_embeds
        return vectors[:, None]


class OwnStatistics(nn.Module):
    """Pictures normalised with mean = std = 0.5 to pictures normalised with an encoder's own."""

    mean: Tensor
    std: Tensor

    def __init__(self, *, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, pixel_values: Tensor) -> Tensor:
        return (pixel_values * STD + MEAN - self.mean) / self.std


class PaperImageEncoder(StoredStatistics):
    """timm's ResNet-50, VGG-19 or ViT-B/16.

    Inputs   pixel_values: (B, 3, H, W) float32, normalised with mean = std = 0.5
    Returns  image states: (B, M, width), M = grid cells or patches in row-major order, without class token
    """

    def __init__(self, *, network: Any) -> None:
        super().__init__()
        self.network: Any = network
        self.width = int(network.feature_info[-1]["num_chs"])
        self.statistics = OwnStatistics(mean=network.pretrained_cfg["mean"], std=network.pretrained_cfg["std"])

    def forward(self, pixel_values: Tensor) -> Tensor:
        states: Tensor = self.network.forward_features(self.statistics(pixel_values))
        if states.ndim == 4:
            return rearrange(states, "b d h w -> b (h w) d")
        return states[:, self.network.num_prefix_tokens :]


class CLIPImageEncoder(nn.Module):
    """CLIP's vector of a picture, in the space it shares with texts.

    Inputs   pixel_values: (B, 3, H, W) float32, normalised with mean = std = 0.5
    Returns  (B, 1, width)
    """

    def __init__(self, *, network: CLIPVisionModelWithProjection) -> None:
        super().__init__()
        config: Any = network.config
        self.network: Any = network
        self.width: int = config.projection_dim
        self.statistics = OwnStatistics(mean=OPENAI_CLIP_MEAN, std=OPENAI_CLIP_STD)

    def forward(self, pixel_values: Tensor) -> Tensor:
        vectors: Tensor = self.network(pixel_values=self.statistics(pixel_values)).image_embeds
        return vectors[:, None]


def frozen_encoders(text_name: str, image_name: str, folder: Path | None) -> FrozenEncoders:
    """Any text encoder with any image encoder, paper's or small, on the GPU where there is one.

    folder: of weights, see `weights.py`
    Raises   MissingWeights naming all that are; BadConfig for files that cannot be read
    """
    found = _found((text_name, image_name), folder)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer, text = (
        (small_tokenizer(), small_text_encoder()) if text_name == SMALL[0] else paper_text_encoder(found[text_name])
    )
    image = small_image_encoder() if image_name == SMALL[1] else paper_image_encoder(found[image_name])
    return FrozenEncoders(
        " and ".join(f"{name} {found[name].identity}" if name in found else name for name in (text_name, image_name)),
        lambda words: tokenizer.encode(words).ids,
        text.eval().to(device).layers,
        image.eval().to(device),
        one_vector=text_name == CLIP,
        device=device,
    )


def _found(names: Sequence[str], folder: Path | None) -> dict[str, Weights]:
    found, problems = {}, []
    for name in dict.fromkeys(names):
        if name not in SMALL:
            try:
                found[name] = find_weights(name, folder)
            except MissingWeights as error:
                problems.append(str(error))
    if problems:
        raise MissingWeights("; ".join(problems))
    return found


def paper_text_encoder(weights: Weights, *, frozen_layers: int = 0) -> tuple[Tokenizer, TextEncoder | CLIPTextEncoder]:
    """frozen_layers: as in `TextEncoder`; CLIP has no such choice. Raises BadConfig."""
    encoder: TextEncoder | CLIPTextEncoder
    if weights.name == CLIP:
        encoder = CLIPTextEncoder(network=_loaded(weights, CLIPTextModelWithProjection.from_pretrained))
        vocabulary = encoder.network.config.vocab_size
    else:
        load = partial(TEXT_NETWORKS[weights.name].from_pretrained, add_pooling_layer=False)
        encoder = TextEncoder(network=_loaded(weights, load), frozen_layers=frozen_layers)
        vocabulary = encoder.bert.config.vocab_size
    return _tokenizer(weights, vocabulary, min(MAX_TOKENS, encoder.max_tokens)), encoder


def paper_image_encoder(weights: Weights) -> PaperImageEncoder | CLIPImageEncoder:
    """Raises BadConfig."""
    if weights.name == CLIP:
        return CLIPImageEncoder(network=_loaded(weights, CLIPVisionModelWithProjection.from_pretrained))
    with _told(weights):
        # With its classifier, because without it timm would no longer mind what else the file lacks.
        network: Any = timm.create_model(f"local-dir:{weights.folder}", pretrained=True)
    network.reset_classifier(0)
    if weights.name == "vgg19":
        network.pre_logits = nn.Identity()  # 120 M parameters behind the last map
    return PaperImageEncoder(network=network)


def _loaded(weights: Weights, load: Callable[..., Any]) -> Any:
    """A transformers network; one whose file lacks tensors would else be completed at random, with a warning."""
    with _told(weights), _quiet():
        network, report = load(
            weights.folder,
            dtype=torch.float32,
            local_files_only=True,
            weights_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told below, with a name
        )
    if missing := sorted([*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])]):
        raise BadConfig(
            f"{weights.folder} lacks {len(missing)} tensors of its config.json's sizes, such as {missing[0]}: give the "
            "whole model"
        )
    return network


def _tokenizer(weights: Weights, vocabulary: int, max_tokens: int) -> Tokenizer:
    file = weights.folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        raise BadConfig(f"{file} is no tokenizer: {error}; give the one of {weights.name}") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=max_tokens)
    if (highest := max(tokenizer.get_vocab().values())) >= vocabulary:
        raise BadConfig(f"{file} has word pieces up to {highest}, the weights {vocabulary}: give both of one model")
    if len(tokenizer.encode("").ids) != 2:
        raise BadConfig(f"{file} puts no start and end around a text: give the one of {weights.name}")
    return tokenizer


@contextmanager
def _told(weights: Weights) -> Iterator[None]:
    """What the libraries say of files they cannot load, in one line."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, SafetensorError, pickle.UnpicklingError) as error:
        problem = " ".join(str(error).split())[:300]
        raise BadConfig(f"{weights.folder} cannot be read as {weights.name}: {problem}; fetch it again") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """No list of the heads that a published file holds beside the encoder."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
