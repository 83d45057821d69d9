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


@pytest.mark.parametrize("modality_dropout", [0.0, 0.2])
def test_every_parameter_gets_gradient(modality_dropout: float, build_tiny_model: Build, build_batch: Build) -> None:
    model = build_tiny_model(modality_dropout=modality_dropout).train()
    (model.loss(build_batch(rows=6)) + model.loss(build_batch(rows=6, image=False))).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_a_part_alone_is_fused_with_a_learned_token(build_tiny_model: Build, build_batch: Build) -> None:
    model, batch = build_tiny_model(modality_dropout=0.2).eval(), build_batch(rows=5, tokens=7)
    whole = model(batch.input_ids, batch.attention_mask, batch.pixel_values)
    text_only = model(batch.input_ids, batch.attention_mask)
    image_only = model(pixel_values=batch.pixel_values)
    assert torch.equal(text_only.fused_text_logits, whole.fused_text_logits)
    assert torch.equal(image_only.fused_image_logits, whole.fused_image_logits)
    assert text_only.fused_image_logits is None and image_only.fused_text_logits is None
    padded = [torch.nn.functional.pad(field, (0, 3)) for field in (batch.input_ids, batch.attention_mask)]
    torch.testing.assert_close(model(*padded).fused_text_logits, text_only.fused_text_logits, atol=1e-5, rtol=0)
    with torch.no_grad():
        model.absent_image.add_(torch.randn(24))
    assert not torch.allclose(model(batch.input_ids, batch.attention_mask).fused_text_logits, whole.fused_text_logits)
    unchanged = model(batch.input_ids, batch.attention_mask, batch.pixel_values)
    assert torch.equal(unchanged.fused_logits, whole.fused_logits)


def test_without_modality_dropout_there_are_no_tokens(build_tiny_model: Build, build_batch: Build) -> None:
    model, batch = build_tiny_model().eval(), build_batch()
    assert not [name for name in model.state_dict() if name.startswith("absent")]
    assert model(batch.input_ids, batch.attention_mask, batch.pixel_values).fused_text_logits is None
    with pytest.raises(ValueError, match=r"modality_dropout must lie in 0\.\.0\.5, got 0\.6"):
        build_tiny_model(modality_dropout=0.6)


def test_modality_dropout_shares_the_fused_loss_out(build_tiny_model: Build, build_batch: Build) -> None:
    only_fused: dict[str, Any] = {"macl_weight": 0.0, "text_loss_weight": 0.0, "image_loss_weight": 0.0}
    model, batch = build_tiny_model(modality_dropout=0.2, **only_fused).eval(), build_batch(rows=6)
    output = model(batch.input_ids, batch.attention_mask, batch.pixel_values)
    whole, text, image = (
        functional.cross_entropy(logits, batch.labels)
        for logits in (output.fused_logits, output.fused_text_logits, output.fused_image_logits)
    )
    torch.testing.assert_close(model.loss(batch), 0.6 * whole + 0.2 * text + 0.2 * image)
    model.alone_weight = 0.5
    alone = functional.cross_entropy(output.text_logits, batch.labels)
    torch.testing.assert_close(model.loss(build_batch(rows=6, image=False)), alone + 0.5 * text)


def test_a_batch_of_little_weight_counts_for_little(build_tiny_model: Build, build_batch: Build) -> None:
    model, batch = build_tiny_model().eval(), build_batch()
    weighed = batch._replace(weights=torch.full((4,), 0.25))
    torch.testing.assert_close(model.loss(weighed), 0.25 * model.loss(batch))


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
