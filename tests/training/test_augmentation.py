"""Other views of a post: drawn anew each time, the same for the same seed, and still the same post."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed (torch)")

from training.augmentation import (  # noqa: E402
    Augmentation,
    nearest_words,
    read_synonyms,
    read_translations,
    translate_back,
)
from training.decoding import IMAGE_SIZE  # noqa: E402

pytestmark = pytest.mark.train


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(256, 340, 3), dtype=np.uint8)


def test_a_view_of_a_picture_is_a_crop_that_its_seed_repeats() -> None:
    augmentation = Augmentation()
    views = [augmentation.picture(picture(), np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert {view.shape for view in views} == {(IMAGE_SIZE, IMAGE_SIZE, 3)}
    assert views[0].dtype == np.uint8
    assert (views[0] == views[1]).all() and (views[0] != views[2]).any()


def test_augmenting_leaves_the_global_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    Augmentation().picture(picture(), np.random.default_rng(1))
    assert torch.equal(torch.rand(3), expected)


def test_without_any_change_a_view_is_a_plain_crop() -> None:
    plain = Augmentation(randaugment=None, padding=0, flip=0.0, erasing=0.0)
    view = plain.picture(picture(), np.random.default_rng(3))
    rows, columns = 256 - IMAGE_SIZE + 1, 340 - IMAGE_SIZE + 1
    whole = np.lib.stride_tricks.sliding_window_view(picture()[..., 0], (IMAGE_SIZE, IMAGE_SIZE))
    assert (whole == view[..., 0]).all((2, 3)).sum() == 1
    assert whole.shape[:2] == (rows, columns)


def test_words_are_exchanged_for_their_synonyms_and_nothing_else() -> None:
    augmentation = Augmentation(replaced=1.0, synonyms={"good": ["fine"], "tram": ["streetcar"]})
    assert augmentation.text("Good TRAM, goodness #tram!", np.random.default_rng(1)) == (
        "fine streetcar, goodness #streetcar!"
    )
    assert Augmentation(replaced=0.0, synonyms={"good": ["fine"]}).text("good", np.random.default_rng(1)) == "good"


def test_a_translation_there_and_back_comes_first(tmp_path: Path) -> None:
    path = tmp_path / "back.jsonl"
    translate_back(
        ["good tram", "late again"],
        path,
        there=lambda texts: [text[::-1] for text in texts],
        back=lambda texts: [f"{text[::-1]}, translated" for text in texts],
    )
    augmentation = Augmentation(replaced=1.0, synonyms={"good": ["fine"]}, translations=read_translations(path))
    generator = np.random.default_rng(1)
    assert augmentation.text("good tram", generator) == "good tram, translated"
    assert augmentation.text("good bus", generator) == "fine bus"


@pytest.mark.parametrize("line", ["{", '{"text": "a"}', "[]"])
def test_a_bad_line_of_translations_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "back.jsonl"
    path.write_text('{"text": "a", "back": "b"}\n' + line)
    with pytest.raises(ValueError, match="line 2"):
        read_translations(path)


def test_synonyms_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "synonyms.tsv"
    path.write_text("Good\tfine\tgreat\nbad\tpoor\n")
    assert read_synonyms(path) == {"good": ["fine", "great"], "bad": ["poor"]}
    path.write_text("good\tfine\nbad\n")
    with pytest.raises(ValueError, match="line 2"):
        read_synonyms(path)


def test_synonyms_for_want_of_a_thesaurus_are_the_nearest_words() -> None:
    vocabulary = {"good": 0, "fine": 1, "tram": 2, "##ing": 3, "ok": 4}
    embeddings = torch.tensor([[1.0, 0.1], [1.0, 0.0], [0.0, 1.0], [1.0, 0.05], [1.0, 0.05]])
    assert nearest_words(vocabulary, embeddings, neighbours=2) == {"good": ["fine"], "fine": ["good"]}
