"""What every model of the bench does with its inputs before its own work begins."""

import torch
from torch import Tensor


def check_behaviour(behaviour: str) -> None:
    if behaviour not in ("fixed", "paper"):
        raise ValueError(f"behaviour must be 'fixed' or 'paper', got {behaviour!r}")


def text_input(text_states: Tensor | None, attention_mask: Tensor | None, *, model: str) -> tuple[Tensor, Tensor]:
    """The states and their mask in the states' own type."""
    if text_states is None or attention_mask is None:
        raise ValueError(f"{model} needs text_states and attention_mask; this batch has no text")
    return text_states, attention_mask.to(text_states.dtype)


def image_input(image_states: Tensor | None, *, model: str) -> Tensor:
    if image_states is None:
        raise ValueError(f"{model} needs image_states; this batch has no pictures")
    return image_states


def masked_mean(states: Tensor, mask: Tensor) -> Tensor:
    """(B, N, D) and (B, N) to (B, D), over the positions whose mask is 1."""
    weights = mask.to(states.dtype)[..., None]
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1.0)


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last axis; positions whose mask (broadcast) is 0 get weight 0."""
    return torch.softmax(scores + (mask - 1.0) * 1e4, dim=-1)
