"""MDSE on states of frozen encoders, with the switches of its paper's tables 3, 4 and 5.

The blocks are those of `training/models/mdse.py`, whose docstring says how `fixed` differs from the paper.
`behaviour="paper"` is the release: padding unmasked, eq. 3-5 on raw sums, one private block for both modalities, one
more self-attention before the mean of eq. 2, and a classifier on [f_v; f_z] instead of eq. 8. Its MACL is the release's
on the rows it means; the release's flat index picks others.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.features import Features
from training.losses import CROSS_ENTROPY, Behaviour, LabelLoss, lbcl, macl
from training.models.inputs import check_behaviour, image_input, masked_mean, text_input
from training.models.mdse import Attention, PrivateFeatures, _feed_forward, _projection


class MDSEStatesOutput(NamedTuple):
    logits: Tensor  # (B, C)
    features: Tensor  # (B, D) f of eq. 8; in `paper` (B, 2 D), [f_v; f_z]
    sentiments: tuple[Tensor, ...]  # f_v, f_z, and in `fixed` f, each (B, D)


class RawPrivateFeatures(PrivateFeatures):
    """Equations 3-6 as printed: S̄ = softmax_i(sum_j x_i · f^s_j), weights 1 - S̄."""

    def forward(self, features: Tensor, mask: Tensor, shared: Tensor, shared_mask: Tensor) -> tuple[Tensor, Tensor]:
        weights = 1.0 - (features @ shared.sum(1)[..., None])[..., 0].softmax(-1)
        private = features * weights[..., None]
        return self.attention(private, private, mask).mean(1), weights


class MDSEStates(nn.Module):
    """use_image_private, use_text_private: iPFL and tPFL of table 3, a zero vector when off; use_macl: MACL.
    use_adaptation off leaves the attention of eq. 6 out (table 4); macl_on_fused off leaves f out of MACL (table 5).

    Raises   ValueError if width is not divisible by heads
    """

    text_layers_needed = 1

    def __init__(
        self,
        *,
        text_width: int,
        image_width: int,
        width: int = 384,
        heads: int = 8,
        classes: int = 3,
        dropout: float = 0.1,
        head_dropout: float = 0.2,
        macl_weight: float = 1.0,
        temperature: float = 0.07,
        use_image_private: bool = True,
        use_text_private: bool = True,
        use_macl: bool = True,
        use_adaptation: bool = True,
        macl_on_fused: bool = True,
        label_loss: LabelLoss = CROSS_ENTROPY,
        behaviour: Behaviour = "fixed",
    ) -> None:
        super().__init__()
        check_behaviour(behaviour)
        self.macl_weight, self.temperature = macl_weight, temperature
        self.use_macl, self.macl_on_fused = use_macl, macl_on_fused
        self.label_loss: LabelLoss = label_loss
        self.behaviour: Behaviour = behaviour
        paper = behaviour == "paper"
        self.text_projection = _projection(text_width, width)
        self.image_projection = _projection(image_width, width)
        self.shared_to_text = Attention(width=width, heads=heads, dropout=dropout)
        self.shared_to_image = Attention(width=width, heads=heads, dropout=dropout)
        self.shared_fusion = Attention(width=width, heads=heads, dropout=dropout) if paper else None

        def private() -> PrivateFeatures:
            block = (RawPrivateFeatures if paper else PrivateFeatures)(width=width, heads=heads, dropout=dropout)
            if paper:
                del block.log_temperature
            if not use_adaptation:
                block.attention = _NoAdaptation()  # type: ignore[assignment]
            return block

        self.image_private = private() if use_image_private else None
        shares_block = paper and self.image_private is not None
        self.text_private = (self.image_private if shares_block else private()) if use_text_private else None
        self.text_sentiment = _feed_forward(2 * width, width, width, head_dropout)
        self.image_sentiment = _feed_forward(2 * width, width, width, head_dropout)
        self.fused_sentiment = None if paper else _feed_forward(2 * width, width, width, head_dropout)
        self.classifier = _feed_forward(2 * width if paper else width, width // 2, classes, head_dropout)

    def forward(
        self, text_states: Tensor | None, attention_mask: Tensor | None, image_states: Tensor | None
    ) -> MDSEStatesOutput:
        text_states, text_mask = text_input(text_states, attention_mask, model="MDSEStates")
        z = self.text_projection(text_states)
        v = self.image_projection(image_input(image_states, model="MDSEStates"))
        image_mask = torch.ones_like(v[..., 0])
        if self.behaviour == "paper":
            text_mask = torch.ones_like(text_mask)
        image_shared = self.shared_to_text(z, v, image_mask)  # eq. 1
        text_shared = self.shared_to_image(v, z, text_mask)
        both, mask = torch.cat([image_shared, text_shared], 1), torch.cat([text_mask, image_mask], 1)
        if self.shared_fusion is not None:
            both = self.shared_fusion(both, both, mask)
        shared = masked_mean(both, mask)  # eq. 2
        image_only = text_only = torch.zeros_like(shared)
        if self.image_private is not None:  # eq. 3-6
            image_only, _ = self.image_private(v, image_mask, image_shared, text_mask)
        if self.text_private is not None:
            text_only, _ = self.text_private(z, text_mask, text_shared, image_mask)
        f_v = self.image_sentiment(torch.cat([shared, image_only], -1))  # eq. 7
        f_z = self.text_sentiment(torch.cat([shared, text_only], -1))
        pair = torch.cat([f_v, f_z], -1)
        if self.fused_sentiment is None:
            return MDSEStatesOutput(self.classifier(pair), pair, (f_v, f_z))
        f = self.fused_sentiment(pair)  # eq. 8
        return MDSEStatesOutput(self.classifier(f), f, (f_v, f_z, f))

    def loss(self, features: Features) -> Tensor:
        """L_SC + MACL (eq. 9-11)."""
        output: MDSEStatesOutput = self(features.text_states, features.attention_mask, features.image_states)
        loss = self.label_loss(output.logits, features.labels)
        if not self.use_macl:
            return loss
        rows = list(output.sentiments if self.macl_on_fused else output.sentiments[:2])
        if self.behaviour == "paper":
            labels = features.labels.repeat(len(rows))
            return loss + self.macl_weight * lbcl(
                torch.cat(rows), labels, temperature=self.temperature, behaviour="paper"
            )
        return loss + self.macl_weight * macl(rows, features.labels, temperature=self.temperature)

    def second_loss(self, features: Features) -> None:
        return None


class _NoAdaptation(nn.Module):
    def forward(self, query: Tensor, keys: Tensor, key_mask: Tensor) -> Tensor:
        return query
