from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed (torch)")

from torch.nn import functional  # noqa: E402

from training.models.mdse import MDSE, Attention, PrivateFeatures  # noqa: E402

pytestmark = pytest.mark.train
Build = Callable[..., Any]


def test_whole_posts_get_fused_text_and_image_logits(build_tiny_model: Build, build_batch: Build) -> None:
    batch = build_batch(rows=5, tokens=7)
    output = build_tiny_model().eval()(batch.input_ids, batch.attention_mask, batch.pixel_values)
    for logits in (output.fused_logits, output.text_logits, output.caption_logits, output.image_logits):
        assert logits.shape == (5, 3)
    assert output.text_map.shape == (5, 7)
    assert output.image_map.shape == (5, 16)
    assert [tuple(feature.shape) for feature in output.sentiments] == [(5, 24)] * 3


def test_posts_without_a_modality_are_scored_by_the_other(build_tiny_model: Build, build_batch: Build) -> None:
    model, batch = build_tiny_model().eval(), build_batch()
    text_only = model(batch.input_ids, batch.attention_mask)
    image_only = model(pixel_values=batch.pixel_values)
    whole = model(batch.input_ids, batch.attention_mask, batch.pixel_values)
    assert text_only.fused_logits is None and text_only.caption_logits is None and text_only.image_logits is None
    assert torch.equal(text_only.text_logits, whole.text_logits)
    assert image_only.fused_logits is None and image_only.text_logits is None
    assert torch.equal(image_only.image_logits, whole.image_logits)


def test_every_parameter_gets_gradient(build_tiny_model: Build, build_batch: Build) -> None:
    model = build_tiny_model().train()
    (model.loss(build_batch(rows=6)) + model.loss(build_batch(rows=6, image=False))).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_padding_and_batch_mates_change_nothing(build_tiny_model: Build, build_batch: Build) -> None:
    model = build_tiny_model().eval()
    one = build_batch(rows=1, tokens=5, seed=1)
    mates = build_batch(rows=6, tokens=11, seed=2)
    input_ids, attention_mask = mates.input_ids.clone(), mates.attention_mask.clone()
    input_ids[3, :5], input_ids[3, 5:], attention_mask[3, 5:] = one.input_ids[0], 0, 0
    pixel_values = mates.pixel_values.clone()
    pixel_values[3] = one.pixel_values[0]
    with torch.inference_mode():
        alone = model(one.input_ids, one.attention_mask, one.pixel_values)
        together = model(input_ids, attention_mask, pixel_values)
    for field in ("fused_logits", "text_logits", "caption_logits", "image_logits", "image_map"):
        torch.testing.assert_close(getattr(together, field)[3], getattr(alone, field)[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(together.text_map[3, :5], alone.text_map[0], atol=1e-5, rtol=0)
    assert together.text_map[3, 5:].abs().max() == 0


def test_batch_norm_keeps_its_statistics_in_training(build_tiny_model: Build, build_batch: Build) -> None:
    model = build_tiny_model().train()
    before = model.image_encoder.network.norm.running_mean.clone()
    model.loss(build_batch())
    assert torch.equal(model.image_encoder.network.norm.running_mean, before)


def test_overfits_eight_posts(build_tiny_model: Build, build_batch: Build) -> None:
    model, batch = build_tiny_model(dropout=0.0, head_dropout=0.0), build_batch(rows=8)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        model.loss(batch).backward()
        optimizer.step()
    output = model.eval()(batch.input_ids, batch.attention_mask, batch.pixel_values)
    for logits in (output.fused_logits, output.caption_logits, output.image_logits):
        assert torch.equal(logits.argmax(-1), batch.labels)


def test_private_branches_can_be_switched_off(build_tiny_model: Build, build_batch: Build) -> None:
    model, batch = build_tiny_model().eval(), build_batch()
    text_features, _ = model.encode_text(batch.input_ids, batch.attention_mask)
    image_features, _ = model.encode_image(batch.pixel_values)
    full, no_text, no_image = (
        model.fuse(text_features, batch.attention_mask, image_features, **off).logits
        for off in ({}, {"with_text_private": False}, {"with_image_private": False})
    )
    assert not torch.allclose(full, no_text)
    assert not torch.allclose(full, no_image)
    assert not torch.allclose(no_text, no_image)


def test_private_weights_neither_collapse_nor_vanish() -> None:
    torch.manual_seed(0)
    block = PrivateFeatures(width=32, heads=4, dropout=0.0)
    features, shared = torch.randn(3, 20, 32), torch.randn(3, 9, 32)
    _, weights = block(features, torch.ones(3, 20), shared, torch.ones(3, 9))
    assert (weights.amin(-1) == 0).all()
    assert (weights.std(-1) > 0.05).all()
    assert ((weights > 0.05) & (weights < 0.999)).float().mean() > 0.5


def test_attention_equals_torch_reference() -> None:
    torch.manual_seed(0)
    block = Attention(width=16, heads=4, dropout=0.0)
    query, keys = torch.randn(2, 5, 16), torch.randn(2, 7, 16)
    mask = torch.tensor([[1.0] * 7, [1.0] * 4 + [0.0] * 3])
    reference = torch.nn.MultiheadAttention(16, 4, batch_first=True)
    with torch.no_grad():
        reference.in_proj_weight.copy_(torch.cat([block.query.weight, block.key.weight, block.value.weight]))
        reference.in_proj_bias.copy_(torch.cat([block.query.bias, block.key.bias, block.value.bias]))
        reference.out_proj.load_state_dict(block.output.state_dict())
        q, k = block.norm(query), block.norm(keys)
        hidden = q + reference(q, k, k, key_padding_mask=mask == 0, need_weights=False)[0]
        expected = hidden + block.feed_forward(block.feed_forward_norm(hidden))
        torch.testing.assert_close(block(query, keys, mask), expected, atol=1e-5, rtol=1e-5)


def test_text_only_loss_is_the_cross_entropy_of_the_text_head(build_tiny_model: Build, build_batch: Build) -> None:
    model, batch = build_tiny_model().eval(), build_batch(image=False)
    expected = functional.cross_entropy(model(batch.input_ids, batch.attention_mask).text_logits, batch.labels)
    torch.testing.assert_close(model.loss(batch), expected)


def test_width_must_divide_by_heads(build_tiny_model: Build) -> None:
    tiny = build_tiny_model()
    with pytest.raises(ValueError, match="width 24 is not divisible by 5 heads"):
        MDSE(text_encoder=tiny.text_encoder, image_encoder=tiny.image_encoder, width=24, heads=5)
