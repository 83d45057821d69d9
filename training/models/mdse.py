"""MDSE: modality-dependent sentiment exploring (Li et al., "Modality-Dependent Sentiments Exploring for Multi-Modal
Sentiment Classification"), corrected.

Notation: z (B, T, D) text features, v (B, M, D) image features, f_v, f_z, f the image, text and fused sentiment.

Differs from the paper, because as printed or released it does not work:
- padding is masked in every attention, mean and softmax (the release attends to 85 % padding);
- eq. 3 uses cosines and averages them over j, and eq. 4 is divided by its maximum; raw sums make the softmax
  one-hot, plain cosines make it flat, and either way eq. 5 hides nothing;
- text and image have a private block each, and eq. 8 feeds the classifier (the release shares one and skips it);
- a text head and an image head, on mean features, score posts that lack the other modality. The text beside a picture
  has a head of its own, the caption head: its labels were given to the whole post, and it is written otherwise
  (one head for both cost the tweets 2 points of macro recall).
"""

import math
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from training.batches import Batch
from training.distillation import KINDS, blended
from training.losses import macl


class MDSEOutput(NamedTuple):
    """Logits (B, C); a missing modality leaves its fields and those of whole posts None. `caption_logits` are what the
    text says beside a picture, `text_logits` what it would say without one."""

    text_logits: Tensor | None = None
    image_logits: Tensor | None = None
    fused_logits: Tensor | None = None
    caption_logits: Tensor | None = None
    sentiments: tuple[Tensor, Tensor, Tensor] | None = None  # f_v, f_z, f, each (B, D), for MACL
    text_map: Tensor | None = None  # (B, T) weight of each token's private features, 0 at padding
    image_map: Tensor | None = None  # (B, M) the same per grid cell
    fused_text_logits: Tensor | None = None  # of the fused classifier, a learned token in place of the picture
    fused_image_logits: Tensor | None = None  # … in place of the text; both None if modality_dropout is 0


class Fusion(NamedTuple):
    logits: Tensor
    caption_logits: Tensor
    text_map: Tensor
    image_map: Tensor
    sentiments: tuple[Tensor, Tensor, Tensor]


class Attention(nn.Module):
    """FF(attention(query, keys, keys)) of eq. 1 and 6: shared layer norm, residual on the normalised query, then a
    two-layer feed-forward with its own norm and residual.

    Inputs   query: (B, Q, D); keys: (B, K, D); key_mask: (B, K), 0 at padding
    Returns  (B, Q, D)
    """

    def __init__(self, *, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not divisible by {heads} heads")
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width), nn.Dropout(dropout)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, query: Tensor, keys: Tensor, key_mask: Tensor) -> Tensor:
        query, keys = self.norm(query), self.norm(keys)
        q, k, v = (
            rearrange(projection, "b n (h d) -> b h n d", h=self.heads)
            for projection in (self.query(query), self.key(keys), self.value(keys))
        )
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        scores = scores + (key_mask[:, None, None, :] - 1.0) * 1e4
        attended = rearrange(scores.softmax(-1) @ v, "b h n d -> b n (h d)")
        hidden = query + self.dropout(self.output(attended))
        states: Tensor = hidden + self.feed_forward(self.feed_forward_norm(hidden))
        return states


class PrivateFeatures(nn.Module):
    """What one modality says that the other does not (eq. 3-6).

    s_i = mean_j cos(x_i, f^s_j);  w_i = 1 - exp((s_i - max s) / t);  f^p = mean_i SA(w_i x_i)
    The token nearest to the shared features gets w = 0, the others approach 1 as they leave them; t is learnt.

    Inputs   features: (B, N, D); mask: (B, N); shared: (B, K, D); shared_mask: (B, K)
    Returns  private features (B, D), weights w (B, N), 0 at padding
    """

    def __init__(self, *, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width=width, heads=heads, dropout=dropout)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(0.1)))

    def forward(self, features: Tensor, mask: Tensor, shared: Tensor, shared_mask: Tensor) -> tuple[Tensor, Tensor]:
        direction = masked_mean(functional.normalize(shared, dim=-1), shared_mask)
        similarity = (functional.normalize(features, dim=-1) * direction[:, None]).sum(-1)
        similarity = similarity * mask + (mask - 1.0) * 1e4
        nearest = similarity.amax(-1, keepdim=True)
        temperature = self.log_temperature.exp().clamp(min=0.01)
        weights = (1.0 - ((similarity - nearest) / temperature).exp()) * mask
        private = features * weights[..., None]
        return masked_mean(self.attention(private, private, mask), mask), weights


