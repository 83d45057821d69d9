"""Losses of the papers, on plain tensors."""

import torch
from torch import Tensor
from torch.nn import functional


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
    rows = functional.normalize(torch.cat(features), dim=-1)
    row_labels = labels.repeat(len(features))
    is_self = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    similarity = (rows @ rows.T / temperature).masked_fill(is_self, torch.finfo(rows.dtype).min)
    log_probabilities = similarity.log_softmax(dim=-1)
    is_positive = (row_labels[:, None] == row_labels[None, :]) & ~is_self
    positives = is_positive.sum(-1)
    per_anchor = -(log_probabilities * is_positive).sum(-1) / positives.clamp(min=1)
    return per_anchor.sum() / (positives > 0).sum().clamp(min=1)
