"""On graphs of a tiny model: what its pictures are worth to it."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed (torch)")
from PIL import Image  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402
from tokenizers.models import WordPiece  # noqa: E402
from tokenizers.pre_tokenizers import Whitespace  # noqa: E402

from training.batches import Collator  # noqa: E402
from training.datasets.example import Example  # noqa: E402
from training.decoding import IMAGE_SIZE  # noqa: E402
from training.evaluate import ExportedModel  # noqa: E402
from training.graphs import WEIGHTS_FILE, encode_weights, export_graphs  # noqa: E402
from training.pictures import derangement, fused_logits, without_their_pictures  # noqa: E402

pytestmark = [pytest.mark.train, pytest.mark.slow, pytest.mark.timeout(300)]


class Centred(ExportedModel):
    """Its fused logits are shifted, so that posts that differ are not all read as one class."""

    shift: Any = 0.0

    def fuse(self, *features: Any) -> Any:
        found = super().fuse(*features)
        return found | {"both": found["both"] - self.shift}


@pytest.fixture(scope="module")
def tiny(build_tiny_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Centred:
    folder, model = tmp_path_factory.mktemp("tiny"), build_tiny_model()
    model.image_encoder.network.conv = torch.nn.Conv2d(3, 12, 32, stride=32)  # 7 x 7 cells of a picture in full size
    weights = export_graphs(model, image_size=IMAGE_SIZE, folder=folder)
    save_file(encode_weights(weights), folder / WEIGHTS_FILE)
    words = {word: number for number, word in enumerate(("[PAD]", "[UNK]", "good", "bad", "day"))}
    tokenizer = Tokenizer(WordPiece(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return Centred(folder)


def picture(color: tuple[int, int, int]) -> bytes:
    encoded = io.BytesIO()
    Image.new("RGB", (IMAGE_SIZE, IMAGE_SIZE), color).save(encoded, "PNG")
    return encoded.getvalue()


def posts(model: Centred, colors: list[tuple[int, int, int]]) -> list[Example]:
    """Posts with one text among them, each labelled as the model reads it: all that tells them apart is the picture."""
    unlabelled = [Example(str(n), "good bad day", picture(color), 0) for n, color in enumerate(colors)]
    model.collator = Collator(model.collator._tokenizer)  # it keeps pictures by id
    model.shift = 0.0
    model.shift = model.logits(unlabelled)["both"].mean(0)
    read = model.logits(unlabelled)["both"].argmax(-1)
    return [Example(one.id, one.text, one.image, int(label)) for one, label in zip(unlabelled, read, strict=True)]


def test_nothing_stays_in_its_place() -> None:
    for rows in (2, 3, 450):
        order = derangement(rows, np.random.default_rng(0))
        assert sorted(order) == list(range(rows))
        assert not (order == np.arange(rows)).any()


def test_one_post_has_nobody_to_swap_with() -> None:
    with pytest.raises(ValueError, match="1 posts cannot have each other's pictures: give two or more"):
        derangement(1, np.random.default_rng(0))


def test_pictures_are_swapped_and_texts_are_not(tiny: Centred) -> None:
    texts = ("good day", "bad bad bad day", "day")
    examples = [
        Example(str(n), text, picture(color), 0)
        for n, (text, color) in enumerate(zip(texts, [(255, 0, 0), (0, 255, 0), (0, 0, 255)], strict=True))
    ]
    order = np.array([1, 2, 0])
    own, swapped, grey = fused_logits(tiny, examples, [np.arange(3), order])
    by_hand = [Example(f"s{n}", texts[n], examples[order[n]].image, 0) for n in range(3)]
    np.testing.assert_allclose(own, tiny.logits(examples)["both"], atol=1e-5)
    np.testing.assert_allclose(swapped, tiny.logits(by_hand)["both"], atol=1e-5)
    assert np.abs(grey - own).max() > 1e-4


def test_a_model_that_reads_nothing_but_pictures_loses_all_of_what_they_tell(tiny: Centred) -> None:
    generator = np.random.default_rng(0)
    examples = posts(tiny, [tuple(int(c) for c in generator.integers(0, 256, 3)) for _ in range(24)])
    labels = [example.label for example in examples]
    assert len(set(labels)) > 1
    found = without_their_pictures(tiny, examples)
    shares = np.bincount(labels, minlength=3) / len(labels)
    assert found["own"]["accuracy"] == 1.0
    assert found["shuffled"]["accuracy"] == pytest.approx((shares**2).sum(), abs=0.25)
    assert found["shuffling_costs"]["accuracy"] == pytest.approx(1 - found["shuffled"]["accuracy"])
    assert found["blank"]["accuracy"] in [pytest.approx(share) for share in shares]


def test_pictures_that_are_all_the_same_are_worth_nothing(tiny: Centred) -> None:
    tiny.shift = 0.0
    found = without_their_pictures(tiny, [Example(f"same {n}", "good", picture((200, 30, 30)), 0) for n in range(6)])
    assert found["shuffling_costs"] == {"accuracy": 0.0, "interval": (0.0, 0.0)}