class MDSE(nn.Module):
    """Text, image and fused sentiment of a post.

    modality_dropout: the chance that a whole post loses its picture, and again that it loses its text, for the fused
    classifier, which sees a learned token there (Neverova et al., "ModDrop", TPAMI 2016). No chance is drawn: each post
    counts once whole and once without either, by these shares, which is what drawing would come to on average. The
    fused classifier then learns from posts that come without a modality, too; alone_weight is what these count for it.

    Inputs   text_encoder: (input_ids, attention_mask) -> (B, T, text_encoder.width)
             image_encoder: pixel_values -> (B, M, image_encoder.width)
    Raises   ValueError if width is not divisible by heads, or modality_dropout does not lie in 0..0.5
    """

    def __init__(
        self,
        *,
        text_encoder: Any,
        image_encoder: Any,
        width: int = 384,
        heads: int = 8,
        classes: int = 3,
        dropout: float = 0.1,
        head_dropout: float = 0.2,
        text_loss_weight: float = 0.5,
        image_loss_weight: float = 0.5,
        macl_weight: float = 0.1,
        label_smoothing: float = 0.0,
        trust: float = 0.7,
        modality_dropout: float = 0.0,
        alone_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if not 0 <= modality_dropout <= 0.5:
            raise ValueError(f"modality_dropout must lie in 0..0.5, got {modality_dropout}")
        self.text_loss_weight, self.image_loss_weight = text_loss_weight, image_loss_weight
        self.macl_weight, self.label_smoothing, self.trust = macl_weight, label_smoothing, trust
        self.text_encoder: Any = text_encoder
        self.image_encoder: Any = image_encoder
        self.text_projection = _projection(text_encoder.width, width)
        self.image_projection = _projection(image_encoder.width, width)
        self.text_head = _feed_forward(width, width, classes, head_dropout)
        self.caption_head = _feed_forward(width, width, classes, head_dropout)
        self.image_head = _feed_forward(width, width, classes, head_dropout)
        self.shared_to_text = Attention(width=width, heads=heads, dropout=dropout)
        self.shared_to_image = Attention(width=width, heads=heads, dropout=dropout)
        self.text_private = PrivateFeatures(width=width, heads=heads, dropout=dropout)
        self.image_private = PrivateFeatures(width=width, heads=heads, dropout=dropout)
        self.text_sentiment = _feed_forward(2 * width, width, width, head_dropout)
        self.image_sentiment = _feed_forward(2 * width, width, width, head_dropout)
        self.fused_sentiment = _feed_forward(2 * width, width, width, head_dropout)
        self.classifier = _feed_forward(width, width // 2, classes, head_dropout)
        self.modality_dropout, self.alone_weight = modality_dropout, alone_weight
        self.absent_text = nn.Parameter(0.02 * torch.randn(width)) if modality_dropout else None
        self.absent_image = nn.Parameter(0.02 * torch.randn(width)) if modality_dropout else None

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Returns text_features (B, T, D), text_logits (B, C)."""
        features = self.text_projection(self.text_encoder(input_ids, attention_mask))
        return features, self.text_head(masked_mean(features, attention_mask))

    def encode_image(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Returns image_features (B, M, D), image_logits (B, C)."""
        return self._describe_image(self.image_encoder(pixel_values))

    def _describe_image(self, states: Tensor) -> tuple[Tensor, Tensor]:
        features = self.image_projection(states)
        return features, self.image_head(features.mean(1))

    def fuse(
        self,
        text_features: Tensor,
        attention_mask: Tensor,
        image_features: Tensor,
        *,
        with_text_private: bool = True,
        with_image_private: bool = True,
    ) -> Fusion:
        """Equations 1-9. A private branch switched off contributes a zero vector, as in the paper's ablation."""
        z, v = text_features, image_features
        text_mask = attention_mask.to(z.dtype)
        image_mask = torch.ones_like(v[..., 0])
        # Eq. 1: f_v^s has the text's length (text asks the image), f_z^s the image's.
        image_shared = self.shared_to_text(z, v, image_mask)
        text_shared = self.shared_to_image(v, z, text_mask)
        shared = masked_mean(torch.cat([image_shared, text_shared], 1), torch.cat([text_mask, image_mask], 1))  # eq. 2
        image_private, image_map = self.image_private(v, image_mask, image_shared, text_mask)
        text_private, text_map = self.text_private(z, text_mask, text_shared, image_mask)
        if not with_image_private:
            image_private = torch.zeros_like(image_private)
        if not with_text_private:
            text_private = torch.zeros_like(text_private)
        f_v = self.image_sentiment(torch.cat([shared, image_private], -1))  # eq. 7
        f_z = self.text_sentiment(torch.cat([shared, text_private], -1))
        f = self.fused_sentiment(torch.cat([f_v, f_z], -1))  # eq. 8
        caption_logits = self.caption_head(masked_mean(z, text_mask))
        return Fusion(self.classifier(f), caption_logits, text_map, image_map, (f_v, f_z, f))  # eq. 9

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        early_image: Tensor | None = None,
    ) -> MDSEOutput:
        """`early_image`, what the encoder's frozen stages made of the pictures, may stand for `pixel_values`."""
        text_features = text_logits = image_features = image_logits = None
        if input_ids is not None and attention_mask is not None:
            text_features, text_logits = self.encode_text(input_ids, attention_mask)
        if pixel_values is not None:
            image_features, image_logits = self.encode_image(pixel_values)
        elif early_image is not None:
            image_features, image_logits = self._describe_image(self.image_encoder.late(early_image))
        output = MDSEOutput(
            text_logits=text_logits,
            image_logits=image_logits,
            fused_text_logits=self._fused_text(text_features, attention_mask),
            fused_image_logits=self._fused_image(image_features),
        )
        if text_features is None or image_features is None or attention_mask is None:
            return output
        fusion = self.fuse(text_features, attention_mask, image_features)
        return output._replace(
            fused_logits=fusion.logits,
            caption_logits=fusion.caption_logits,
            sentiments=fusion.sentiments,
            text_map=fusion.text_map,
            image_map=fusion.image_map,
        )

    def _fused_text(self, text_features: Tensor | None, attention_mask: Tensor | None) -> Tensor | None:
        if text_features is None or attention_mask is None or self.absent_image is None:
            return None
        return self.fuse(text_features, attention_mask, self.absent_image.expand(len(text_features), 1, -1)).logits

    def _fused_image(self, image_features: Tensor | None) -> Tensor | None:
        if image_features is None or self.absent_text is None:
            return None
        absent = self.absent_text.expand(len(image_features), 1, -1)
        return self.fuse(absent, torch.ones_like(absent[..., 0]), image_features).logits

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy of what the batch allows; for whole posts L_SC + MACL (eq. 9-11) + caption and image heads.

        Where a teacher has an opinion of a kind of answer, it counts for `trust` of the label.
        """
        output = self(batch.input_ids, batch.attention_mask, batch.pixel_values, batch.early_image)
        is_whole = output.fused_logits is not None
        dropped = self.modality_dropout
        terms = (
            (output.fused_logits, "both", 1 - 2 * dropped),
            (output.fused_text_logits, "both" if is_whole else "text", dropped if is_whole else self.alone_weight),
            (output.fused_image_logits, "both" if is_whole else "image", dropped if is_whole else self.alone_weight),
            (output.caption_logits, "caption", self.text_loss_weight),
            (output.text_logits, "text", 0.0 if is_whole else 1.0),
            (output.image_logits, "image", self.image_loss_weight if is_whole else 1.0),
        )
        loss = torch.zeros((), device=batch.labels.device)
        for logits, kind, weight in terms:
            if logits is not None and weight:
                loss = loss + weight * self._cross_entropy(logits, batch, kind)
        if output.sentiments is not None:
            loss = loss + self.macl_weight * macl(list(output.sentiments), batch.labels)
        return loss if batch.weights is None else loss * batch.weights.mean()

    def _cross_entropy(self, logits: Tensor, batch: Batch, kind: str) -> Tensor:
        taught = None if batch.taught is None else batch.taught[:, KINDS.index(kind)]
        targets = blended(batch.labels, taught, trust=self.trust, classes=logits.shape[1])
        return functional.cross_entropy(logits.float(), targets, label_smoothing=self.label_smoothing)


def masked_mean(features: Tensor, mask: Tensor) -> Tensor:
    """(B, N, D) and (B, N) to (B, D), over the positions whose mask is 1."""
    weights = mask.to(features.dtype)[..., None]
    return (features * weights).sum(1) / weights.sum(1).clamp(min=1.0)


def _projection(width_in: int, width: int) -> nn.Module:
    return nn.Identity() if width_in == width else nn.Linear(width_in, width)


def _feed_forward(width_in: int, hidden: int, width_out: int, dropout: float) -> nn.Module:
    return nn.Sequential(nn.Dropout(dropout), nn.Linear(width_in, hidden), nn.GELU(), nn.Linear(hidden, width_out))
