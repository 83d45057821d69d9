"""What the papers compare with: one modality alone, both concatenated, CLIP's vectors, VisualBERT."""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertModel

from training.features import Features
from training.losses import CROSS_ENTROPY, LabelLoss
from training.models.inputs import image_input, masked_mean, text_input


class Output(NamedTuple):
    logits: Tensor  # (B, C)
    features: Tensor  # (B, D)


class Baseline(nn.Module):
    """Trained on the labels alone; a subclass says how it makes (B, D) features of the states and scores them."""

    text_layers_needed = 1

    def __init__(self, *, label_loss: LabelLoss) -> None:
        super().__init__()
        self.label_loss: LabelLoss = label_loss

    def loss(self, features: Features) -> Tensor:
        output: Output = self(features.text_states, features.attention_mask, features.image_states)
        return self.label_loss(output.logits, features.labels)

    def second_loss(self, features: Features) -> None:
        return None


class Pooled(Baseline):
    """An MLP on mean states: Uni-Text (`text`), Uni-Image (`image`) or their concatenation (`both`).

    hidden 0 makes it linear: with `image` that is the report's ResNet, except that the encoder below stays frozen,
    where the report fine-tunes all of it.
    """

    def __init__(
        self,
        *,
        text_width: int,
        image_width: int,
        modality: Literal["text", "image", "both"],
        hidden: int = 256,
        classes: int = 3,
        dropout: float = 0.1,
        label_loss: LabelLoss = CROSS_ENTROPY,
    ) -> None:
        super().__init__(label_loss=label_loss)
        widths = {"text": text_width, "image": image_width, "both": text_width + image_width}
        if modality not in widths:
            raise ValueError(f"modality must be 'text', 'image' or 'both', got {modality!r}")
        self.modality = modality
        width = widths[modality]
        self.hidden = nn.Sequential(nn.Linear(width, hidden), nn.GELU()) if hidden else nn.Identity()
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden or width, classes))

    def forward(self, text_states: Tensor | None, attention_mask: Tensor | None, image_states: Tensor | None) -> Output:
        vectors = []
        if self.modality != "image":
            vectors.append(masked_mean(*text_input(text_states, attention_mask, model="Pooled")))
        if self.modality != "text":
            vectors.append(image_input(image_states, model="Pooled").mean(1))
        features = self.hidden(torch.cat(vectors, -1))
        return Output(self.classifier(features), features)


class CLIPHead(Baseline):
    """Logistic regression on CLIP's unit vectors and their product. States of both encoders are CLIP's projected
    vectors, one token each, and so of one width."""

    def __init__(
        self, *, width: int, classes: int = 3, dropout: float = 0.1, label_loss: LabelLoss = CROSS_ENTROPY
    ) -> None:
        super().__init__(label_loss=label_loss)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(3 * width, classes))

    def forward(self, text_states: Tensor | None, attention_mask: Tensor | None, image_states: Tensor | None) -> Output:
        text = functional.normalize(masked_mean(*text_input(text_states, attention_mask, model="CLIPHead")), dim=-1)
        image = functional.normalize(image_input(image_states, model="CLIPHead").mean(1), dim=-1)
        features = torch.cat([text, image, text * image], -1)
        return Output(self.classifier(features), features)


class VisualBERT(Baseline):
    """Text and visual tokens through one BERT, each with its segment embedding (Li et al., 2019).

    It takes the text encoder's states where the original takes word embeddings, so that both modalities arrive frozen;
    `layers` are random. The report has one visual token, the mean of the picture; here it has its grid cells.
    """

    def __init__(
        self,
        *,
        text_width: int,
        image_width: int,
        width: int = 384,
        heads: int = 12,
        layers: int = 2,
        classes: int = 3,
        dropout: float = 0.1,
        label_loss: LabelLoss = CROSS_ENTROPY,
    ) -> None:
        super().__init__(label_loss=label_loss)
        if width % heads:
            raise ValueError(f"width {width} is not divisible by {heads} heads")
        config = BertConfig(
            vocab_size=1,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * width,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=0.0,
        )
        config._attn_implementation = "eager"  # the fused attention exports as guards against empty rows
        self.layers: Any = BertModel(config, add_pooling_layer=False).encoder
        self.text_projection = nn.Linear(text_width, width)
        self.image_projection = nn.Linear(image_width, width)
        self.segments = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, classes))

    def forward(self, text_states: Tensor | None, attention_mask: Tensor | None, image_states: Tensor | None) -> Output:
        text_states, text_mask = text_input(text_states, attention_mask, model="VisualBERT")
        text = self.text_projection(text_states) + self.segments.weight[0]
        image = self.image_projection(image_input(image_states, model="VisualBERT")) + self.segments.weight[1]
        mask = torch.cat([text_mask, torch.ones_like(image[..., 0])], 1)
        states = self.norm(torch.cat([text, image], 1))
        for layer in self.layers.layer:
            states = layer(states, (mask[:, None, None, :] - 1.0) * 1e4)
            states = states[0] if isinstance(states, tuple) else states
        return Output(self.classifier(states[:, 0]), states[:, 0])
