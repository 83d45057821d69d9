"""CLMLF: contrastive learning and multi-layer fusion (Li et al., Findings of NAACL 2022).

Differs from the paper where its released code does: a projection with GELU in front of each modality, the mean grid
cell as an image token of its own, no eq. 9 and no GELU on the logits. `behaviour="paper"` adds what the code gets
wrong: the feature map is read without a permutation, which scrambles its cells, and the contrastive losses are those
of the release. The aspect variant is the same model on the text "sentence [SEP] aspect".
"""

import math
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from training.features import Features
from training.losses import CROSS_ENTROPY, Behaviour, LabelLoss, dbcl, lbcl
from training.models.inputs import check_behaviour, image_input, masked_softmax, text_input


class CLMLFOutput(NamedTuple):
    logits: Tensor  # (B, C)
    features: Tensor  # (B, D) pooled over all tokens
    token_weights: Tensor  # (B, T + 1 + M) weight of each token in the pooling, 0 at padding
    attention_map: Tensor  # (B, heads, T + 1 + M, T + 1 + M) of the last fusion layer


class EncoderLayer(nn.Module):
    """BERT's layer: attention and feed-forward, each with dropout, residual and then layer norm.

    Inputs   states: (B, N, D); mask: (B, N), 0 at padding
    Returns  states (B, N, D), attention (B, heads, N, N)
    """

    def __init__(self, *, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not divisible by {heads} heads")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.feed_forward_norm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        q, k, v = (
            rearrange(projection(states), "b n (h d) -> b h n d", h=self.heads)
            for projection in (self.query, self.key, self.value)
        )
        attention = masked_softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), mask[:, None, None])
        attended = rearrange(self.dropout(attention) @ v, "b h n d -> b n (h d)")
        states = self.norm(states + self.dropout(self.output(attended)))
        return self.feed_forward_norm(states + self.dropout(self.feed_forward(states))), attention


class CLMLF(nn.Module):
    """Both modalities' tokens through `fusion_layers` common layers, the image's through `image_layers` of its own
    before that.

    use_lbcl, use_dbcl: the rows of the paper's ablation; DBCL needs batches with augmented views
    Raises   ValueError if width is not divisible by heads or there is no fusion layer
    """

    text_layers_needed = 1

    def __init__(
        self,
        *,
        text_width: int,
        image_width: int,
        width: int = 384,
        heads: int = 12,
        classes: int = 3,
        fusion_layers: int = 3,
        image_layers: int = 2,
        dropout: float = 0.1,
        use_lbcl: bool = True,
        use_dbcl: bool = True,
        lbcl_weight: float = 1.0,
        dbcl_weight: float = 1.0,
        temperature: float = 0.07,
        label_loss: LabelLoss = CROSS_ENTROPY,
        behaviour: Behaviour = "fixed",
    ) -> None:
        super().__init__()
        check_behaviour(behaviour)
        if fusion_layers < 1:
            raise ValueError(f"fusion_layers must be at least 1, got {fusion_layers}")
        self.use_lbcl, self.use_dbcl = use_lbcl, use_dbcl
        self.lbcl_weight, self.dbcl_weight, self.temperature = lbcl_weight, dbcl_weight, temperature
        self.label_loss: LabelLoss = label_loss
        self.behaviour: Behaviour = behaviour
        self.text_change = nn.Sequential(nn.Linear(text_width, width), nn.GELU())
        self.image_change = nn.Sequential(nn.Linear(image_width, width), nn.GELU())
        self.image_mean_change = nn.Sequential(nn.Linear(image_width, width), nn.GELU())
        self.image_layers = nn.ModuleList(
            EncoderLayer(width=width, heads=heads, dropout=dropout) for _ in range(image_layers)
        )
        self.fusion_layers = nn.ModuleList(
            EncoderLayer(width=width, heads=heads, dropout=dropout) for _ in range(fusion_layers)
        )
        self.pooling = nn.Sequential(nn.Linear(width, width // 2), nn.GELU(), nn.Linear(width // 2, 1))
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(width, width // 2), nn.GELU(), nn.Linear(width // 2, classes)
        )
        # Only training needs these, so a model without the losses does not carry them.
        contrastive = use_lbcl or use_dbcl
        self.projector = _projector(width) if contrastive else None
        self.augmented_projector = _projector(width) if use_dbcl else None

    def forward(
        self, text_states: Tensor | None, attention_mask: Tensor | None, image_states: Tensor | None
    ) -> CLMLFOutput:
        text_states, text_mask = text_input(text_states, attention_mask, model="CLMLF")
        image_states = image_input(image_states, model="CLMLF")
        mean = image_states.mean(1, keepdim=True)
        if self.behaviour == "paper":  # (B, D, M) read as if it were (B, M, D)
            image_states = image_states.transpose(1, 2).reshape(image_states.shape)
        image = torch.cat([self.image_mean_change(mean), self.image_change(image_states)], 1)
        image_mask = torch.ones_like(image[..., 0])
        for layer in self.image_layers:
            image, _ = layer(image, image_mask)
        states = torch.cat([self.text_change(text_states), image], 1)
        mask = torch.cat([text_mask, image_mask], 1)
        attention = states
        for layer in self.fusion_layers:
            states, attention = layer(states, mask)
        weights = masked_softmax(self.pooling(states)[..., 0], mask)  # eq. 6, 7
        pooled = (weights[..., None] * states).sum(1)  # eq. 8
        return CLMLFOutput(self.classifier(pooled), pooled, weights, attention)

    def loss(self, features: Features) -> Tensor:
        """L_sc + lambda_l L_lbcl + lambda_d L_dbcl (eq. 11)."""
        output = self(features.text_states, features.attention_mask, features.image_states)
        loss = self.label_loss(output.logits, features.labels)
        if self.projector is None:
            return loss
        projected = self.projector(output.features)
        if self.use_lbcl:
            loss = loss + self.lbcl_weight * lbcl(
                projected, features.labels, temperature=self.temperature, behaviour=self.behaviour
            )
        if self.augmented_projector is not None:
            if features.augmented_text_states is None or features.augmented_image_states is None:
                raise ValueError("CLMLF's DBCL needs augmented views; make them or switch use_dbcl off")
            augmented = self(
                features.augmented_text_states, features.augmented_attention_mask, features.augmented_image_states
            )
            loss = loss + self.dbcl_weight * dbcl(
                projected,
                self.augmented_projector(augmented.features),
                temperature=self.temperature,
                behaviour=self.behaviour,
            )
        return loss

    def second_loss(self, features: Features) -> None:
        return None


def _projector(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
