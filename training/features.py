"""What frozen encoders made of a batch of posts: the input of every model of the bench.

A model is called as `model(text_states, attention_mask, image_states)` and returns a NamedTuple with at least
`logits` (B, C) and `features` (B, D). It brings `loss(features) -> Tensor`, `second_loss(features) -> Tensor | None`
(a second optimiser step on the same batch; None: there is none) and `text_layers_needed`, the number of last layers
of the text encoder it reads.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Features(NamedTuple):
    """A modality no post of the batch has is None, and so is an augmented view nobody made.

    text_states is (B, T, D), or (B, L, T, D), earliest layer first, for models that need L > 1 layers. image_states is
    (B, M, D), grid cells in row-major order.
    """

    text_states: Tensor | None
    attention_mask: Tensor | None  # (B, T) int64, 0 at padding
    image_states: Tensor | None
    labels: Tensor  # (B,) int64
    augmented_text_states: Tensor | None = None
    augmented_attention_mask: Tensor | None = None
    augmented_image_states: Tensor | None = None

    def split(self, parts: int) -> list["Features"]:
        """Up to `parts` batches of nearly the same number of rows."""
        sizes = [len(rows) for rows in torch.arange(len(self.labels)).tensor_split(parts) if len(rows)]
        fields = [torch.split(field, sizes) if field is not None else [None] * len(sizes) for field in self]
        return [Features(*rows) for rows in zip(*fields, strict=True)]

    def to(self, device: torch.device) -> "Features":
        return Features(*(None if field is None else field.to(device) for field in self))
