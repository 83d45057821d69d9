"""Losses of the papers, on plain tensors.

The contrastive ones differ in what they call a pair and what they divide by. Where a publication or its released code
computes something else than it says, `behaviour="paper"` gives that instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor
from torch.nn import functional

Behaviour = Literal["fixed", "paper"]
"""`paper` does what the publication or its released code does, mistakes included; `fixed` what it should have done."""


@dataclass(frozen=True)
class LabelLoss:
    """Cross-entropy of logits (B, C) and labels (B,), with one weight a class, smoothed labels or focus on hard rows.

    Focal loss (Lin et al., 2017) is mean_i w_y (1 - p_y)^gamma (-log p_y) over the weights' sum, p_y the probability
    of the label; gamma 0 is cross-entropy.

    Raises   ValueError if gamma is negative or used with smoothed labels
    """

    class_weights: tuple[float, ...] = ()
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0

    def __post_init__(self) -> None:
        if self.focal_gamma < 0:
            raise ValueError(f"focal_gamma must be at least 0, got {self.focal_gamma}")
        if self.focal_gamma and self.label_smoothing:
            raise ValueError("focal loss and label smoothing exclude each other; set one of them to 0")

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        weight = logits.new_tensor(self.class_weights) if self.class_weights else None
        if not self.focal_gamma:
            return functional.cross_entropy(logits, labels, weight=weight, label_smoothing=self.label_smoothing)
        log_probability = logits.log_softmax(-1).gather(1, labels[:, None])[:, 0]
        row_weights = weight[labels] if weight is not None else torch.ones_like(log_probability)
        hardness = (1.0 - log_probability.exp()).clamp(min=1e-8) ** self.focal_gamma
        return -(row_weights * hardness * log_probability).sum() / row_weights.sum()


CROSS_ENTROPY: Final = LabelLoss()


def macl(features: list[Tensor], labels: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Modality-agnostic contrastive loss (Li et al., MDSE, eq. 10-11), repaired.

    The paper divides sums of raw cosines, which may be negative, and keeps the self pairs. Here the V·B rows
    (V feature types of B posts) are unit vectors, the temperature stands inside the softmax, a row is not its own
    positive, and each anchor averages over its positives: rows of the same label, whatever their feature type.

    Inputs   features: V tensors (B, D); labels: (B,) int64
    Returns  scalar; 0 when no anchor has a positive
    """
    if not features or any(feature.shape != features[0].shape for feature in features):
        raise ValueError(f"features must share one shape, got {[tuple(feature.shape) for feature in features]}")
    return _supervised_contrastive(torch.cat(features), labels.repeat(len(features)), temperature)


def lbcl(features: Tensor, labels: Tensor, *, temperature: float = 0.07, behaviour: Behaviour = "fixed") -> Tensor:
    """Label-based contrastive loss (Li et al., CLMLF, Alg. 1); `fixed` is `macl` with one feature type.

    `paper` is the released code, MDSE's too: raw dot products, the temperature after the log-softmax, self pairs among
    the positives, and one mean over all positive pairs of the batch, so that a class weighs as its square.

    Inputs   features: (B, D); labels: (B,) int64
    """
    if behaviour == "fixed":
        return _supervised_contrastive(features, labels, temperature)
    log_probabilities = (features @ features.T).log_softmax(-1) / temperature
    return -log_probabilities[labels[:, None] == labels[None, :]].mean()


def dbcl(features: Tensor, augmented: Tensor, *, temperature: float = 0.07, behaviour: Behaviour = "fixed") -> Tensor:
    """Data-based contrastive loss (CLMLF, Alg. 2): each post finds its own augmented view among the batch's.

    `paper` leaves the features at their own length.

    Inputs   features, augmented: (B, D)
    """
    if behaviour == "fixed":
        features, augmented = functional.normalize(features, dim=-1), functional.normalize(augmented, dim=-1)
    own = torch.arange(len(features), device=features.device)
    return functional.cross_entropy(features @ augmented.T / temperature, own)


def intra_modal(
    features: Tensor, labels: Tensor, *, temperature: float = 0.07, behaviour: Behaviour = "fixed"
) -> Tensor:
    """L_cli and L_clt of SPP-SCL (eq. 4, 5): supervised contrast within one modality, averaged over all B anchors.

    `paper` sets a row's similarity with itself to 0 instead of removing it: its denominator has one exp(0) more.

    Inputs   features: (B, D); labels: (B,) int64
    """
    rows = functional.normalize(features, dim=-1)
    is_self = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    own = 0.0 if behaviour == "paper" else torch.finfo(rows.dtype).min
    log_probabilities = (rows @ rows.T / temperature).masked_fill(is_self, own).log_softmax(-1)
    is_positive = (labels[:, None] == labels[None, :]) & ~is_self
    return -((log_probabilities * is_positive).sum(-1) / is_positive.sum(-1).clamp(min=1)).mean()


def inter_modal(image: Tensor, text: Tensor, labels: Tensor, *, temperature: float = 0.07) -> Tensor:
    """L_clm of SPP-SCL (eq. 6): every picture against the texts of its label, its own among them.

    Inputs   image, text: (B, D); labels: (B,) int64
    """
    similarity = functional.normalize(image, dim=-1) @ functional.normalize(text, dim=-1).T / temperature
    is_positive = labels[:, None] == labels[None, :]
    return -((similarity.log_softmax(-1) * is_positive).sum(-1) / is_positive.sum(-1)).mean()


def pairs_are_consistent(image: Tensor, text: Tensor, labels: Tensor, *, threshold: float = 2 / 3) -> bool:
    """SPP-SCL's condition: True when the second step is not needed.

    R = sigmoid(T Iᵀ). Of the B² cells c lie below the mean of the diagonal, and n pairs of posts share their label;
    consistent means c >= floor(threshold · n).
    """
    relation = torch.sigmoid(text @ image.T)
    below = int((relation < relation.diagonal().mean()).sum())
    same_label = int((labels[:, None] == labels[None, :]).sum())
    return below >= int(threshold * same_label + 1e-9)


def reconstruction(
    inputs: Sequence[Tensor], outputs: Sequence[Tensor], weights: Sequence[float], *, behaviour: Behaviour = "fixed"
) -> Tensor:
    """Sum over modalities of lambda_i MSE_i (AAU report, eq. 3-5), averaged over the batch.

    `paper` takes the squared norm as printed; `fixed` its mean over the features, or a wide modality would drown the
    others and the labels.

    Inputs   inputs, outputs: one (B, D_i) a modality
    """
    total = outputs[0].new_zeros(())
    for target, output, weight in zip(inputs, outputs, weights, strict=True):
        squares = (target - output) ** 2
        total = total + weight * (squares.mean() if behaviour == "fixed" else squares.sum(-1).mean())
    return total


def _supervised_contrastive(features: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Mean over the anchors that have a positive of -mean over positives of log softmax(cosine / temperature)."""
    rows = functional.normalize(features, dim=-1)
    is_self = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    similarity = (rows @ rows.T / temperature).masked_fill(is_self, torch.finfo(rows.dtype).min)
    log_probabilities = similarity.log_softmax(dim=-1)
    is_positive = (labels[:, None] == labels[None, :]) & ~is_self
    positives = is_positive.sum(-1)
    per_anchor = -(log_probabilities * is_positive).sum(-1) / positives.clamp(min=1)
    return per_anchor.sum() / (positives > 0).sum().clamp(min=1)
