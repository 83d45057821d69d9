"""States of frozen encoders on disk: the same as computed afresh, in views that augmentation made."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed (torch)")

from tests.training.test_datasets import picture  # noqa: E402
from training.augmentation import Augmentation  # noqa: E402
from training.datasets.example import Example  # noqa: E402
from training.feature_cache import FeatureCache, FrozenEncoders, feature_cache  # noqa: E402

pytestmark = pytest.mark.train
WIDTH = 6


class Encoders:
    """Counts what it is asked; the states of a word piece are its number in every layer, plus the layer's."""

    def __init__(self) -> None:
        self.texts = self.pictures = 0

    def frozen(self) -> FrozenEncoders:
        return FrozenEncoders("made up", lambda text: [len(word) for word in text.split()], self.layers, self.image)  # type: ignore[arg-type]

    def layers(self, input_ids: Any, attention_mask: Any) -> Any:
        self.texts += len(input_ids)
        layers = torch.arange(7)[:, None, None, None]
        return (input_ids[None, ..., None] + 100 * layers).expand(-1, -1, -1, WIDTH).float()

    def image(self, pixel_values: Any) -> Any:
        self.pictures += len(pixel_values)
        return pixel_values[:, :, ::56, ::56].flatten(2).transpose(1, 2)  # (B, 16, 3)


def posts() -> list[Example]:
    texts = ("a tram", "late", "a very late tram again")
    return [Example(str(n), text, picture((60 * n, 90, 30)), n) for n, text in enumerate(texts)]


def made(folder: Path, encoders: Encoders, *, views: int = 3, grid: int | None = None) -> FeatureCache:
    augmentation = Augmentation(replaced=1.0, synonyms={"tram": ["streetcar"]})
    return feature_cache(encoders.frozen(), posts(), views=views, augmentation=augmentation, folder=folder, grid=grid)


def test_a_post_as_it_is_has_the_states_of_its_own_word_pieces_and_picture(tmp_path: Path) -> None:
    batch = made(tmp_path, Encoders()).batch(posts()[::-1])
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 0, 0, 0]]
    assert batch.text_states[..., 0].tolist() == [[601, 604, 604, 604, 605], [604, 0, 0, 0, 0], [601, 604, 0, 0, 0]]
    assert batch.image_states.shape == (3, 16, 3)
    assert batch.labels.tolist() == [2, 1, 0]
    assert batch.augmented_text_states is None


def test_several_layers_come_earliest_first(tmp_path: Path) -> None:
    batch = made(tmp_path, Encoders()).batch(posts()[:1], layers=3)
    assert batch.text_states.shape == (1, 3, 2, WIDTH)
    assert batch.text_states[0, :, 0, 0].tolist() == [401, 501, 601]


def test_an_augmented_view_has_other_words_and_another_picture(tmp_path: Path) -> None:
    cache = made(tmp_path, Encoders())
    batch = cache.batch(posts()[:1], np.random.default_rng(1), with_augmented=True)
    assert batch.text_states[0, :, 0].tolist() == [601, 604]
    assert batch.augmented_text_states[0, :, 0].tolist() == [601, 609]  # "streetcar"
    assert not torch.equal(batch.augmented_image_states, cache.batch(posts()[:1]).image_states)


def test_views_are_drawn_by_the_generator_alone(tmp_path: Path) -> None:
    cache = made(tmp_path, Encoders(), views=4)
    drawn = [cache.batch(posts(), np.random.default_rng(seed)).image_states for seed in (1, 1, 2, 3, 4)]
    assert torch.equal(drawn[0], drawn[1])
    assert any(not torch.equal(drawn[0], other) for other in drawn[2:])
    plain = cache.batch(posts(), np.random.default_rng(1), with_views=False).image_states
    assert torch.equal(plain, cache.batch(posts()).image_states)


def test_the_states_are_made_once_and_anew_when_anything_changes(tmp_path: Path) -> None:
    encoders = Encoders()
    first = made(tmp_path, encoders)
    asked = (encoders.texts, encoders.pictures)
    assert asked == (9, 9)
    again = made(tmp_path, encoders)
    assert (encoders.texts, encoders.pictures) == asked
    assert torch.equal(first.batch(posts()).text_states, again.batch(posts()).text_states)
    made(tmp_path, encoders, views=2)
    assert (encoders.texts, encoders.pictures) == (15, 15)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_coarser_grid_is_the_average_of_its_cells(tmp_path: Path) -> None:
    whole = made(tmp_path, Encoders()).batch(posts()).image_states
    encoders = Encoders()
    coarse = made(tmp_path, encoders, grid=2)
    assert encoders.pictures == 0  # made of what is kept
    quadrants = whole.reshape(3, 2, 2, 2, 2, 3).mean((2, 4)).reshape(3, 4, 3)
    torch.testing.assert_close(coarse.batch(posts()).image_states, quadrants, atol=2e-3, rtol=0.0)
    with pytest.raises(ValueError, match="16 cells of a picture cannot be averaged to 5 x 5"):
        made(tmp_path, Encoders(), grid=5)


def test_one_vector_a_text_and_a_picture_stay_one(tmp_path: Path) -> None:
    encoders = Encoders()

    def vector(input_ids: Any, attention_mask: Any) -> Any:
        return encoders.layers(input_ids, attention_mask)[-1:, :, :1]

    def picture_vector(pixel_values: Any) -> Any:
        return encoders.image(pixel_values)[:, :1]

    frozen = replace(encoders.frozen(), text_layers=vector, encode_image=picture_vector, one_vector=True)  # type: ignore[arg-type]
    cache = feature_cache(frozen, posts(), views=2, augmentation=Augmentation(), folder=tmp_path, grid=4)
    batch = cache.batch(posts())
    assert batch.attention_mask.tolist() == [[1], [1], [1]]
    assert batch.text_states[..., 0].tolist() == [[601], [604], [601]]
    assert batch.image_states.shape == (3, 1, 3)
