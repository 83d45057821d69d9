import numpy as np
import pytest

pytest.importorskip("torch", reason="the train extra is not installed (torch)")

from training.datasets.example import Example  # noqa: E402
from training.mix import Ingredient, mixed_batches  # noqa: E402

pytestmark = pytest.mark.train


def posts(name: str, count: int) -> list[Example]:
    return [Example(f"{name}{n}", name, None, 0) for n in range(count)]


def test_an_epoch_holds_so_many_of_each_corpus_in_batches_of_its_own_weight() -> None:
    mix = [Ingredient(posts("whole", 20)), Ingredient(posts("meme", 50), per_epoch=12, weight=0.3), Ingredient([])]
    drawn = []
    for seed in (1, 2):
        generator = np.random.default_rng(seed)
        batches = mixed_batches(mix, batch_size=8, generator=generator, length=lambda example: 1)
        assert {(example.text, weight) for batch, weight in batches for example in batch} == {
            ("whole", 1.0),
            ("meme", 0.3),
        }
        assert all(len({example.text for example in batch}) == 1 for batch, _ in batches)
        ids = [example.id for batch, _ in batches for example in batch]
        assert len(ids) == len(set(ids)) == 32
        drawn.append({id for id in ids if id.startswith("meme")})
    assert len(drawn[0]) == 12 and drawn[0] != drawn[1]
