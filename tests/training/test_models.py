"""What holds for every model of the bench."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed (torch)")
pytest.importorskip("transformers", reason="the train extra is not installed (transformers)")

from transformers import BertConfig, BertModel  # noqa: E402

from training.features import Features  # noqa: E402
from training.models.aau import AB, AE  # noqa: E402
from training.models.baselines import CLIPHead, Pooled, VisualBERT  # noqa: E402
from training.models.clmlf import CLMLF  # noqa: E402
from training.models.mdse_states import MDSEStates  # noqa: E402
from training.models.spp_scl import SPPSCL  # noqa: E402
from training.tuning import Tuned  # noqa: E402

pytestmark = [pytest.mark.train, pytest.mark.timeout(120)]

TEXT, IMAGE, CELLS = 16, 12, 9
WIDTHS = {"text_width": TEXT, "image_width": IMAGE}
SMALL = {**WIDTHS, "width": 24, "heads": 4, "dropout": 0.0}
LATENT = {**WIDTHS, "latent": 32, "hidden": 32, "dropout": 0.0}
BUILD: dict[str, Callable[[str], Any]] = {
    "mdse": lambda behaviour: MDSEStates(**SMALL, head_dropout=0.0, behaviour=behaviour),
    "mdse-no-adaptation": lambda behaviour: MDSEStates(
        **SMALL, head_dropout=0.0, use_adaptation=False, behaviour=behaviour
    ),
    "clmlf": lambda behaviour: CLMLF(**SMALL, fusion_layers=2, image_layers=1, behaviour=behaviour),
    "spp-scl": lambda behaviour: SPPSCL(**WIDTHS, layers=3, dropout=0.0, behaviour=behaviour),
    "spp-scl-no-cmf": lambda behaviour: SPPSCL(**WIDTHS, layers=1, dropout=0.0, use_cmf=False, behaviour=behaviour),
    "ae-cat": lambda behaviour: AE(**LATENT, how="cat", behaviour=behaviour),
    "ae-add": lambda behaviour: AE(**LATENT, how="add", behaviour=behaviour),
    "ab-cat": lambda behaviour: AB(**LATENT, how="cat", behaviour=behaviour),
    "ab-add": lambda behaviour: AB(**LATENT, how="add", behaviour=behaviour),
    "uni-text": lambda _: Pooled(**WIDTHS, modality="text", dropout=0.0),
    "uni-image": lambda _: Pooled(**WIDTHS, modality="image", dropout=0.0),
    "resnet": lambda _: Pooled(**WIDTHS, modality="image", hidden=0, dropout=0.0),
    "concatenation": lambda _: Pooled(**WIDTHS, modality="both", dropout=0.0),
    "clip": lambda _: CLIPHead(width=TEXT, dropout=0.0),
    "visualbert": lambda _: VisualBERT(**SMALL, layers=1),
    "tuned-mdse": lambda behaviour: Tuned(BUILD["mdse"](behaviour), text_layers(2)),
    "tuned-clmlf": lambda behaviour: Tuned(BUILD["clmlf"](behaviour), text_layers(1)),
    "tuned-spp-scl": lambda behaviour: Tuned(BUILD["spp-scl"](behaviour), text_layers(1)),
}
WITH_PAPER = ["mdse", "mdse-no-adaptation", "clmlf", "spp-scl", "ae-cat", "ae-add", "ab-cat", "ab-add"]
EVERY = pytest.mark.parametrize("name", BUILD)


def text_layers(count: int) -> Any:
    """Of a BERT-like encoder."""
    config = BertConfig(
        vocab_size=1, hidden_size=TEXT, num_hidden_layers=count, num_attention_heads=4, intermediate_size=TEXT
    )
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    config._attn_implementation = "eager"
    return BertModel(config, add_pooling_layer=False).encoder.layer


def build(name: str, behaviour: str = "fixed") -> Any:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return BUILD[name](behaviour)


def batch(model: Any, rows: int = 6, tokens: int = 7, seed: int = 0) -> Features:
    generator = torch.Generator().manual_seed(seed)
    layers = () if model.text_layers_needed == 1 else (model.text_layers_needed,)
    width = TEXT if isinstance(model, CLIPHead) else IMAGE

    def text() -> Any:
        return torch.randn(rows, *layers, tokens, TEXT, generator=generator)

    def image() -> Any:
        return torch.randn(rows, CELLS, width, generator=generator)

    mask = torch.ones(rows, tokens, dtype=torch.int64)
    return Features(text(), mask, image(), torch.arange(rows) % 3, text(), mask, image())


def call(model: Any, features: Features) -> Any:
    return model(features.text_states, features.attention_mask, features.image_states)


@EVERY
def test_logits_and_features_have_a_row_a_post(name: str) -> None:
    model = build(name).eval()
    output = call(model, batch(model, rows=5))
    assert output.logits.shape == (5, 3)
    assert output.features.shape[0] == 5 and output.features.ndim == 2


@pytest.mark.parametrize(
    ("name", "behaviour"), [(name, "fixed") for name in BUILD] + [(name, "paper") for name in WITH_PAPER]
)
def test_every_parameter_gets_gradient(name: str, behaviour: str) -> None:
    model = build(name, behaviour).train()
    features = batch(model, rows=9)
    model.loss(features).backward()
    without = {key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    # A softmax does not see what is added to all its scores.
    assert {key for key in without if key not in ("pooling.2.bias",) and not key.endswith("key.bias")} == set()


@EVERY
def test_padding_batch_mates_order_and_size_change_nothing(name: str) -> None:
    model = build(name).eval()
    one, mates = batch(model, rows=1, tokens=5, seed=1), batch(model, rows=6, tokens=11, seed=2)
    mates.text_states[3, ..., :5, :] = one.text_states[0]
    mates.text_states[3, ..., 5:, :] = 7.0
    mates.attention_mask[3, 5:] = 0
    mates.image_states[3] = one.image_states[0]
    order = torch.tensor([3, 5, 0, 1, 4, 2])
    shuffled = Features(*(field[order] for field in mates))
    with torch.inference_mode():
        alone, together, reordered = (call(model, features).logits for features in (one, mates, shuffled))
    torch.testing.assert_close(together[3], alone[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(reordered, together[order], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["spp-scl", "ab-cat", "ab-add"])
def test_paper_attention_depends_on_batch_mates(name: str) -> None:
    model = build(name, "paper").eval()
    mates = batch(model)
    with torch.inference_mode():
        alone = call(model, mates.split(6)[3]).logits[0]
        together = call(model, mates).logits[3]
    assert (alone - together).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["mdse", "spp-scl"])
def test_paper_reads_padding(name: str) -> None:
    model = build(name, "paper").eval()
    short, long = batch(model, rows=1, tokens=9), batch(model, rows=1, tokens=9)
    short.attention_mask[:, 5:] = long.attention_mask[:, 5:] = 0
    long.text_states[..., 5:, :] = 7.0
    with torch.inference_mode():
        assert (call(model, short).logits - call(model, long).logits).abs().max() > 1e-4


@EVERY
def test_overfits_eight_posts(name: str) -> None:
    model = build(name).train()
    features = batch(model, rows=8)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-2 if name in ("clip", "resnet") else 3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        model.loss(features).backward()
        optimizer.step()
    with torch.inference_mode():
        assert torch.equal(call(model, features).logits.argmax(-1), features.labels)


@EVERY
def test_a_saved_model_has_the_same_loss(name: str, tmp_path: Path) -> None:
    model = build(name).eval()
    features = batch(model)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    torch.manual_seed(5)
    other = BUILD[name]("fixed").eval()
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert other.loss(features).item() == model.loss(features).item()


class _Logits(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, text_states: Any, attention_mask: Any, image_states: Any) -> Any:
        return self.model(text_states, attention_mask, image_states).logits


@pytest.mark.parametrize(
    "name", ["mdse", "clmlf", "spp-scl", "ae-cat", "ab-cat", "concatenation", "clip", "visualbert"]
)
def test_onnx_equals_torch_on_an_unseen_batch_size(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="the train extra is not installed (onnxscript)")
    import onnxruntime

    model = build(name).eval()
    example, unseen = batch(model, rows=2), batch(model, rows=5, tokens=13, seed=3)
    unseen.attention_mask[2, 6:] = 0
    rows, tokens = torch.export.Dim("B"), torch.export.Dim("T", min=4, max=512)
    inputs = ("text_states", "attention_mask", "image_states")
    text_axes = {0: rows, 1 if model.text_layers_needed == 1 else 2: tokens}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns about its own internals
        program: Any = torch.onnx.export(
            _Logits(model),
            tuple(example)[:3],
            input_names=list(inputs),
            output_names=["logits"],
            dynamic_shapes=(text_axes, {0: rows, 1: tokens}, {0: rows}),
            opset_version=20,
            dynamo=True,
            verbose=False,
        )
        program.save(tmp_path / "model.onnx", external_data=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    named = {i.name for i in session.get_inputs()}
    feed = {key: value.numpy() for key, value in zip(inputs, unseen, strict=False) if key in named}
    with torch.inference_mode():
        expected = call(model, unseen).logits.numpy()
    np.testing.assert_allclose(session.run(None, feed)[0], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "text", "image"),
    [("mdse", False, True), ("clmlf", True, False), ("spp-scl", False, True), ("ae-cat", True, False)],
)
def test_a_missing_modality_is_named(model: str, text: bool, image: bool) -> None:
    built = build(model)
    features = batch(built)
    with pytest.raises(ValueError, match="this batch has no (text|pictures)"):
        built(features.text_states if text else None, features.attention_mask, features.image_states if image else None)


def test_features_split_all_fields_alike() -> None:
    features = batch(build("clmlf"), rows=5)
    parts = features.split(2)
    assert [len(part.labels) for part in parts] == [3, 2]
    assert torch.equal(torch.cat([part.augmented_image_states for part in parts]), features.augmented_image_states)


def trained_and_served(model: Any, train_only: tuple[str, ...] = ()) -> int:
    return sum(p.numel() for name, p in model.named_parameters() if not name.startswith(train_only))


def test_parameter_counts_at_the_small_presets_widths() -> None:
    widths = {"text_width": 384, "image_width": 1280}
    clmlf = CLMLF(**widths, fusion_layers=3, image_layers=2)
    assert trained_and_served(clmlf, ("projector", "augmented_projector")) == 10_152_580
    assert trained_and_served(SPPSCL(**widths)) == 421_411
    paper = trained_and_served(MDSEStates(**widths, behaviour="paper"))
    assert paper == 4_588_803 + 491_904
    # Two private blocks and a temperature each, and eq. 8 before a narrower classifier; no attention before eq. 2.
    eq_8, narrower = 3 * 384 * 384 + 2 * 384, 384 * 192
    assert trained_and_served(MDSEStates(**widths)) == paper + 2 + eq_8 - narrower
