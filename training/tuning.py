"""Partial unfreezing: the last layers of the text encoder trained with a model of states.

What the layers below make of a text does not move: it stays in the feature cache, and the others go on from there.
"""

import torch
from torch import Tensor, nn

from training.config import SMALL, BadConfig, RunConfig
from training.feature_cache import TEXT_LAYERS
from training.features import Features


class Tuned(nn.Module):
    """A model of states behind the trained layers of a BERT-like encoder; used as that model is (see `features.py`).

    model: reads L ≥ 1 text layers; layers: the K ≥ 1 last ones of the encoder, as loaded.
    Text states arrive as the cache has them, (B, max(L, K + 1), T, D): the one that the first of `layers` reads stands
    K before the last, and the frozen ones behind it are not looked at.
    """

    def __init__(self, model: nn.Module, layers: nn.ModuleList) -> None:
        super().__init__()
        self.model = model
        self.layers = layers
        self._read = int(model.text_layers_needed)  # type: ignore[arg-type]
        self.text_layers_needed = max(self._read, len(layers) + 1)
        self.use_dbcl = bool(getattr(model, "use_dbcl", False))

    def forward(
        self, text_states: Tensor | None, attention_mask: Tensor | None, image_states: Tensor | None
    ) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = self.model(self._trained(text_states, attention_mask), attention_mask, image_states)
        return found

    def loss(self, features: Features) -> Tensor:
        found: Tensor = self.model.loss(self._features(features))  # type: ignore[operator]
        return found

    def second_loss(self, features: Features) -> Tensor | None:
        found: Tensor | None = self.model.second_loss(self._features(features))  # type: ignore[operator]
        return found

    def _features(self, features: Features) -> Features:
        return features._replace(
            text_states=self._trained(features.text_states, features.attention_mask),
            augmented_text_states=self._trained(features.augmented_text_states, features.augmented_attention_mask),
        )

    def _trained(self, cached: Tensor | None, attention_mask: Tensor | None) -> Tensor | None:
        if cached is None or attention_mask is None:
            return None
        below = cached[:, : cached.shape[1] - len(self.layers)]
        states = below[:, -1]
        additive_mask = (attention_mask[:, None, None, :].to(states.dtype) - 1.0) * 1e4
        above = []
        for layer in self.layers:
            states = layer(states, additive_mask)
            states = states[0] if isinstance(states, tuple) else states
            above.append(states)
        return above[-1] if self._read == 1 else torch.stack([*below.unbind(1), *above][-self._read :], 1)


def tuned(model: nn.Module, config: RunConfig) -> nn.Module:
    """The model as its configuration wants it: by itself, or behind `tuned_layers` of its text encoder.

    Raises   BadConfig for encoders and numbers of layers this cannot do
    """
    if config.tuned_layers == 0:
        return model
    if config.text_encoder != SMALL[0]:
        raise BadConfig(f"tuned_layers is {config.tuned_layers}: only {SMALL[0]} is tuned, set it to 0")
    if not 0 < config.tuned_layers < TEXT_LAYERS:
        raise BadConfig(f"tuned_layers is {config.tuned_layers}: it takes 0 to {TEXT_LAYERS - 1}, as the cache keeps")
    from training.encoders import small_text_encoder

    layers = small_text_encoder().bert.encoder.layer[-config.tuned_layers :]
    return Tuned(model, nn.ModuleList(layers))
