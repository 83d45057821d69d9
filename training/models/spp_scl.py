"""SPP-SCL: semi-push-pull supervised contrastive learning; formulas lost in the publication follow its code.

Notation: I_p, T_p (B, 32) image and text features, I_m, T_m what cross-modal fusion (CMF) makes of them.

`fixed` differs from the release in this:
- CMF attends within a post: each 32-vector is read as 8 tokens of 4. The release attends over the posts of the batch,
  so that what it says of a post depends on its neighbours. Tokens, rather than grid cells and words as keys, keep every
  equation and every parameter of the release;
- padding stays out of the BiLSTM and of the mean over time, and so do [CLS] and [SEP] at every length;
- a row's similarity with itself is removed from the contrastive losses, not set to 0.
"""

import math
from typing import Literal, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from training.features import Features
from training.losses import CROSS_ENTROPY, Behaviour, LabelLoss, inter_modal, intra_modal, pairs_are_consistent
from training.models.inputs import check_behaviour, image_input, masked_mean, text_input

SHARED_WIDTH = 32
BRANCH_WIDTH = 128
CMF_TOKENS = 8


class SPPSCLOutput(NamedTuple):
    logits: Tensor  # (B, C)
    features: Tensor  # (B, 64) before the last layer
    image_features: Tensor  # (B, 32) I_p
    text_features: Tensor  # (B, 32) T_p
    layer_weights: Tensor  # (B, L)


class HierarchicalAttention(nn.Module):
    """Weights the last L layers of the text encoder by their [CLS] states (eq. 2).

    Inputs   states: (B, L, T, D)
    Returns  states (B, T, D), layer weights (B, L)
    """

    def __init__(self, *, layers: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(layers, layers, bias=False)
        self.excite = nn.Linear(layers, layers, bias=False)

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        summary = states[:, :, 0].mean(-1)
        weights = torch.sigmoid(self.excite(functional.relu(self.squeeze(summary))))
        return (weights[:, :, None, None] * states).sum(1), weights


class MaskedBiLSTM(nn.Module):
    """A bidirectional LSTM whose backward half starts at each row's last token, as with packed sequences, which do not
    export.

    Inputs   states: (B, T, D); mask: (B, T), ones first
    Returns  (B, T, 2 · hidden); positions whose mask is 0 mean nothing
    """

    def __init__(self, *, width: int, hidden: int) -> None:
        super().__init__()
        self.onward = nn.LSTM(width, hidden, bias=False, batch_first=True)
        self.backward_half = nn.LSTM(width, hidden, bias=False, batch_first=True)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        positions = torch.arange(states.shape[1], device=states.device)[None]
        lengths = mask.sum(1, keepdim=True).to(torch.int64)
        mirrored = torch.where(positions < lengths, lengths - 1 - positions, positions)[..., None]
        backward, _ = self.backward_half(states.gather(1, mirrored.expand(-1, -1, states.shape[2])))
        onward, _ = self.onward(states)
        return torch.cat([onward, backward.gather(1, mirrored.expand(-1, -1, backward.shape[2]))], -1)


class CrossModalFusion(nn.Module):
    """Eq. 3: a modality attends to itself, its queries and keys gated by the other one.

    A_I = softmax((T_p ⊙ Q_I)(T_p ⊙ K_I)ᵀ / √d), I_m = A_I V_I, and the same with the modalities exchanged.

    Inputs   features, gate: (B, 32)
    Returns  (B, 32)
    """

    def __init__(self, *, dropout: float, behaviour: Behaviour) -> None:
        super().__init__()
        self.behaviour: Behaviour = behaviour
        self.query, self.key, self.value = (
            nn.Sequential(nn.Linear(SHARED_WIDTH, SHARED_WIDTH), nn.Dropout(dropout)) for _ in range(3)
        )

    def forward(self, features: Tensor, gate: Tensor) -> Tensor:
        q, k, v = gate * self.query(features), gate * self.key(features), self.value(features)
        if self.behaviour == "paper":
            return (q @ k.T / math.sqrt(SHARED_WIDTH)).softmax(-1) @ v
        q, k, v = (rearrange(vector, "b (n d) -> b n d", n=CMF_TOKENS) for vector in (q, k, v))
        attention = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
        return rearrange(attention @ v, "b n d -> b (n d)")


class SPPSCL(nn.Module):
    """layers: how many last layers of the text encoder are read (1 to 4, the paper's table 6).
    strategy: `two_step` lets a second optimiser step pull the modalities together where they disagree, `one_step` adds
    all losses. use_cmf off concatenates I_p and T_p.

    Raises   ValueError if layers is outside 1..4 or the strategy is unknown
    """

    def __init__(
        self,
        *,
        text_width: int,
        image_width: int,
        classes: int = 3,
        layers: int = 4,
        dropout: float = 0.2,
        label_weight: float = 5.0,
        temperature: float = 0.07,
        threshold: float = 2 / 3,
        strategy: Literal["two_step", "one_step"] = "two_step",
        use_cmf: bool = True,
        use_intra: bool = True,
        use_inter: bool = True,
        label_loss: LabelLoss = CROSS_ENTROPY,
        behaviour: Behaviour = "fixed",
    ) -> None:
        super().__init__()
        check_behaviour(behaviour)
        if not 1 <= layers <= 4:
            raise ValueError(f"layers must be 1..4, got {layers}")
        if strategy not in ("two_step", "one_step"):
            raise ValueError(f"strategy must be 'two_step' or 'one_step', got {strategy!r}")
        self.text_layers_needed = layers
        self.label_weight, self.temperature, self.threshold = label_weight, temperature, threshold
        self.strategy, self.use_intra, self.use_inter = strategy, use_intra, use_inter
        self.label_loss: LabelLoss = label_loss
        self.behaviour: Behaviour = behaviour
        self.layer_attention = HierarchicalAttention(layers=layers)
        self.lstm = MaskedBiLSTM(width=text_width, hidden=BRANCH_WIDTH // 2)
        self.text_projection = _shared_projection(dropout)
        self.image_branch = nn.Linear(image_width, BRANCH_WIDTH)  # a 1 x 1 convolution, cell by cell
        self.image_norm = nn.BatchNorm1d(BRANCH_WIDTH)
        self.image_dropout = nn.Dropout(dropout)
        self.image_projection = _shared_projection(dropout)
        self.image_fusion = CrossModalFusion(dropout=dropout, behaviour=behaviour) if use_cmf else None
        self.text_fusion = CrossModalFusion(dropout=dropout, behaviour=behaviour) if use_cmf else None
        parts = 4 if use_cmf else 2
        self.hidden = nn.Sequential(nn.Linear(parts * SHARED_WIDTH, 64), nn.BatchNorm1d(64), nn.ReLU())
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(64, classes)

    def forward(
        self, text_states: Tensor | None, attention_mask: Tensor | None, image_states: Tensor | None
    ) -> SPPSCLOutput:
        text_states, mask = text_input(text_states, attention_mask, model="SPPSCL")
        if text_states.ndim == 3:
            text_states = text_states[:, None]
        if text_states.shape[1] != self.text_layers_needed:
            raise ValueError(f"SPPSCL reads {self.text_layers_needed} text layers, got {text_states.shape[1]}")
        text, layer_weights = self.layer_attention(text_states)
        text_features = self.text_projection(self._read(text, mask))
        image_features = self.image_projection(self._look(image_input(image_states, model="SPPSCL")))
        parts = [image_features, text_features]
        if self.image_fusion is not None and self.text_fusion is not None:
            image_mixed = self.image_fusion(image_features, text_features)
            text_mixed = self.text_fusion(text_features, image_features)
            parts = [text_mixed, image_mixed, *parts]
        hidden = self.hidden(torch.cat(parts, -1))
        return SPPSCLOutput(self.classifier(self.dropout(hidden)), hidden, image_features, text_features, layer_weights)

    def _read(self, text: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D) to (B, 128). A word is followed by a word or by [SEP]: the next mask is 1 too."""
        if self.behaviour == "paper":
            text = text[:, 1:-1]
            mask = torch.ones_like(text[..., 0])
        else:
            text, mask = text[:, 1:], functional.pad(mask[:, 2:], (0, 1))
        return masked_mean(self.lstm(text, mask), mask)

    def _look(self, image: Tensor) -> Tensor:
        """(B, M, D) to (B, 128)."""
        cells = self.image_norm(self.image_branch(image).transpose(1, 2))
        return self.image_dropout(functional.relu(cells)).mean(-1)

    def loss(self, features: Features) -> Tensor:
        """L1 = lambda L_ce + L_clt + L_cli (eq. 7); in one step L_clm as well."""
        output: SPPSCLOutput = self(features.text_states, features.attention_mask, features.image_states)
        loss = self.label_weight * self.label_loss(output.logits, features.labels)
        if self.use_intra:
            for own in (output.text_features, output.image_features):
                loss = loss + intra_modal(own, features.labels, temperature=self.temperature, behaviour=self.behaviour)
        if self.use_inter and self.strategy == "one_step":
            loss = loss + self._inter_modal(output, features.labels)
        return loss

    def second_loss(self, features: Features) -> Tensor | None:
        """L2 = L_clm after the first step's update, unless the pairs of the batch are consistent already."""
        if not self.use_inter or self.strategy == "one_step":
            return None
        output: SPPSCLOutput = self(features.text_states, features.attention_mask, features.image_states)
        with torch.no_grad():
            consistent = pairs_are_consistent(
                output.image_features, output.text_features, features.labels, threshold=self.threshold
            )
        return None if consistent else self._inter_modal(output, features.labels)

    def _inter_modal(self, output: SPPSCLOutput, labels: Tensor) -> Tensor:
        return inter_modal(output.image_features, output.text_features, labels, temperature=self.temperature)


def _shared_projection(dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(BRANCH_WIDTH, SHARED_WIDTH),
        nn.BatchNorm1d(SHARED_WIDTH),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(SHARED_WIDTH, SHARED_WIDTH),
        nn.BatchNorm1d(SHARED_WIDTH),
        nn.Linear(SHARED_WIDTH, SHARED_WIDTH),
        nn.BatchNorm1d(SHARED_WIDTH),
        nn.ReLU(),
        nn.Dropout(dropout),
    )
